package sidecar

import (
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/discovery/consul"
	"github.com/larboard-proxy/larboard/sidecar/admin"
	"github.com/larboard-proxy/larboard/sidecar/identity"
)

// intentionsViews shows what Consul says about callers, and of one caller in
// particular where one is given.
func (s *Sidecar) intentionsViews(caller string) []admin.IntentionsView {
	var all []admin.IntentionsView
	for _, w := range s.intentions.all() {
		v := w.view()
		if caller != "" {
			v.Verdict = s.verdict(w, caller)
		}
		all = append(all, v)
	}
	return all
}

func (w *watchedIntentions) view() admin.IntentionsView {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := admin.IntentionsView{
		Destination: w.destination, Known: !w.at.IsZero(), Default: w.last.Default.String(), Index: w.last.Index, ChangedAt: w.at,
	}
	if w.err != nil {
		v.Error, v.ErrorSince = w.err.Error(), w.errSince
	}
	for _, i := range w.last.List {
		v.Intentions = append(v.Intentions, intentionView(i))
	}
	return v
}

func intentionView(i consul.Intention) admin.IntentionView {
	v := admin.IntentionView{Source: i.Source, Action: "deny", Precedence: i.Precedence, Requires: requires(i)}
	if i.Allow {
		v.Action = "allow"
	}
	if i.Namespace != "" && i.Namespace != "default" {
		v.Source = i.Namespace + "/" + v.Source
	}
	if i.Peer != "" {
		v.Source += " of peer " + i.Peer
	}
	return v
}

// verdict is what the listeners that ask w decide about a caller.
func (s *Sidecar) verdict(w *watchedIntentions, caller string) *admin.VerdictView {
	v := &admin.VerdictView{Caller: caller}
	id, err := spiffeid.FromString(caller)
	if err != nil {
		v.Rule = err.Error()
		return v
	}
	snap := s.identityFor(w.destination)
	if snap == nil {
		v.Rule = "this proxy has no identity yet"
		return v
	}
	decided := w.compiled.Load().Allow(id, snap.ID().TrustDomain())
	v.Allowed, v.Rule = decided.Allowed(), decided.Rule()
	return v
}

// identityFor is the one as which the listeners for a destination are called; nil: none
// has come yet.
func (s *Sidecar) identityFor(destination string) *identity.Snapshot {
	c := s.current()
	for i := range c.Listeners {
		if l := &c.Listeners[i]; l.Intentions != nil && l.Intentions.Service == destination {
			return s.identities.byName()[l.TLS.SPIFFE.Identity].Snapshot()
		}
	}
	return nil
}
