package consul

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Servers that do not know checks of sessions are told from those that do, and the session is given back.
func TestOldServers(t *testing.T) {
	for status, want := range map[string]string{"critical": "Consul does from 1.21 on", "passing": ""} {
		t.Run(status, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ended := false
				f := &fake{start: time.Now()}
				f.serve = func(w http.ResponseWriter, req *http.Request) {
					switch {
					case strings.HasPrefix(req.URL.Path, "/v1/health/node/"):
						fmt.Fprintf(w, `[{"CheckID": "larboard-alive:web-sidecar-proxy", "Status": %q}]`, status)
					case req.URL.Path == "/v1/session/create":
						fmt.Fprint(w, `{"ID": "s"}`)
					case req.URL.Path == "/v1/session/destroy/s":
						ended = true
					}
					fmt.Fprint(w, "\n")
				}
				c, err := New(Options{transport: f})
				if err != nil {
					t.Fatal(err)
				}
				present := webAndProxy()
				present.Node = "larboard-pod"
				p := c.Keep(present, func() State { return State{Verdict: Passing} })
				err = p.report(t.Context())
				if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) || ended != (want != "") {
					t.Errorf("error %v, session ended %v", err, ended)
				}
			})
		})
	}
}
