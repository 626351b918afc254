package trace

import (
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
)

// The manual names every attribute that a span can have, and none of ours that it cannot.
func TestManualNamesAttributes(t *testing.T) {
	page, err := os.ReadFile("../../examples/manual/traces.md")
	if err != nil {
		t.Fatal(err)
	}
	manual := string(page)
	call, tunnel, odd := full(), full(), full()
	call.GRPC, call.Tries[0].GRPC = policy.GRPCInternal, policy.GRPCInternal
	tunnel.Protocol, tunnel.Detected, tunnel.BytesIn, tunnel.BytesOut = "tcp", "tls", 1, 1
	odd.Method, odd.Reason, odd.Side = []byte("BREW"), policy.UpstreamReset, policy.Upstream
	odd.Tries[1].Reused, odd.Client = true, netip.MustParseAddrPort("[2001:db8::1]:1")
	made := map[string]bool{}
	for _, r := range []*observability.Record{full(), call, tunnel, odd} {
		for _, s := range spans(t, r) {
			all := s.Attributes
			for _, e := range s.Events {
				all = append(all, e.Attributes...)
			}
			for _, a := range all {
				made[string(a.Key)] = true
				if !strings.Contains(manual, "`"+string(a.Key)+"`") {
					t.Errorf("the manual does not name %s", a.Key)
				}
			}
		}
	}
	for _, m := range regexp.MustCompile("`(larboard\\.[a-z_]+)`").FindAllStringSubmatch(manual, -1) {
		if !made[m[1]] {
			t.Errorf("no span has %s", m[1])
		}
	}
}
