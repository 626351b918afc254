package identity

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/tests/real"
)

// follower is one identity fed by a real agent.
type follower struct {
	t       *testing.T
	current *Current
	source  *WorkloadAPI
}

// follow runs a source until the end of the test.
func follow(t *testing.T, o WorkloadOptions) *follower {
	t.Helper()
	source, err := NewWorkloadAPI(o)
	if err != nil {
		t.Fatal(err)
	}
	f := &follower{t, NewCurrent(quietLog()), source}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { f.current.Run(ctx, source) })
	t.Cleanup(func() { cancel(); group.Wait() })
	return f
}

// until waits for a state and returns it with the time that it took. A source's error
// announces itself to nobody, so that it is looked for.
func (f *follower) until(what string, done func(Status) bool) (Status, time.Duration) {
	f.t.Helper()
	began := time.Now()
	late := time.After(90 * time.Second)
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		changed := f.current.Changed()
		if st := f.current.Status(); done(st) {
			return st, time.Since(began)
		}
		select {
		case <-changed:
		case <-poll.C:
		case <-late:
			f.t.Fatalf("%s: not within 90s; the last is %+v", what, f.current.Status())
		}
	}
}

func ready(id string) func(Status) bool {
	return func(st Status) bool { return st.Ready && st.ID == id && st.LastError == "" }
}

func trusts(n int) func(Status) bool {
	return func(st Status) bool { return st.Ready && len(st.TrustDomains) == n }
}

// The whole life with a real agent, and three identities of one process beside each
// other: what befalls one does not touch the others.
func TestWorkloadSourceOnSPIRE(t *testing.T) {
	noLeaks(t)
	home := real.SPIRE(t, real.SPIREOptions{TrustDomain: "home.test", TTL: 6 * time.Second})
	away := real.SPIRE(t, real.SPIREOptions{TrustDomain: "away.test", TTL: 10 * time.Second})
	web, api := home.ID("/web"), home.ID("/api")

	byHint := follow(t, WorkloadOptions{Socket: home.Socket, Hint: "internal"})
	st, _ := byHint.until("no entry", func(st Status) bool { return st.LastError != "" })
	if st.Ready || !strings.Contains(st.LastError, "no registration entry for this process") {
		t.Errorf("without an entry: %+v", st)
	}

	home.Register("/web", real.SPIREEntry{Hint: "internal"})
	registered := time.Now()
	byHint.until("the first SVID", ready(web))
	// The agent looks for entries each second here, and we ask again after three.
	if took := time.Since(registered); took > 20*time.Second {
		t.Errorf("the first SVID took %v", took)
	}
	entry := home.Register("/api", real.SPIREEntry{Hint: "external"})
	byID := follow(t, WorkloadOptions{Socket: home.Socket, ID: spiffeid.RequireFromString(api)})
	byID.until("the SVID of its id", ready(api))
	first := follow(t, WorkloadOptions{Socket: home.Socket})
	first.until("the default", func(st Status) bool { return st.Ready })

	snap := byHint.current.Snapshot()
	if late := time.Since(snap.notBefore); late < 0 || late > time.Minute {
		t.Errorf("valid since %v before now", late)
	}
	if end := drainBefore(snap.notBefore, snap.notAfter, time.Now(), rand.New(rand.NewPCG(1, 2))); !end.After(time.Now()) || !end.Before(snap.NotAfter()) {
		t.Errorf("connections end at %v, the certificate at %v", end, snap.NotAfter())
	}

	rotations := byHint.current.Status().Rotations
	byHint.until("two rotations", func(st Status) bool { return st.Rotations >= rotations+2 && st.LastError == "" })

	home.KillAgent()
	byHint.until("the loss is seen", func(st Status) bool { return st.Ready && st.LastError != "" })
	home.RestartAgent()
	rotations = byHint.current.Status().Rotations
	_, took := byHint.until("back", func(st Status) bool { return st.LastError == "" && st.Rotations > rotations && !st.Expired })
	t.Logf("a new SVID %v after the agent serves again", took.Round(100*time.Millisecond))
	byHint.until("rotation goes on", func(st Status) bool { return st.Rotations > rotations+1 })

	byID.until("alive", ready(api))
	home.Unregister(entry)
	if st, _ := byID.until("withdrawn", func(st Status) bool { return !st.Ready }); !strings.Contains(st.LastError, api) {
		t.Errorf("why %s is withdrawn: %q", api, st.LastError)
	}
	if !byHint.current.Status().Ready {
		t.Error("the identity beside it has gone too")
	}

	federated := home.Register("/api", real.SPIREEntry{Hint: "external"})
	byID.until("back again", ready(api))
	home.Federate(away)
	home.Unregister(federated)
	home.Register("/api", real.SPIREEntry{Hint: "external", FederatesWith: []*real.SPIREDomain{away}})
	byID.until("the foreign bundle", trusts(2))
	if n := byID.current.Snapshot().Authorities(spiffeid.RequireTrustDomainFromString("away.test")); n != len(away.Bundle()) {
		t.Errorf("%d foreign authorities", n)
	}
	home.Unfederate(away)
	byID.until("the foreign bundle withdrawn", trusts(1))
}
