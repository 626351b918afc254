package identity

import (
	"context"
	"crypto/x509"
	"math/rand/v2"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// followRetry is the pause after a failure to issue.
const followRetry = time.Second

// follow calls out with an SVID of id now and whenever it is due again: at half
// of its life, when the bundles change, and when another root begins to sign. It
// returns ctx's error, or the first one out returns.
func (a *Authority) follow(ctx context.Context, id spiffeid.ID, out func(grant, error) error) error {
	for {
		g, err := a.grant(id)
		if err := out(g, err); err != nil {
			return err
		}
		if err != nil {
			if err := pause(ctx, followRetry, nil); err != nil {
				return err
			}
			continue
		}
		// A jitter keeps many workloads that started together from signing together.
		early := time.Duration(rand.Int64N(int64(g.rotateAt.Sub(a.options.Now())/10) + 1))
		g.rotateAt = g.rotateAt.Add(-early)
		if err := a.await(ctx, g); err != nil {
			return err
		}
	}
}

// watchable returns the bundles and a grant to await that is due only when they
// change.
func (a *Authority) watchable() (map[spiffeid.TrustDomain][]*x509.Certificate, grant, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.sync(nil); err != nil {
		return nil, grant{}, err
	}
	now := a.options.Now()
	g := grant{changed: a.changed, signer: a.signer(now).certificate, rotateAt: now.Add(a.options.RootTTL)}
	return a.bundles(), g, nil
}

// await returns nil when g should be replaced.
func (a *Authority) await(ctx context.Context, g grant) error {
	for {
		now := a.options.Now()
		if !now.Before(g.rotateAt) {
			return nil
		}
		wait := g.rotateAt.Sub(now)
		a.mu.Lock()
		if next := a.nextEvent(now); !next.IsZero() {
			wait = min(wait, next.Sub(now)+time.Millisecond)
		}
		a.mu.Unlock()
		if a.state != nil {
			wait = min(wait, statePoll)
		}
		if err := pause(ctx, wait, g.changed); err != nil {
			return err
		}
		if a.stale(g) {
			return nil
		}
	}
}

// stale reports whether the bundles or the signing root are no longer those of g.
// A failure to read the shared state is none: g is as good as before.
func (a *Authority) stale(g grant) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.sync(nil); err != nil {
		a.log.Warn("development authority cannot read its state", "error", err)
		return false
	}
	return a.changed != g.changed || !a.signer(a.options.Now()).certificate.Equal(g.signer)
}

// pause waits for d, a change (nil: none) or the end of ctx, whose error it returns.
func pause(ctx context.Context, d time.Duration, changed <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
