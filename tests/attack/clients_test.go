//go:build linux

package attack

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// configuration of the victim. The times of the listener and services that are attacked are
// short, so that an attack by slowness ends within the test; ordinary clients come by
// a listener of their own, on the same event loops. Everything else is as it comes.
const configuration = `
listeners:
- {name: ordinary, address: 127.0.0.1:0, service: app}
- name: in
  address: 127.0.0.1:0
  timeouts: {request_head: 1s, idle: 3s, body: 2s}
  routes:
  - {match: {path_prefix: /hostile}, service: hostile}
  - {service: attacked}
services:
- {name: app, endpoints: [%[1]q]}
- {name: attacked, endpoints: [%[1]q], timeouts: {response_head: 3s, request: 6s, body: 2s}}
- {name: hostile, protocol: http2, endpoints: [%[2]q], timeouts: {connect: 1s, response_head: 3s, request: 6s, body: 2s}}
`

// memory is what an attack may add to the proxy's resident size at most, however many
// connections it opens and whatever it sends at the rates that are stated.
const memory = 96 << 20

// form is how long the claims get: short for every run, long for what is reported.
type form struct {
	pairs int
	each  time.Duration
}

// proof is what an attack gets to meet its end.
const proof = 45 * time.Second

func lengths() form {
	if os.Getenv("LARBOARD_LONG") == "1" {
		return form{pairs: 5, each: time.Second}
	}
	return form{pairs: 2, each: 400 * time.Millisecond}
}

// TestHostileClients: each attack is met by its protection and counted by its reason,
// and ordinary clients beside it notice nothing.
func TestHostileClients(t *testing.T) {
	app := origin(t)
	l := start(t, fmt.Sprintf(configuration, app, "127.0.0.1:1"))
	tr := browse(t, l.address("ordinary"), app)
	eventually(t, time.Minute, "ordinary traffic", tr.flows)
	var results table
	defer func() { t.Logf("\n%v", &results) }()
	for _, a := range clients() {
		t.Run(a.name, func(t *testing.T) { a.judge(t, l, tr, &results) })
	}
}

// flows is nil once ordinary clients are answered; what failed before is forgotten.
func (tr *traffic) flows() error {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.requests < 100 {
		return errNotYet
	}
	return nil
}

// judge runs one attack and holds the proxy to its promises.
func (a *attack) judge(t *testing.T, l *larboard, tr *traffic, results *table) {
	l.t, tr.t = t, t
	before, abuse, idle := l.load(), l.reasons(), l.resident()
	worst := l.worst()
	done := a.prove(t, l, abuse)
	w := a.beside(t, l, tr)
	peak := worst() - idle
	reasons := minus(l.reasons(), abuse)
	verdict := fmt.Sprintf("%-24s %6d/s x%-3d %v, +%4.1f MiB; counted: %s; %v", a.name, a.rate, a.conns, w, float64(peak)/(1<<20), counts(reasons), done)
	results.add("%s", verdict)
	t.Log(verdict)
	if peak > memory {
		t.Errorf("memory grew by %d MiB", peak>>20)
	}
	if len(a.ends) > 0 && !slices.ContainsFunc(a.ends, func(end string) bool { return done.ends[end] > 0 }) {
		t.Errorf("no connection ended by %q", a.ends)
	}
	if len(a.reasons) > 0 && !slices.ContainsFunc(a.reasons, func(r string) bool { return reasons[r] > 0 }) {
		t.Errorf("nothing counted as %q, but %v", a.reasons, reasons)
	}
	tr.clean()
	l.alive()
	l.calmed(before)
}

// prove attacks until the protection has been seen, or for as long as that may take.
func (a *attack) prove(t *testing.T, l *larboard, abuse map[string]int) *account {
	ctx, cancel := context.WithTimeout(t.Context(), proof)
	defer cancel()
	var done *account
	var running sync.WaitGroup
	address := l.address("in")
	running.Go(func() { done = a.run(ctx, address) })
	began := time.Now()
	beat := time.NewTicker(50 * time.Millisecond)
	defer beat.Stop()
	for ctx.Err() == nil {
		<-beat.C
		seen := minus(l.reasons(), abuse)
		met := len(a.reasons) == 0 || slices.ContainsFunc(a.reasons, func(r string) bool { return seen[r] > 0 })
		if met && time.Since(began) > a.least() {
			time.Sleep(300 * time.Millisecond) // for the peer to be told, too
			break
		}
	}
	cancel()
	running.Wait()
	return done
}

// least is how long an attack has to last for its end to be seen where no reason is
// counted: the times of the configuration.
func (a *attack) least() time.Duration {
	if len(a.reasons) == 0 && (len(a.ends) > 0 || a.rate < 1000) {
		return 5 * time.Second
	}
	return 300 * time.Millisecond
}

// beside measures ordinary traffic with and without the attack.
func (a *attack) beside(t *testing.T, l *larboard, tr *traffic) windows {
	t.Helper()
	address := l.address("in")
	return compareAgain(t, l, tr, func() func() {
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { a.run(ctx, address) })
		return func() {
			cancel()
			running.Wait()
		}
	})
}
