package cli

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestCtlCaptures(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/captures" {
			http.NotFound(w, r)
			return
		}
		w.Write([]byte(`{"captures": [
{"listener": "api", "direction": "outbound", "address": "10.96.0.10", "port": 80, "source": "configuration", "error": ""},
{"listener": "stock", "direction": "outbound", "address": "10.96.0.10", "port": 80, "source": "name stock", "error": "api has it"},
{"listener": "stock", "direction": "outbound", "address": "10.96.0.0/16", "port": 0, "source": "consul", "error": ""},
{"listener": "db", "direction": "outbound", "address": "", "port": 5432, "source": "name db", "error": "no such host"},
{"listener": "inbound", "direction": "inbound", "address": "*", "port": 8000, "source": "configuration", "error": ""}]}`))
	}))
	defer proxy.Close()
	none := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"captures": []}`)) }))
	defer none.Close()
	at := func(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }
	for name, test := range map[string]struct {
		args   []string
		code   int
		stdout []string
		not    string
	}{
		"all":                    {[]string{"--admin", at(proxy)}, 0, []string{"LISTENER ", "api ", "every", "no such host", "api has it", "*"}, ""},
		"address and port":       {[]string{"--admin", at(proxy), "10.96.0.10:80"}, 0, []string{"api "}, "stock"},
		"another port":           {[]string{"--admin", at(proxy), "10.96.0.10:81"}, 0, []string{"stock ", "10.96.0.0/16"}, "api"},
		"address":                {[]string{"--admin", at(proxy), "10.96.0.10"}, 0, []string{"stock "}, "api"},
		"in both directions":     {[]string{"--admin", at(proxy), "10.96.0.10:8000"}, 0, []string{"stock ", "inbound "}, "api"},
		"nobody's":               {[]string{"--admin", at(proxy), "192.0.2.1:80"}, 0, []string{"no entry holds for 192.0.2.1:80"}, ""},
		"nobody's, as JSON":      {[]string{"--admin", at(proxy), "192.0.2.1:80", "-o", "json"}, 0, []string{"[]"}, ""},
		"nothing":                {[]string{"--admin", at(none)}, 0, []string{"nothing is captured"}, ""},
		"no address":             {[]string{"--admin", at(proxy), "stock:80"}, 2, nil, ""},
		"two addresses":          {[]string{"--admin", at(proxy), "10.0.0.1", "10.0.0.2"}, 2, nil, ""},
		"the table for machines": {[]string{"--admin", at(proxy), "-o", "json"}, 0, []string{`"address": "10.96.0.0/16"`}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := larboard(t, t.TempDir(), append([]string{"ctl", "captures"}, test.args...)...)
			if got.code != test.code {
				t.Errorf("exit code %d, want %d: %s", got.code, test.code, got.stderr)
			}
			contains(t, "stdout", got.stdout, test.stdout...)
			if test.not != "" && strings.Contains(got.stdout, test.not) {
				t.Errorf("stdout holds %q: %s", test.not, got.stdout)
			}
		})
	}
}
