package proxy

import (
	"io"
	"net/http"
	"testing"

	"github.com/larboard-proxy/larboard/policy"
)

// TestRecordHoldsEveryAttempt: those that failed and the one that answered, in their
// order, for requests and for tunnels.
func TestRecordHoldsEveryAttempt(t *testing.T) {
	good := origin(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	for _, protocol := range []Protocol{HTTP, TCP} {
		t.Run(protocol.String(), func(t *testing.T) {
			bad := closedPort(t)
			r := newRig(t, protocol, nil, bad, good)
			c := client(t)
			c.Transport.(*http.Transport).DisableKeepAlives = true
			failed := false
			for n := 1; n <= 8 && !failed; n++ {
				if code, body, _ := get(t, c, "http://"+r.addr+"/"); code != 200 || body != "ok" {
					t.Fatalf("%d %q", code, body)
				}
				rec := r.records.last(t, n)
				if len(rec.Tries) != rec.Attempts {
					t.Fatalf("%d attempts, %+v", rec.Attempts, rec.Tries)
				}
				last := rec.Tries[len(rec.Tries)-1]
				if last.Endpoint != good || last.Reason != policy.None || last.Total <= 0 || last.Start < 0 || protocol == HTTP && last.Status != 200 {
					t.Errorf("the attempt that answered: %+v", last)
				}
				if len(rec.Tries) == 2 {
					failed = true
					first := rec.Tries[0]
					if first.Endpoint != bad || first.Reason != policy.ConnectFailed || first.Phase != policy.PhaseConnect || first.Side != policy.Upstream || first.Start > last.Start {
						t.Errorf("the attempt that failed: %+v", first)
					}
				}
				if rec.Active.Process < 1 || rec.Active.Listener < 1 || rec.Active.Service < 1 || rec.Active.Endpoint < 1 {
					t.Errorf("active: %+v", rec.Active)
				}
				if protocol == HTTP && rec.Version != "1.1" {
					t.Errorf("version %q", rec.Version)
				}
			}
			if !failed {
				t.Error("the endpoint that is down was never tried")
			}
			if n := r.service.Active(); n != 0 {
				t.Errorf("%d exchanges are left at the service", n)
			}
		})
	}
}
