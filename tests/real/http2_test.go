package real

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// haproxyFront is HAProxy before an HTTP/1 origin: cleartext HTTP/2, and HTTPS.
func haproxyFront(t *testing.T, origin string) (plain, secure string) {
	t.Helper()
	c := newCertificates(t, shortTempDir(t))
	pem, err := os.ReadFile(c.Cert)
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(c.Key)
	if err != nil {
		t.Fatal(err)
	}
	both := c.Cert + ".both"
	if err := os.WriteFile(both, append(pem, key...), 0o600); err != nil {
		t.Fatal(err)
	}
	listen := HAProxy(t, 2, func(listen []string) string {
		return fmt.Sprintf("global\n maxconn 500\ndefaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n"+
			"frontend in\n bind %s proto h2\n bind %s ssl crt %s alpn h2,http/1.1\n default_backend b\nbackend b\n server s %s\n",
			listen[0], listen[1], both, origin)
	})
	return listen[0], listen[1]
}

// The tests of others are only worth something where they see a difference: HAProxy
// passes all of h2spec, and a server that does not know HTTP/2 fails it.
func TestH2specTellsServersApart(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "hello")
	}))
	defer s.Close()
	origin := s.Listener.Addr().String()
	plain, secure := haproxyFront(t, origin)
	for name, c := range map[string]struct {
		address string
		options H2specOptions
		passed  int
	}{
		"cleartext":         {plain, H2specOptions{}, 145},
		"cleartext, strict": {plain, H2specOptions{Strict: true}, 146},
		"TLS":               {secure, H2specOptions{TLS: true}, 145},
		"some sections":     {plain, H2specOptions{Sections: []string{"hpack"}}, 7},
	} {
		t.Run(name, func(t *testing.T) {
			if r := H2spec(t, c.address, c.options); r.Passed != c.passed || len(r.Failed)+len(r.Skipped) != 0 {
				t.Errorf("%d passed, want %d; failed %q, skipped %q", r.Passed, c.passed, r.Failed, r.Skipped)
			}
		})
	}
	r := H2spec(t, origin, H2specOptions{Sections: []string{"http2/6.5"}})
	if r.Passed != 0 || len(r.Failed) == 0 || !strings.HasPrefix(r.Failed[0], "http2/6.5") {
		t.Errorf("against HTTP/1: %d passed, failed %q", r.Passed, r.Failed)
	}
}

func TestInterop(t *testing.T) {
	client := Tool(t, "grpc-interop-client")
	address := InteropServer(t)
	for _, name := range InteropCases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := Interop(t, client, address, name); err != nil {
				t.Error(err)
			}
		})
	}
	silent := httptest.NewServer(http.NotFoundHandler())
	defer silent.Close()
	if err := Interop(t, client, silent.Listener.Addr().String(), "empty_unary"); err == nil {
		t.Error("a server that knows no gRPC passes")
	}
}

func TestGHZ(t *testing.T) {
	out := Run(t, time.Minute, Tool(t, "ghz"), "--insecure", "--call", "grpc.testing.TestService/UnaryCall",
		"--data", `{"response_size": 100}`, "--total", "200", "--concurrency", "10", InteropServer(t))
	if out.Code != 0 || !strings.Contains(out.Stdout, "[OK]   200 responses") {
		t.Errorf("exit code %d\n%s%s", out.Code, out.Stdout, out.Stderr)
	}
}

// A page that reports to its server, and a WebSocket of HTTP/1.1 and of HTTP/2, where
// HAProxy makes one of the other.
func TestBrowserSpeaksWebSocket(t *testing.T) {
	const page = `<!doctype html><title>echo</title><script>
const ws = new WebSocket(location.href.replace("http", "ws") + "echo");
const tell = text => fetch("/result", {method: "POST", body: text});
ws.onopen = () => ws.send("hello");
ws.onmessage = m => tell("echo " + m.data);
ws.onerror = () => tell("error");
</script>`
	results := make(chan string, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, page)
		case "/result":
			text, _ := io.ReadAll(r.Body)
			results <- string(text)
		case "/echo":
			c, err := websocket.Accept(w, r, nil)
			if err != nil {
				results <- err.Error()
				return
			}
			defer c.CloseNow()
			kind, text, err := c.Read(r.Context())
			if err == nil {
				_ = c.Write(r.Context(), kind, text)
			}
			_, _, _ = c.Read(r.Context())
		}
	}))
	defer s.Close()
	origin := s.Listener.Addr().String()
	_, secure := haproxyFront(t, origin)
	for name, url := range map[string]string{"HTTP/1.1": "http://" + origin + "/", "HTTP/2": "https://" + secure + "/"} {
		t.Run(name, func(t *testing.T) {
			b := Browse(t, url)
			select {
			case got := <-results:
				if got != "echo hello" {
					t.Errorf("got %q\n%s", got, b.Log())
				}
			case <-time.After(startTime):
				t.Fatalf("nothing came\n%s", b.Log())
			}
		})
	}
}
