package consul

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for address, want := range map[string]string{
		"":                          "http://127.0.0.1:8500",
		"10.0.0.1:8500":             "http://10.0.0.1:8500",
		"consul":                    "http://consul:8500",
		"http://consul.test":        "http://consul.test:8500",
		"https://consul.test/":      "https://consul.test:8501",
		"https://[::1]:1":           "https://[::1]:1",
		"[::1]:8500":                "http://[::1]:8500",
		"unix:///run/consul.sock":   "unix:///run/consul.sock",
		"unix://run/consul.sock":    "",
		"ftp://consul.test":         "",
		"http://":                   "",
		"http://a.test/prefix":      "",
		"http://a.test?token=x":     "",
		"http://me:secret@a.test":   "",
		"http://me:secret@a.test:x": "",
		"http://a b":                "",
	} {
		got, err := parseAddress(address)
		switch {
		case want == "" && err == nil:
			t.Errorf("%q is taken for %v", address, got)
		case want != "" && (err != nil || got.String() != want):
			t.Errorf("%q: %v, %v; want %s", address, got, err, want)
		case err != nil && strings.Contains(err.Error(), "secret"):
			t.Errorf("%q: the error shows the password: %v", address, err)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, seed := range []string{"", "a:1", "https://[::1]:1", "unix:///a", "http://u:p@h", "://"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, address string) {
		got, err := parseAddress(address)
		if err != nil {
			return
		}
		again, err := parseAddress(got.String())
		if err != nil || again != got {
			t.Errorf("%q: %v is read back as %v, %v", address, got, again, err)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	noPEM := filepath.Join(dir, "no.pem")
	if err := os.WriteFile(noPEM, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{
		"two tokens":      {Token: "a", TokenFile: "b"},
		"negative wait":   {Wait: -1},
		"wait too long":   {Wait: MaxWait + 1},
		"cert alone":      {Address: "https://a", TLS: TLS{Cert: noPEM}},
		"no such CA":      {Address: "https://a", TLS: TLS{CA: filepath.Join(dir, "none")}},
		"CA without PEM":  {Address: "https://a", TLS: TLS{CA: noPEM}},
		"pair not usable": {Address: "https://a", TLS: TLS{Cert: noPEM, Key: noPEM}},
	} {
		if _, err := New(o); err == nil || !strings.HasPrefix(err.Error(), "consul: ") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestSpecKeyTellsSettingsApart(t *testing.T) {
	keys := map[string]string{}
	add := func(name string, o Options, h Health) {
		t.Helper()
		c, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		key := c.Spec(h).Key
		if other, twice := keys[key]; twice {
			t.Errorf("%s and %s have the same key", name, other)
		}
		keys[key] = name
		if again := c.Spec(h).Key; again != key {
			t.Errorf("%s: the key changes by itself", name)
		}
	}
	web := Health{Service: "web"}
	add("plain", Options{}, web)
	add("token", Options{Token: "a"}, web)
	add("other token", Options{Token: "b"}, web)
	add("client datacenter", Options{Datacenter: "dc2"}, web)
	add("address", Options{Address: "unix:///a"}, web)
	add("service", Options{}, Health{Service: "api"})
	add("connect", Options{}, Health{Service: "web", Connect: true})
	add("tag", Options{}, Health{Service: "web", Tags: []string{"a", "b"}})
	add("one tag", Options{}, Health{Service: "web", Tags: []string{"a b"}})
	add("datacenter", Options{}, Health{Service: "web", Datacenter: "dc1"})
	add("namespace", Options{}, Health{Service: "web", Namespace: "dc1"})
	add("partition", Options{}, Health{Service: "web", Partition: "dc1"})
	add("filter", Options{}, Health{Service: "web", Filter: "dc1"})
	add("warning", Options{}, Health{Service: "web", Warning: true})
	add("on empty", Options{}, Health{Service: "web", OnEmpty: Keep})
}

func TestTransportSetsOnlyOurToken(t *testing.T) {
	t.Setenv("CONSUL_HTTP_TOKEN", "of-the-environment")
	t.Setenv("CONSUL_HTTP_TOKEN_FILE", "/nonexistent")
	t.Setenv("CONSUL_HTTP_AUTH", "me:secret")
	var seen http.Header
	stranger := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the client followed a redirect")
	}))
	defer stranger.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header
		http.Redirect(w, r, stranger.URL, http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	for token, want := range map[string]string{"": "", "mine": "mine"} {
		c, err := New(Options{Address: server.URL, Token: token})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.api.Health().Service("web", "", true, nil); err == nil {
			t.Error("a redirect is no error")
		}
		if got := seen.Get("X-Consul-Token"); got != want || seen.Get("Authorization") != "" {
			t.Errorf("token %q, authorization %q; want %q and none", got, seen.Get("Authorization"), want)
		}
		c.Close()
	}
}

func TestAnswersAreBounded(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		chunk := []byte(strings.Repeat(" ", 1<<20))
		for range maxAnswer>>20 + 2 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	c, err := New(Options{Address: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _, err = c.api.Health().Service("web", "", true, nil)
	if err == nil || !strings.Contains(err.Error(), "longer than 32 MiB") {
		t.Errorf("error %v, want one about the length", err)
	}
}
