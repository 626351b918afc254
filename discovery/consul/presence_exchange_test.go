package consul

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// Whatever is wanted meanwhile, nothing of ours is left behind, and nothing of others
// taken away.
func TestPresenceTakesBackWhatNobodyWants(t *testing.T) {
	alone, other, longer := webAndProxy(), webAndProxy(), webAndProxy()
	alone.Register = alone.Register[1:]
	other.Register[0].ID = "web-2"
	longer.TTL = time.Minute
	for name, c := range map[string]struct {
		then         Present
		during, left []string
	}{
		"no workload":      {alone, []string{"theirs", "web-sidecar-proxy"}, []string{"theirs"}},
		"another workload": {other, []string{"theirs", "web-2", "web-sidecar-proxy"}, []string{"theirs"}},
		"somebody else's":  {Present{TTL: 9 * time.Second, Adopt: "web-sidecar-proxy"}, []string{"theirs", "web-sidecar-proxy"}, []string{"theirs", "web-sidecar-proxy"}},
		"the same":         {webAndProxy(), []string{"theirs", "web", "web-sidecar-proxy"}, []string{"theirs"}},
		"the same for longer": {longer, []string{"theirs", "web", "web-sidecar-proxy"},
			[]string{"theirs"}},
	} {
		onVirtualClock(t, name, func(t *testing.T) {
			r := newRegistry()
			r.services["theirs"] = true
			holds := func(when string, want []string) {
				r.mu.Lock()
				defer r.mu.Unlock()
				if got := slices.Sorted(maps.Keys(r.services)); !slices.Equal(got, want) {
					t.Errorf("%s: registered are %q, want %q", when, got, want)
				}
			}
			keep(t, r, webAndProxy(), func(p *Presence, _ *State) {
				holds("at first", []string{"theirs", "web", "web-sidecar-proxy"})
				p.Set(c.then)
				time.Sleep(time.Second)
				holds("then", c.during)
				p.Leave(context.Background())
				holds("at the end", c.left)
			})
			if _, paused := r.checks[maintenanceCheck("web-sidecar-proxy")]; paused != (c.then.Adopt != "") {
				t.Errorf("in maintenance: %v", paused)
			}
		})
	}
}

// What stands in the views says what is to be done, in one line.
func TestPresenceErrorIsFitToBeShown(t *testing.T) {
	onVirtualClock(t, "", func(t *testing.T) {
		r := newRegistry()
		r.down = 500
		keep(t, r, webAndProxy(), func(p *Presence, _ *State) {
			if _, _, err := p.Status(); err == nil || !strings.Contains(err.Error(), "consul: register at http://127.0.0.1:8500: answered 500") {
				t.Errorf("error %v", err)
			}
		})
	})
}
