package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheHopFollowsTheRequest: between two sidecars a request keeps its version, by the called
// one's access log; HTTP/2 is left out where the other side is not known to be one of ours.
func TestTheHopFollowsTheRequest(t *testing.T) {
	state := filepath.Join(shortDir(t), "authority")
	logFile := filepath.Join(shortDir(t), "access.log")
	identity := func(service string) string {
		return fmt.Sprintf("identity: {dev: {trust_domain: mesh.test, state: %q, id: \"spiffe://mesh.test/ns/default/dc/dc1/svc/%s\"}}\n", state, service)
	}
	called := start(t, "called", identity("api")+fmt.Sprintf("access_log: {path: %q, format: json}\nworkload: {service: api, address: %q, listen: 127.0.0.1:0}\n", logFile, startWorkload(t, "one").address))
	caller := start(t, "caller", identity("caller")+fmt.Sprintf("upstreams: [{service: api, bind: 127.0.0.1:0, endpoints: [%q]}]\n", called.address("inbound")))
	for version, logged := range map[int]string{1: "http", 2: "http2"} {
		tr := &http.Transport{Protocols: new(http.Protocols)}
		tr.Protocols.SetHTTP1(version == 1)
		tr.Protocols.SetUnencryptedHTTP2(version == 2)
		a, err := (&http.Client{Transport: tr}).Get("http://" + caller.address("api") + fmt.Sprintf("/over%d", version))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, a.Body)
		a.Body.Close()
		tr.CloseIdleConnections()
		if a.StatusCode != 200 {
			t.Errorf("HTTP/%d: %s", version, a.Status)
		}
		want := fmt.Sprintf(`"protocol":"%s"`, logged)
		eventually(t, patience, want, func() error {
			text, err := os.ReadFile(logFile)
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(text)) {
				if strings.Contains(line, fmt.Sprintf(`"path":"/over%d"`, version)) && strings.Contains(line, want) {
					return nil
				}
			}
			return fmt.Errorf("the log has %s", text)
		})
	}
}
