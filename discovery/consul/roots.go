package consul

import (
	"context"
	"errors"

	"github.com/hashicorp/consul/api"
)

// Roots are the authorities of Connect. While Consul replaces its authority, those
// that sign no more are among them as long as certificates of theirs may live.
type Roots struct {
	// TrustDomain is the part of every SPIFFE ID of this Consul after spiffe://.
	TrustDomain string
	// PEM holds one certificate each.
	PEM []string
}

var errNoRoots = errors.New("answered without an authority: is Connect enabled?")

// WatchRoots calls out with each answer, which need not bring anything new, and fail
// with each error, until ctx ends, whose error it returns. Both are called from one
// goroutine.
func (c *Client) WatchRoots(ctx context.Context, out func(Roots), fail func(error)) error {
	const what = "watch connect roots"
	w := watch[*api.CARootList]{
		client: c, what: what, needs: "nothing", fail: fail,
		query: func(q *api.QueryOptions) (*api.CARootList, *api.QueryMeta, error) {
			q.Datacenter = "" // the agent's own
			return c.api.Agent().ConnectCARoots(q)
		},
		take: func(a answer[*api.CARootList]) next {
			if a.value == nil || a.value.TrustDomain == "" || len(a.value.Roots) == 0 {
				fail(c.explain(what, "nothing", errNoRoots))
				return next{}
			}
			out(rootsOf(a.value))
			return next{}
		},
	}
	return w.run(ctx)
}

func rootsOf(list *api.CARootList) Roots {
	r := Roots{TrustDomain: list.TrustDomain}
	for _, root := range list.Roots {
		if root != nil {
			r.PEM = append(r.PEM, root.RootCertPEM)
		}
	}
	return r
}
