package consul

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// Intention is one rule of Consul's about who may call a service.
type Intention struct {
	// Partition, Namespace and Source name the caller; * stands for all. Empty
	// partition and namespace are the default ones.
	Partition, Namespace, Source string
	// Peer and Group, where set, place the caller in another cluster or in a group of
	// such.
	Peer, Group string
	Destination string
	Allow       bool
	// Permissions and JWT ask for more than who the caller is: for a look at the
	// request.
	Permissions, JWT bool
	Precedence       int
}

// DefaultPolicy says what holds for a caller that no intention names.
type DefaultPolicy uint8

// The policies.
const (
	// DefaultUnknown: an intention for all namespaces hides it, and leaves nothing to it.
	DefaultUnknown DefaultPolicy = iota
	DefaultAllow
	DefaultDeny
)

// String returns unknown, allow or deny.
func (d DefaultPolicy) String() string { return [...]string{"unknown", "allow", "deny"}[d] }

// Intentions are all that concern one destination at one moment.
type Intentions struct {
	// List is in the order of evaluation: the first that matches decides.
	List    []Intention
	Default DefaultPolicy
	// Index is Consul's version of the answer.
	Index uint64
}

func (a Intentions) equal(b Intentions) bool {
	return a.Default == b.Default && slices.Equal(a.List, b.List)
}

// intentionNeeds is the permission to see the intentions of a service, and to ask
// what holds by default.
const intentionNeeds = "intentions:read and service:write for the destination; service:write alone brings both"

var errFiltered = errors.New("answered with intentions hidden by ACLs: the token needs " + intentionNeeds)

// WatchIntentions calls out with the intentions for a destination now and at each
// change, and fail with each error, until ctx ends. Both are called from one
// goroutine. It returns ctx's error, or one for a name that no service can have.
//
// A change is passed on at once, unless Consul seems to have lost its data: an empty
// answer after an index that went backwards, or after Consul was out of reach, must
// stay empty for confirmReset, and what was known holds meanwhile.
func (c *Client) WatchIntentions(ctx context.Context, service string, out func(Intentions), fail func(error)) error {
	if service == "" || strings.ContainsAny(service, "/*") {
		return fmt.Errorf("consul: %q cannot be the name of a service", service)
	}
	s := &intentions{client: c, service: service, out: out, report: fail}
	w := watch[Intentions]{
		client: c, what: s.what(), needs: intentionNeeds,
		query: s.query, take: s.take, fail: s.fail,
	}
	return w.run(ctx)
}

// intentions watches those for one destination; its state is owned by the watch.
type intentions struct {
	client  *Client
	service string
	out     func(Intentions)
	report  func(error)

	guard    guard
	fallback DefaultPolicy // as learnt since the last failure
	sent     Intentions
	known    bool // sent is one
	failing  bool // what was told last is an error
}

func (s *intentions) what() string { return fmt.Sprintf("watch intentions for service %q", s.service) }

// wireIntention is an intention as the API shows it; the library leaves JWT out.
type wireIntention struct {
	api.Intention
	JWT json.RawMessage
}

// query asks the agent once, and for the default policy where that is not known.
func (s *intentions) query(q *api.QueryOptions) (Intentions, *api.QueryMeta, error) {
	var all map[string][]*wireIntention
	params := url.Values{"by": {"destination"}, "name": {s.service}}
	meta, err := s.client.api.Raw().Query("/v1/connect/intentions/match", &all, q.WithContext(withParams(q.Context(), params)))
	if err != nil {
		return Intentions{}, nil, err
	}
	list, asked := all[s.service]
	switch {
	case !asked:
		return Intentions{}, nil, fmt.Errorf("answered without the service %q", s.service)
	case meta.ResultsFilteredByACLs:
		return Intentions{}, nil, errFiltered
	}
	got := Intentions{Index: meta.LastIndex}
	for _, w := range list {
		if w != nil {
			got.List = append(got.List, w.intention())
		}
	}
	if s.fallback == DefaultUnknown {
		s.fallback, err = s.client.defaultPolicy(q.Context(), s.service)
	}
	got.Default = s.fallback
	return got, meta, err
}

func (w *wireIntention) intention() Intention {
	return Intention{
		Partition: w.SourcePartition, Namespace: w.SourceNS, Source: w.SourceName,
		Peer: w.SourcePeer, Group: w.SourceSamenessGroup, Destination: w.DestinationName,
		Allow: w.Action == api.IntentionActionAllow, Precedence: w.Precedence,
		Permissions: len(w.Permissions) > 0, JWT: len(w.JWT) > 0 && string(w.JWT) != "null",
	}
}

// take passes an answer on when it is news.
func (s *intentions) take(a answer[Intentions]) next {
	v := s.guard.judge(time.Now(), len(a.value.List) == 0, a.wentBack, a.confirmed)
	if v.err != nil {
		s.failing = true
		s.report(s.client.explain(s.what(), intentionNeeds, v.err))
		return v.next
	}
	if !v.deliver { // empty, and nothing speaks against it
		s.guard = guard{}
	}
	if !s.known || s.failing || !s.sent.equal(a.value) {
		s.sent, s.known, s.failing = a.value, true, false
		s.out(a.value)
	}
	return next{}
}

// fail passes an error on. The agent may come back with another default.
func (s *intentions) fail(err error) {
	s.guard.failed()
	s.failing, s.fallback = true, DefaultUnknown
	s.report(err)
}
