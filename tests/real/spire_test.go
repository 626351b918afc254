package real

import (
	"context"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// offer waits until the agent offers what a test waits for, as any client sees it.
func offer(t *testing.T, s *SPIREDomain, done func(*workloadapi.X509Context) bool) *workloadapi.X509Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	var last error
	for {
		got, err := workloadapi.FetchX509Context(ctx, workloadapi.WithAddr(s.Socket))
		if err == nil && done(got) {
			return got
		}
		if err != nil && ctx.Err() == nil {
			last = err
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			t.Fatalf("%s: it did not come to that; last %v, error %v", s.TrustDomain, got, last)
		}
	}
}

func TestSPIRE(t *testing.T) {
	a := SPIRE(t, SPIREOptions{TrustDomain: "a.test", TTL: 20 * time.Second})
	b := SPIRE(t, SPIREOptions{TrustDomain: "b.test"})
	a.Federate(b)
	a.Register("/web", SPIREEntry{Hint: "web", FederatesWith: []*SPIREDomain{b}})
	entry := a.Register("/api", SPIREEntry{Hint: "api"})

	got := offer(t, a, func(c *workloadapi.X509Context) bool { return len(c.SVIDs) == 2 && c.Bundles.Len() == 2 })
	leaf := got.SVIDs[0].Certificates[0]
	if life := time.Until(leaf.NotAfter); life > 21*time.Second {
		t.Errorf("an SVID lives for %v", life)
	}
	hints := map[string]string{}
	for _, s := range got.SVIDs {
		hints[s.ID.String()] = s.Hint
	}
	if hints[a.ID("/web")] != "web" || hints[a.ID("/api")] != "api" {
		t.Errorf("hints %v", hints)
	}
	foreign, ok := got.Bundles.Get(spiffeid.RequireTrustDomainFromString("b.test"))
	if !ok || len(foreign.X509Authorities()) != len(b.Bundle()) {
		t.Errorf("the foreign bundle: %v, %v", foreign, ok)
	}

	a.KillAgent()
	a.RestartAgent()
	a.RestartServer()
	a.Unregister(entry)
	a.Unfederate(b)
	offer(t, a, func(c *workloadapi.X509Context) bool { return len(c.SVIDs) == 1 && c.Bundles.Len() == 1 })
}
