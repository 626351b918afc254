package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/larboard-proxy/larboard/tests/real"
)

// mirrored answers with the request's body, and with its version of HTTP in a field.
func mirrored(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Origin-Version", r.Proto)
	mirror{}.ServeHTTP(w, r)
}

// TestCurl: each version of HTTP that curl can be told to speak, with a body both ways,
// to endpoints of both versions. Asked for an upgrade to h2c, the proxy stays with
// HTTP/1.1, as it may.
func TestCurl(t *testing.T) {
	address := http2Origin(t, http.HandlerFunc(mirrored))
	body := filepath.Join(shortDir(t), "body")
	want := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	if err := os.WriteFile(body, want, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"http1", "http2"} {
		p := start(t, "proxy", twoListeners(t, address, "", ", protocol: "+version))
		plain, secure := "http://"+p.address("plain")+"/", "https://"+p.address("secure")+"/"
		for _, c := range []struct{ option, url, version string }{
			{"--http1.0", plain, "1.1"}, // that of the answer
			{"--http1.1", plain, "1.1"},
			{"--http2", plain, "1.1"},
			{"--http2-prior-knowledge", plain, "2"},
			{"--http1.1", secure, "1.1"},
			{"--http2", secure, "2"},
			{"--http2-prior-knowledge", secure, "2"},
		} {
			t.Run(fmt.Sprintf("%s %.5s to %s", c.option, c.url, version), func(t *testing.T) {
				out := real.Run(t, patience, "curl", "-sS", "--insecure", c.option, "--data-binary", "@"+body, "--dump-header", "-", c.url,
					"--write-out", "\nversion %{http_version} status %{http_code}")
				told := "\nversion " + c.version + " status 200"
				if out.Code != 0 || !strings.HasSuffix(out.Stdout, string(want)+told) {
					t.Errorf("exit code %d, %q ... %q\n%s", out.Code, out.Stdout[:min(300, len(out.Stdout))], tail(out.Stdout, 1), out.Stderr)
				}
				asked := map[string]string{"http1": "HTTP/1.1", "http2": "HTTP/2.0"}[version]
				if !strings.Contains(strings.ToLower(out.Stdout), "\norigin-version: "+strings.ToLower(asked)) {
					t.Errorf("the endpoint was not asked by %s: %q", asked, out.Stdout[:min(300, len(out.Stdout))])
				}
			})
		}
	}
}

// TestNGHTTP: nghttp asks for one resource many times over one connection, with a body.
func TestNGHTTP(t *testing.T) {
	p := start(t, "proxy", twoListeners(t, origin(t, http.HandlerFunc(mirrored)), "", ""))
	body := writeFile(t, shortDir(t), "body", strings.Repeat("x", 100_000))
	for _, url := range []string{"http://" + p.address("plain") + "/", "https://" + p.address("secure") + "/"} {
		out := real.Run(t, patience, "nghttp", "--null-out", "--stat", "--multiply=50", "--data="+body, url)
		if n := strings.Count(out.Stdout, " 200  97K "); out.Code != 0 || n != 50 {
			t.Errorf("%s: exit code %d, %d of 50 whole answers\n%s%s", url, out.Code, n, out.Stdout, out.Stderr)
		}
	}
}

// TestH2load: many streams at once over a few connections, of both versions; none fails.
func TestH2load(t *testing.T) {
	p := start(t, "proxy", twoListeners(t, origin(t, http.HandlerFunc(mirrored)), "", ""))
	before, descriptors := p.engineState(), p.vitals().descriptors
	body := writeFile(t, shortDir(t), "body", strings.Repeat("x", 3_000))
	plain, secure := "http://"+p.address("plain")+"/", "https://"+p.address("secure")+"/"
	done := regexp.MustCompile(`requests: (\d+) total, .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout`)
	for name, args := range map[string][]string{
		"plain":             {plain, "--max-concurrent-streams=100"},
		"plain, bodies":     {plain, "--max-concurrent-streams=100", "--data=" + body},
		"secure":            {secure, "--max-concurrent-streams=100"},
		"secure, bodies":    {secure, "--max-concurrent-streams=100", "--data=" + body},
		"HTTP/1.1":          {plain, "--h1"},
		"secure, small win": {secure, "--max-concurrent-streams=100", "--data=" + body, "--window-bits=10"},
	} {
		t.Run(name, func(t *testing.T) {
			out := real.Run(t, 4*patience, "h2load", append(args, "--requests=4000", "--clients=4", "--threads=1")...)
			got := done.FindStringSubmatch(out.Stdout)
			if out.Code != 0 || got == nil || got[2] != "4000" || !strings.Contains(out.Stdout, "status codes: 4000 2xx") {
				t.Errorf("exit code %d\n%s%s", out.Code, out.Stdout, out.Stderr)
			}
		})
	}
	p.waitBaseline(before, descriptors, 1000)
}

// TestGRPCKeepAlive: a client that asks for a sign of life as often as grpc-go lets it,
// on a connection with a call under way and on one without any, keeps its connection.
func TestGRPCKeepAlive(t *testing.T) {
	t.Parallel()
	server := real.InteropServer(t)
	p := start(t, "proxy", twoListeners(t, server, "", ", protocol: http2"))
	busy, idle := grpcClient(t, p.address("plain")), grpcClient(t, p.address("plain"))
	if err := healthy(idle); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watch, err := healthpb.NewHealthClient(busy).Watch(ctx, &healthpb.HealthCheckRequest{})
	if err == nil {
		_, err = watch.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := watch.Recv()
		ended <- err
	}()
	opened := p.scrape().sum("larboard_connections_total", `listener="plain"`)
	select { // pings come every 10 s, and a second for each answer
	case err := <-ended:
		t.Errorf("the call under way ended: %v", err)
	case <-time.After(either(12*time.Second, time.Minute)):
	}
	for name, c := range map[string]*grpc.ClientConn{"busy": busy, "idle": idle} {
		if err := healthy(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := p.scrape().sum("larboard_connections_total", `listener="plain"`); n != opened || n == 0 {
		t.Errorf("%v connections opened, %v before the pings", n, opened)
	}
}

// grpcClient is a client with keep-alive pings, with a connection of its own.
func grpcClient(t testing.TB, address string) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: time.Second, Timeout: time.Second, PermitWithoutStream: true}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// healthy calls the health service once.
func healthy(c *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := healthpb.NewHealthClient(c).Check(ctx, &healthpb.HealthCheckRequest{})
	if err == nil && out.Status != healthpb.HealthCheckResponse_SERVING {
		err = fmt.Errorf("status %v", out.Status)
	}
	return err
}

// TestPingsOfNetHTTP: net/http asks for a sign of life on a connection that is silent
// while an answer takes its time, and gets it.
func TestPingsOfNetHTTP(t *testing.T) {
	release := make(chan struct{})
	p := start(t, "proxy", twoListeners(t, origin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-release
		_, _ = io.WriteString(w, "ok")
	})), "", ""))
	client := http2Client(t)
	client.Transport.(*http.Transport).HTTP2 = &http.HTTP2Config{SendPingTimeout: 50 * time.Millisecond, PingTimeout: 500 * time.Millisecond}
	time.AfterFunc(1500*time.Millisecond, func() { close(release) })
	resp, err := client.Get("http://" + p.address("plain") + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "ok" || resp.ProtoMajor != 2 {
		t.Errorf("%s %q %v", resp.Proto, text, err)
	}
}

// TestLargeBodiesOverHTTP2: large uploads and downloads at once as streams of a few
// connections, whole and unchanged, to endpoints of both versions, with no more memory
// than the windows allow.
func TestLargeBodiesOverHTTP2(t *testing.T) {
	address := http2Origin(t, http.HandlerFunc(mirrored))
	body := make([]byte, 2<<20)
	_, _ = io.ReadFull(noise(9), body)
	for _, version := range []string{"http1", "http2"} {
		t.Run("to "+version, func(t *testing.T) {
			p := start(t, "proxy", twoListeners(t, address, "", ", protocol: "+version))
			client, worst, idle := http2Client(t), p.worst(), p.vitals()
			client.Timeout = 4 * patience
			var all sync.WaitGroup
			for i := range 32 {
				url := []string{"http://" + p.address("plain"), "https://" + p.address("secure")}[i%2]
				all.Go(func() {
					resp, err := client.Post(url, "application/octet-stream", bytes.NewReader(body))
					if err != nil {
						t.Error(err)
						return
					}
					defer resp.Body.Close()
					got, err := io.ReadAll(resp.Body)
					if err != nil || resp.ProtoMajor != 2 || !bytes.Equal(got, body) {
						t.Errorf("%s %d, %d bytes, the same: %t, %v", resp.Proto, resp.StatusCode, len(got), bytes.Equal(got, body), err)
					}
				})
			}
			all.Wait()
			most := worst()
			t.Logf("32 bodies of 2 MiB both ways at once: at most %v", most)
			if grown := most.memory - idle.memory; grown > 32<<20 {
				t.Errorf("memory grew by %.1f MiB", mib(grown))
			}
		})
	}
}
