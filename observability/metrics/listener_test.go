package metrics

import (
	"testing"

	"github.com/larboard-proxy/larboard/policy"
)

func TestListenerViewsAddUpTheLoops(t *testing.T) {
	m := New(2)
	m.Conn(0, "web", 1)
	m.Conn(1, "web", 1)
	m.Conn(1, "web", -1)
	m.Conn(1, "other", 1)
	if active, total := m.ListenerConns("web"); active != 1 || total != 2 {
		t.Errorf("web: active %d total %d, want 1 and 2", active, total)
	}
	m.Refused(0, "web", policy.TLSExpired)
	m.Refused(1, "other", policy.TLSExpired)
	if n := m.Refusals()[policy.TLSExpired]; n != 2 {
		t.Errorf("refusals: %d, want 2", n)
	}
}
