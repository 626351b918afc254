package upstream

import (
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/policy"
)

func TestSuspicionDoublesWithFailuresInARow(t *testing.T) {
	var e Endpoint
	now := int64(time.Hour)
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		e.connectFailed(now, policy.ConnectFailed)
		end := now + int64(want*time.Second)
		if !e.Suspect(end-1) || e.Suspect(end) {
			t.Fatalf("suspect until %v, want for %v s", time.Duration(e.suspect.Load()-now), int(want))
		}
		now = end
	}
	want := Suspicion{Failures: 7, Since: int64(time.Hour), Until: now, Reason: policy.ConnectFailed}
	if got := e.Suspicion(); got != want {
		t.Errorf("suspicion %+v, want %+v", got, want)
	}
	e.connected()
	if got := e.Suspicion(); got != (Suspicion{}) {
		t.Errorf("suspicion %+v after it accepted a connection", got)
	}
	if e.Suspect(now) {
		t.Error("suspect after it accepted a connection")
	}
}

// Requests that were under way together fail together: that is one failure.
func TestFailuresAtOneMomentCountOnce(t *testing.T) {
	var e Endpoint
	now := int64(time.Hour)
	for range 50 {
		e.connectFailed(now, policy.ConnectFailed)
	}
	if e.Suspect(now + int64(suspectFirst)) {
		t.Errorf("passed over for %v after one moment's failures, want %v", time.Duration(e.suspect.Load()-now), suspectFirst)
	}
}

// TestEndpointLeft: only those that discovery has removed have left, for good.
func TestEndpointLeft(t *testing.T) {
	s := NewService("s", &Settings{Balance: "round_robin"})
	both := []discovery.Endpoint{{ID: "a", Address: "10.0.0.1:80"}, {ID: "b", Address: "10.0.0.2:80"}}
	s.Update(discovery.Update{Endpoints: both})
	a, b := s.Find("a", "10.0.0.1:80"), s.Find("b", "10.0.0.2:80")
	s.Update(discovery.Update{Endpoints: both[1:]})
	s.Update(discovery.Update{Endpoints: both})
	again := s.Find("a", "10.0.0.1:80")
	if !a.Left() || b.Left() || again == a || again.Left() {
		t.Errorf("left: %v, %v, back %v", a.Left(), b.Left(), again.Left())
	}
}
