package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/larboard-proxy/larboard/injector"
	"github.com/larboard-proxy/larboard/tests/pki"
)

// started is an injector on loopback.
type started struct {
	*Server
	reviews, health string // host:port
	pool            *x509.CertPool
	done            chan error
}

// start runs an injector with a certificate in files and returns when it is ready.
func start(t testing.TB, f *fakeAPI, change func(*Options)) *started {
	t.Helper()
	dir := t.TempDir()
	ca := pki.New(t, "test authority")
	cert, key := pki.Write(t, filepath.Join(dir, "pair"), ca.Issue(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }))
	o := Options{Log: slog.New(slog.DiscardHandler), Settings: &injector.Settings{}, API: f.api(), CertFile: cert, KeyFile: key}
	o.Listen, o.Health = free(t), free(t)
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	s.mutate = asNamed
	r := &started{Server: s, reviews: o.Listen, health: o.Health, pool: pki.Pool(ca.Cert), done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { r.done <- s.Run(ctx) })
	t.Cleanup(func() { cancel(); all.Wait() })
	eventually(t, "ready", func() error { return r.probe("/readyz", 200) })
	return r
}

// free is a loopback address that nobody listens on at this moment.
func free(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	for late := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// probe asks for health.
func (r *started) probe(path string, want int) error {
	resp, err := http.Get("http://" + r.health + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != want {
		err = fmt.Errorf("%s: %d %s", path, resp.StatusCode, text)
	}
	return err
}

// client is one of the API server's, with the given versions of TLS at most.
func (r *started) client(version uint16) *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: r.pool, MaxVersion: version}}}
}

func TestServes(t *testing.T) {
	f := newFakeAPI()
	f.put("/api/v1/namespaces/shop", shop())
	r := start(t, f, nil)
	resp, err := r.client(0).Post("https://"+r.reviews+"/mutate", "application/json", bytes.NewReader(admission("one", nil)))
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.ProtoMajor != 2 || !strings.Contains(string(text), `"patchType":"JSONPatch"`) {
		t.Errorf("%s %s: %s", resp.Proto, resp.Status, text)
	}
	if resp, err := r.client(tls.VersionTLS12).Get("https://" + r.reviews + "/mutate"); err == nil {
		resp.Body.Close()
		t.Error("TLS 1.2 was accepted")
	}
	if err := r.probe("/healthz", 200); err != nil {
		t.Error(err)
	}
}

// At the end it is not ready at once, while reviews still come, and what is under way is answered.
func TestStops(t *testing.T) {
	f := newFakeAPI()
	f.put("/api/v1/namespaces/shop", shop())
	r := start(t, f, func(o *Options) { o.Drain = 300 * time.Millisecond })
	inside, goOn := make(chan struct{}), make(chan struct{})
	r.mutate = func(pod *corev1.Pod, ns injector.Namespace, s *injector.Settings) (injector.Result, error) {
		if pod.Name == "slow" {
			close(inside)
			<-goOn
		}
		return asNamed(pod, ns, s)
	}
	client := r.client(0)
	send := func(name string) error {
		resp, err := client.Post("https://"+r.reviews+"/mutate", "application/json", bytes.NewReader(admission(name, nil)))
		if err == nil {
			defer resp.Body.Close()
			if resp.StatusCode != 200 {
				err = errors.New(resp.Status)
			}
		}
		return err
	}
	slow := make(chan error, 1)
	go func() { slow <- send("slow") }()
	<-inside
	r.Stop()
	if err := r.probe("/readyz", 503); err != nil {
		t.Error(err)
	}
	if err := send("one"); err != nil {
		t.Errorf("a review right after Stop: %v", err)
	}
	eventually(t, "no new reviews", func() error {
		conn, err := net.Dial("tcp", r.reviews)
		if err != nil {
			return nil
		}
		conn.Close()
		return errors.New("still accepted")
	})
	select {
	case err := <-r.done:
		t.Errorf("ended with a review under way: %v", err)
	default:
	}
	close(goOn)
	if err := <-slow; err != nil {
		t.Errorf("the review under way: %v", err)
	}
	if err := <-r.done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// A certificate in files is read again when it changes; one that cannot be read changes nothing.
func TestCertificateInFiles(t *testing.T) {
	f := newFakeAPI()
	var file string
	r := start(t, f, func(o *Options) { file = o.CertFile })
	shown := func() string {
		conn, err := tls.Dial("tcp", r.reviews, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	first := shown()
	if err := os.WriteFile(file, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	next := pki.New(t, "another authority").Issue(nil)
	if got := shown(); got != first {
		t.Errorf("after rubbish: %s, want %s", got, first)
	}
	pki.Write(t, strings.TrimSuffix(file, ".pem"), next)
	eventually(t, "the new certificate", func() error {
		if got := shown(); got != next.Leaf.SerialNumber.String() {
			return errors.New(got)
		}
		return nil
	})
}

func TestOptionsThatCannotBe(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"a certificate without its key":   {func(o *Options) { o.CertFile = "x" }, "both --cert and --key"},
		"a certificate that is not there": {func(o *Options) { o.CertFile, o.KeyFile = "/nowhere/x", "/nowhere/y" }, "/nowhere/x"},
		"a negative lifetime":             {func(o *Options) { o.Settle = -1 }, "negative"},
		"certificates that live longer":   {func(o *Options) { o.AuthorityLife = time.Hour }, "longer (24h0m0s) than their authority (1h0m0s)"},
		"no time to settle":               {func(o *Options) { o.AuthorityLife, o.CertificateLife = 5*time.Minute, time.Minute }, "twice as long"},
	} {
		o := Options{Log: slog.New(slog.DiscardHandler), Settings: &injector.Settings{}, API: newFakeAPI().api()}
		test.change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A second injector on the same port says which port it is.
func TestPortTaken(t *testing.T) {
	r := start(t, newFakeAPI(), nil)
	o := r.options
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "listen for reviews") || !strings.Contains(err.Error(), r.reviews) {
		t.Errorf("%v", err)
	}
}
