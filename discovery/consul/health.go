package consul

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/larboard-proxy/larboard/discovery"
)

// Health names the instances of a service to find. Service is required.
type Health struct {
	Service string
	// Connect asks for the instances' sidecar proxies (and natively capable
	// instances) instead of the instances.
	Connect bool
	// Tags must all be present.
	Tags []string
	// Datacenter, Namespace and Partition override those of the client.
	Datacenter, Namespace, Partition string
	// Filter is an expression of Consul's filter language, evaluated by Consul.
	Filter string
	// Warning includes instances with a check in the warning state, at their warning
	// weight. Critical ones and those in maintenance never are.
	Warning bool
	// OnEmpty guards against losing every endpoint at once.
	OnEmpty OnEmpty
}

// Spec returns what a discovery.Set needs to find the service of h. The key covers
// the settings of both client and h.
func (c *Client) Spec(h Health) discovery.Spec {
	from := "consul"
	if dc := firstOf(h.Datacenter, c.options.Datacenter); dc != "" {
		from += ":" + dc
	}
	return discovery.Spec{
		Key:  fmt.Sprintf("consul %s %q %v %q %q %q %q %q %v %v", c.key(), h.Service, h.Connect, h.Tags, h.Datacenter, h.Namespace, h.Partition, h.Filter, h.Warning, h.OnEmpty),
		From: from,
		New:  func() discovery.Source { return c.Source(h) },
	}
}

// Source returns a source for the endpoints of h. It sends a set when it differs
// from the one before or ends a failure. An answer that an ACL has emptied is a
// failure, not an empty set.
func (c *Client) Source(h Health) discovery.Source {
	h.Tags = slices.Clone(h.Tags)
	return &health{client: c, want: h}
}

// health watches one service; its state is owned by Run.
type health struct {
	client *Client
	want   Health
	out    func(discovery.Update)

	guard   guard
	sent    []discovery.Endpoint
	known   bool // sent is a set
	failing bool // the last update was an error
	warned  bool // the anonymous empty answer has been mentioned
}

// Run implements discovery.Source. It returns ctx's error, or one for a name that no
// service can have.
func (s *health) Run(ctx context.Context, out func(discovery.Update)) error {
	if s.want.Service == "" || strings.Contains(s.want.Service, "/") {
		return fmt.Errorf("consul: %q cannot be the name of a service", s.want.Service)
	}
	s.out = out
	s.guard = guard{mode: s.want.OnEmpty}
	w := watch[[]*api.ServiceEntry]{
		client:     s.client,
		what:       s.what(),
		needs:      readNeeds,
		datacenter: s.want.Datacenter,
		query:      s.query,
		take:       s.take,
		fail:       s.fail,
	}
	return w.run(ctx)
}

func (s *health) what() string {
	what := fmt.Sprintf("watch service %q", s.want.Service)
	if s.want.Connect {
		what = fmt.Sprintf("watch proxies of service %q", s.want.Service)
	}
	if dc := firstOf(s.want.Datacenter, s.client.options.Datacenter); dc != "" {
		what += " in " + dc
	}
	return what
}

// query asks the agent once.
func (s *health) query(q *api.QueryOptions) ([]*api.ServiceEntry, *api.QueryMeta, error) {
	q.Datacenter = firstOf(s.want.Datacenter, q.Datacenter)
	q.Namespace = firstOf(s.want.Namespace, q.Namespace)
	q.Partition = firstOf(s.want.Partition, q.Partition)
	q.Filter = s.want.Filter
	ask := s.client.api.Health().ServiceMultipleTags
	if s.want.Connect {
		ask = s.client.api.Health().ConnectMultipleTags
	}
	return ask(s.want.Service, s.want.Tags, !s.want.Warning, q)
}

// take decides what becomes of an answer.
func (s *health) take(a answer[[]*api.ServiceEntry]) next {
	endpoints, problems := s.endpoints(a.value)
	empty := len(endpoints) == 0
	if empty && a.filtered {
		s.fail(s.client.explain(s.what(), readNeeds, errors.New("every instance is hidden by ACLs: the token needs "+readNeeds)))
		return next{}
	}
	s.mentionAnonymous(empty && a.denies)
	v := s.guard.judge(time.Now(), empty, a.wentBack, a.confirmed)
	switch {
	case v.deliver:
		s.send(endpoints, a.index, problems)
	case v.err != nil:
		s.report(s.client.explain(s.what(), readNeeds, v.err))
	}
	return v.next
}

// send passes a set on when it is news.
func (s *health) send(endpoints []discovery.Endpoint, index uint64, problems []error) {
	if s.known && !s.failing && discovery.Equal(s.sent, endpoints) {
		return
	}
	for _, problem := range problems {
		s.client.log.Warn("consul registration not usable as it is", "service", s.want.Service, "error", problem)
	}
	s.sent, s.known, s.failing = endpoints, true, false
	s.out(discovery.Update{Service: s.want.Service, Endpoints: endpoints, Index: index, At: time.Now()})
}

// fail passes an error on; the watch calls it for each query that failed.
func (s *health) fail(err error) {
	s.guard.failed()
	s.report(err)
}

func (s *health) report(err error) {
	s.failing = true
	s.out(discovery.Update{Service: s.want.Service, At: time.Now(), Err: err})
}

// mentionAnonymous says once why a service may seem to have no instance: Consul
// does not tell requests without a token that it kept something back.
func (s *health) mentionAnonymous(suspicious bool) {
	o := s.client.options
	if suspicious && !s.warned && o.Token == "" && o.TokenFile == "" {
		s.warned = true
		s.client.log.Warn("consul shows no instance, it denies by default and no token is configured", "service", s.want.Service)
	}
}

// firstOf returns a, or b where a is empty.
func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
