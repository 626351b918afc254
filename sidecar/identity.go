package sidecar

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/larboard-proxy/larboard/sidecar/admin"
	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/identity"
)

// ownIdentity is one of our identities and what feeds it.
type ownIdentity struct {
	name    string // in the configuration; "": its `identity`
	current *identity.Current
	source  identity.Source
	log     *slog.Logger // names it
}

// identities are all of ours, by name; immutable once built.
type identities struct {
	all []*ownIdentity
	// serve runs the Workload APIs that development authorities offer.
	serve []func(context.Context) error
}

// byName is what the compiler asks for.
func (i *identities) byName() map[string]*identity.Current {
	named := make(map[string]*identity.Current, len(i.all))
	for _, own := range i.all {
		named[own.name] = own.current
	}
	return named
}

// buildIdentities makes the sources of our identities; nothing runs yet.
func (s *Sidecar) buildIdentities(c *config.Config) error {
	b := identityBuilder{sidecar: s, config: c, authorities: map[authorityKey]*identity.Authority{}}
	if c.Identity != nil {
		if err := b.add("identity", "", c.Identity); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Identities)) {
		one := c.Identities[name]
		if err := b.add("identities."+name, name, &one); err != nil {
			return err
		}
	}
	return nil
}

// await gives the identities a bounded time to arrive.
func (i *identities) await(ctx context.Context, within time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for _, own := range i.all {
		if _, err := own.current.Wait(ctx); errors.Is(err, context.DeadlineExceeded) {
			own.log.Warn("no identity yet: mesh connections are refused until it comes",
				"waited", within.String(), "last_error", own.current.Status().LastError)
		}
	}
}

// ready reports whether any identity can serve: without a certificate that peers
// accept, no mesh connection can be made in either direction. One that cannot takes
// nothing from the workloads of the others.
func (i *identities) ready(now time.Time) (bool, []string) {
	var reasons []string
	for _, own := range i.all {
		if reason := identityFault(own.current.Snapshot(), now); reason != "" {
			if own.name != "" {
				reason = own.name + ": " + reason
			}
			reasons = append(reasons, reason)
		}
	}
	if len(reasons) < len(i.all) || len(i.all) == 0 {
		return true, nil
	}
	return false, reasons
}

// identityFault says why nothing can be done as this identity; empty: it can.
func identityFault(snap *identity.Snapshot, now time.Time) string {
	switch {
	case snap == nil:
		return "no identity yet"
	case now.After(snap.NotAfter()):
		// The time, not for how long: what does not change is not reported anew to Consul.
		return "identity expired at " + snap.NotAfter().UTC().Format(time.RFC3339) + ": see /api/v1/identity"
	}
	return ""
}

func (i *identities) views() []admin.IdentityView {
	var all []admin.IdentityView
	for _, own := range i.all {
		all = append(all, own.view())
	}
	return all
}

func (o *ownIdentity) view() admin.IdentityView {
	st := o.current.Status()
	v := admin.IdentityView{Name: o.name, Source: st.Source, SPIFFEID: st.ID, Serial: st.Serial, Rotations: st.Rotations,
		NotBefore: st.NotBefore, ExpiresAt: st.NotAfter, Error: st.LastError}
	if snap := o.current.Snapshot(); snap != nil {
		v.TrustDomain = snap.ID().TrustDomain().Name()
		for _, d := range snap.TrustDomains() {
			v.Bundles = append(v.Bundles, admin.BundleView{TrustDomain: d.Name(), Authorities: snap.Authorities(d)})
		}
	}
	return v
}

// expiries tells when each SPIFFE ID of ours expires; of two identities with the same
// ID the sooner.
func (i *identities) expiries() map[string]time.Time {
	all := map[string]time.Time{}
	for _, own := range i.all {
		st := own.current.Status()
		if was, known := all[st.ID]; st.Ready && (!known || st.NotAfter.Before(was)) {
			all[st.ID] = st.NotAfter
		}
	}
	return all
}

// reauthorizeOnChange judges live connections again whenever the identity or its trust
// bundles change, until ctx ends.
func (s *Sidecar) reauthorizeOnChange(ctx context.Context, current *identity.Current) error {
	for {
		changed := current.Changed()
		s.proxy.Reauthorize()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}
