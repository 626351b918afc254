package consul

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/hashicorp/consul/api"
)

// Key is a private key in PEM. It must not be printed: fmt, slog and the encoders of
// the standard library show a placeholder.
type Key string

// String returns the placeholder.
func (Key) String() string { return "[redacted]" }

// GoString is String.
func (k Key) GoString() string { return k.String() }

// LogValue is String.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText is String; encoding/json uses it too.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Leaf is the certificate of a service that Consul's Connect has issued.
type Leaf struct {
	// PEM is the chain, leaf first; while the authority is replaced it holds the new
	// one signed by the old.
	PEM string
	Key Key
}

// leafNeeds is the permission to act as a service.
const leafNeeds = "service:write for the service whose certificate it is"

// WatchLeaf calls out with each answer about the certificate of a service, which need
// not bring anything new, and fail with each error, until ctx ends. Both are called from
// one goroutine. It returns ctx's error, or one for a name that no service can have.
//
// The agent makes the key and renews the certificate by itself, at a time of its
// choice between 60 and 90 % of its life, as long as somebody asks.
func (c *Client) WatchLeaf(ctx context.Context, service string, out func(Leaf), fail func(error)) error {
	if service == "" || strings.Contains(service, "/") {
		return fmt.Errorf("consul: %q cannot be the name of a service", service)
	}
	what := fmt.Sprintf("watch certificate of service %q", service)
	w := watch[*api.LeafCert]{
		client: c, what: what, needs: leafNeeds, fail: fail,
		query: func(q *api.QueryOptions) (*api.LeafCert, *api.QueryMeta, error) {
			q.Datacenter = "" // the agent's own: no other can sign
			return c.api.Agent().ConnectCALeaf(service, q)
		},
		take: func(a answer[*api.LeafCert]) next {
			if a.value == nil || a.value.CertPEM == "" || a.value.PrivateKeyPEM == "" {
				fail(c.explain(what, leafNeeds, errors.New("answered without certificate or key")))
				return next{}
			}
			out(Leaf{PEM: a.value.CertPEM, Key: Key(a.value.PrivateKeyPEM)})
			return next{}
		},
	}
	return w.run(ctx)
}
