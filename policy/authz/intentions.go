package authz

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Intention is one rule of Consul's: whether a source may call a destination.
type Intention struct {
	// Partition, Namespace and Name are the source; * stands for all of them. An empty
	// partition is the default one.
	Partition, Namespace, Name string
	// Peer and Group place the source outside of our own Consul.
	Peer, Group string
	// Destination is for texts only: who asks has chosen the intentions by it.
	Destination string
	Allow       bool
	// Request says what the intention asks of each request ("permissions", "a JWT"). Who
	// decides by the caller alone denies then, as Consul's own authorize does with
	// permissions.
	Request    string
	Precedence int
}

// Default is what holds where no intention matches.
type Default uint8

// The defaults; only DefaultAllow allows.
const (
	DefaultUnknown Default = iota
	DefaultAllow
	DefaultDeny
)

// Intentions decide on callers of one destination as Consul does: the first
// intention whose source matches. They are immutable, and safe for use by all loops.
// Nil, for those that are not known yet, denies.
type Intentions struct {
	byDefault Default
	fallback  string
	rules     []decision
	exact     map[source]int // the first rule of a source without star
	wild      []int          // rules with a star, in order
}

type source struct{ partition, namespace, name string }

type decision struct {
	source source
	allow  bool
	text   string
}

// NewIntentions takes the intentions in Consul's order of evaluation.
func NewIntentions(list []Intention, d Default) *Intentions {
	n := &Intentions{byDefault: d, exact: map[source]int{}, fallback: defaultText(d)}
	for _, i := range list {
		if i.Peer != "" {
			continue // its callers have IDs of the peer's trust domain, which is not ours
		}
		s := source{defaulted(i.Partition), defaulted(i.Namespace), i.Name}
		at := len(n.rules)
		n.rules = append(n.rules, decision{source: s, allow: i.Allow && i.Request == "" && i.Group == "", text: i.text()})
		if s.namespace == "*" || s.name == "*" {
			n.wild = append(n.wild, at)
		} else if _, ok := n.exact[s]; !ok {
			n.exact[s] = at
		}
	}
	return n
}

func defaultText(d Default) string {
	switch d {
	case DefaultAllow:
		return "default allow: no intention names the caller"
	case DefaultDeny:
		return "default deny: no intention names the caller"
	}
	return "default deny: no intention names the caller, and Consul did not tell its default"
}

// text is what log and explanation say of a decision by i.
func (i Intention) text() string {
	action := "deny"
	if i.Allow {
		action = "allow"
	}
	from := i.Name
	if i.Namespace != "" && i.Namespace != "default" {
		from = i.Namespace + "/" + from
	}
	if i.Partition != "" && i.Partition != "default" {
		from = i.Partition + "/" + from
	}
	switch {
	case i.Group != "":
		return fmt.Sprintf("intention for sameness group %s, %s => %s (precedence %d), denied: groups are not supported", i.Group, from, i.Destination, i.Precedence)
	case i.Request != "":
		return fmt.Sprintf("intention %s => %s (precedence %d) asks for %s, denied: only the caller is looked at here, not the request", from, i.Destination, i.Precedence, i.Request)
	}
	return fmt.Sprintf("intention %s => %s, %s (precedence %d)", from, i.Destination, action, i.Precedence)
}

const (
	intentionsUnknown = "default deny: Consul has not told the intentions yet"
	foreignDomain     = "default deny: foreign trust domain, which intentions do not speak of"
	noService         = "default deny: the caller's ID is not one of a service in Consul"
)

// Allow decides on a caller whose identity has been verified, where own is our own
// trust domain: a name in another one says nothing to our Consul. Called on a loop;
// it neither blocks nor allocates.
func (n *Intentions) Allow(id spiffeid.ID, own spiffeid.TrustDomain) Verdict {
	switch {
	case n == nil:
		return deny(policy.IntentionsUnknown, intentionsUnknown)
	case id.IsZero():
		return deny(policy.TLSNoID, "default deny: no identity")
	case id.TrustDomain() != own:
		return deny(policy.IntentionDenied, foreignDomain)
	}
	s, ok := sourceOf(id.Path())
	if !ok {
		return deny(policy.IntentionDenied, noService)
	}
	at := n.find(s)
	switch {
	case at < 0 && n.byDefault == DefaultAllow:
		return allow(id, n.fallback)
	case at < 0:
		return deny(policy.IntentionDenied, n.fallback)
	case n.rules[at].allow:
		return allow(id, n.rules[at].text)
	}
	return deny(policy.IntentionDenied, n.rules[at].text)
}

// find returns the first rule that matches, or -1.
func (n *Intentions) find(s source) int {
	best, ok := n.exact[s]
	if !ok {
		best = -1
	}
	for _, i := range n.wild {
		if best >= 0 && i > best {
			break
		}
		w := &n.rules[i].source
		if w.partition == s.partition && (w.namespace == "*" || w.namespace == s.namespace) && (w.name == "*" || w.name == s.name) {
			return i
		}
	}
	return best
}

// sourceOf reads [/ap/<partition>]/ns/<namespace>/dc/<datacenter>/svc/<service>, the
// path of a service's SPIFFE ID in Consul. Agents and gateways have others.
func sourceOf(path string) (s source, ok bool) {
	s.partition = "default"
	if rest, has := strings.CutPrefix(path, "/ap/"); has {
		if s.partition, path, ok = segment(rest); !ok {
			return s, false
		}
	}
	rest, has := strings.CutPrefix(path, "/ns/")
	if !has {
		return s, false
	}
	if s.namespace, rest, ok = segment(rest); !ok {
		return s, false
	}
	if rest, has = strings.CutPrefix(rest, "/dc/"); !has {
		return s, false
	}
	if _, rest, ok = segment(rest); !ok {
		return s, false
	}
	s.name, has = strings.CutPrefix(rest, "/svc/")
	return s, has && s.name != "" && !strings.Contains(s.name, "/")
}

// segment cuts path before its next slash, which must be there.
func segment(path string) (first, rest string, ok bool) {
	i := strings.IndexByte(path, '/')
	if i <= 0 {
		return "", "", false
	}
	return path[:i], path[i:], true
}

func defaulted(name string) string { return cmp.Or(name, "default") }
