package identity

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// serve runs a Workload API for the ids; stop ends it and waits.
func serve(t *testing.T, a *Authority, path string, ids ...string) (stop func()) {
	t.Helper()
	var parsed []spiffeid.ID
	for _, id := range ids {
		parsed = append(parsed, spiffeid.RequireFromString(id))
	}
	s, err := a.ListenWorkloadAPI(path, parsed...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func withinSeconds(t *testing.T, n int) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n)*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestGoSpiffeFetchesFromUs(t *testing.T) {
	noLeaks(t)
	a := newTestAuthority(t, nil)
	other := newCA(t, "other")
	if err := a.Federate(spiffeid.RequireTrustDomainFromString("other.test"), parsedBundle(other)); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "api.sock")
	serve(t, a, socket, apiID, webID)
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v (%v)", info.Mode(), err)
	}
	ctx := withinSeconds(t, 20)
	address := workloadapi.WithAddr("unix://" + socket)
	got, err := workloadapi.FetchX509Context(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.SVIDs) != 2 || got.DefaultSVID().ID.String() != apiID || got.SVIDs[1].ID.String() != webID {
		t.Errorf("SVIDs %v", got.SVIDs)
	}
	if got.Bundles.Len() != 2 || !got.Bundles.Has(spiffeid.RequireTrustDomainFromString("other.test")) {
		t.Errorf("%d bundles", got.Bundles.Len())
	}
	bundles, err := workloadapi.FetchX509Bundles(ctx, address)
	if err != nil || bundles.Len() != 2 || !bundles.Has(meshDomain) {
		t.Errorf("bundles %v, %v", bundles, err)
	}
	_, err = workloadapi.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "x"}, address)
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("JWT: %v", err)
	}
}

func TestWorkloadAPIWantsItsHeader(t *testing.T) {
	noLeaks(t)
	socket := filepath.Join(t.TempDir(), "api.sock")
	serve(t, newTestAuthority(t, nil), socket, apiID)
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := workload.NewSpiffeWorkloadAPIClient(conn)
	for name, ctx := range map[string]context.Context{
		"no header":    withinSeconds(t, 10),
		"another text": metadata.AppendToOutgoingContext(withinSeconds(t, 10), "workload.spiffe.io", "yes"),
	} {
		stream, err := client.FetchX509SVID(ctx, &workload.X509SVIDRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: stream %v", name, err)
		}
		if _, err := client.FetchJWTSVID(ctx, &workload.JWTSVIDRequest{}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: call %v", name, err)
		}
	}
}

func TestWorkloadAPIWithoutIdentityDenies(t *testing.T) {
	noLeaks(t)
	socket := filepath.Join(t.TempDir(), "api.sock")
	serve(t, newTestAuthority(t, nil), socket)
	_, err := workloadapi.FetchX509Context(withinSeconds(t, 10), workloadapi.WithAddr("unix://"+socket))
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("got %v", err)
	}
}

// Our source on our server: the first identity although the server comes later,
// rotations pushed, a restart of the server survived.
func TestWorkloadSourceFollows(t *testing.T) {
	noLeaks(t)
	a := newTestAuthority(t, func(o *AuthorityOptions) { o.TTL = 2 * time.Second })
	socket := filepath.Join(t.TempDir(), "api.sock")
	source, err := NewWorkloadAPI(WorkloadOptions{Socket: socket, Log: quietLog()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	current := NewCurrent(quietLog())
	var group sync.WaitGroup
	group.Go(func() { current.Run(ctx, source) })
	defer group.Wait()
	defer cancel()

	stop := serve(t, a, socket, apiID)
	s, err := current.Wait(ctx)
	if err != nil || s.ID().String() != apiID {
		t.Fatalf("got %v, %v", s, err)
	}
	until := func(done func(Status) bool) Status {
		t.Helper()
		for {
			changed := current.Changed()
			if st := current.Status(); done(st) {
				return st
			}
			select {
			case <-changed:
			case <-ctx.Done():
				t.Fatalf("stuck at %+v", current.Status())
			}
		}
	}
	st := until(func(st Status) bool { return st.Rotations >= 2 })
	if st.Source != "workload-api" || st.LastError != "" {
		t.Errorf("status %+v", st)
	}
	if err := a.Federate(spiffeid.RequireTrustDomainFromString("other.test"), parsedBundle(newCA(t, "other"))); err != nil {
		t.Fatal(err)
	}
	until(func(st Status) bool { return len(st.TrustDomains) == 2 })
	stop()
	before := current.Status().Generation
	serve(t, a, socket, apiID)
	until(func(st Status) bool { return st.Generation > before })
}

func TestWorkloadSourcePicks(t *testing.T) {
	api, web := spiffeid.RequireFromString(apiID), spiffeid.RequireFromString(webID)
	both := []*x509svid.SVID{{ID: api, Hint: "a"}, {ID: web, Hint: "b"}}
	for _, tc := range []struct {
		name  string
		o     WorkloadOptions
		from  []*x509svid.SVID
		want  spiffeid.ID
		error string
	}{
		{name: "nothing is offered", error: "no svid"},
		{name: "the first by default", from: both, want: api},
		{name: "by id", o: WorkloadOptions{ID: web}, from: both, want: web},
		{name: "by hint", o: WorkloadOptions{Hint: "b"}, from: both, want: web},
		{name: "an absent id", o: WorkloadOptions{ID: web}, from: both[:1], error: webID + "; offered: " + apiID + ` (hint "a")`},
		{name: "an absent hint", o: WorkloadOptions{Hint: "c"}, from: both, error: `hint "c"; offered: `},
		{name: "no hint is no wish", o: WorkloadOptions{ID: web}, from: []*x509svid.SVID{{ID: api}, {ID: web}}, want: web},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := &WorkloadAPI{options: tc.o, log: quietLog()}
			got, err := w.pick(tc.from)
			switch {
			case tc.error != "":
				if err == nil || !strings.Contains(err.Error(), tc.error) {
					t.Errorf("got %v, want %q", err, tc.error)
				}
			case err != nil || got.ID != tc.want:
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func TestWorkloadSourceSaysThatItChoseAmongSeveral(t *testing.T) {
	var warnings []string
	w := &WorkloadAPI{log: slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		warnings = append(warnings, string(p))
		return len(p), nil
	}), nil))}
	both := []*x509svid.SVID{{ID: spiffeid.RequireFromString(apiID)}, {ID: spiffeid.RequireFromString(webID)}}
	for _, offer := range [][]*x509svid.SVID{both[:1], both, both, both[:1], both} {
		if _, err := w.pick(offer); err != nil {
			t.Fatal(err)
		}
	}
	if len(warnings) != 2 || !strings.Contains(warnings[0], webID) {
		t.Errorf("warned %q; want it each time that it begins", warnings)
	}
}

// Who answers that we have no identity withdraws it; who does not answer does not.
func TestWorkloadSourceWithdraws(t *testing.T) {
	noLeaks(t)
	a := newTestAuthority(t, nil)
	socket := filepath.Join(t.TempDir(), "api.sock")
	source, err := NewWorkloadAPI(WorkloadOptions{Socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	current := NewCurrent(quietLog())
	var group sync.WaitGroup
	group.Go(func() { current.Run(ctx, source) })
	defer group.Wait()
	defer cancel()
	next := func(do func()) *Snapshot {
		t.Helper()
		changed := current.Changed()
		do()
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("stuck at %+v", current.Status())
		}
		return current.Snapshot()
	}
	var stop func()
	first := next(func() { stop = serve(t, a, socket, apiID) })
	if first == nil {
		t.Fatal("withdrawn before it came")
	}
	if s := next(func() { stop(); stop = serve(t, a, socket) }); s != nil {
		t.Fatalf("denied, and still %v", s)
	}
	if st := current.Status(); st.Ready || !strings.Contains(st.LastError, "no registration entry for this process") {
		t.Errorf("status %+v", st)
	}
	if s := next(func() { stop(); serve(t, a, socket, apiID) }); s == nil || s.Generation() <= first.Generation() {
		t.Errorf("back as %v after %v: a pool could mistake one for the other", s, first)
	}
}

func TestWorkloadSourceAdvice(t *testing.T) {
	w := &WorkloadAPI{}
	for text, want := range map[string]string{
		"dial unix /x: connect: no such file or directory": "is the agent running",
		"dial unix /x: connect: connection refused":        "is the agent running",
		"dial unix /x: connect: permission denied":         "open the socket",
		"something else": "",
	} {
		got := w.advice(status.Error(codes.Unavailable, text))
		if !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q", text, got)
		}
	}
	if got := w.advice(nil); got != "" {
		t.Errorf("advice about nothing: %q", got)
	}
}

func TestWorkloadSourceHint(t *testing.T) {
	noLeaks(t)
	socket := filepath.Join(t.TempDir(), "api.sock")
	serve(t, newTestAuthority(t, nil), socket, apiID)
	source, err := NewWorkloadAPI(WorkloadOptions{Socket: "unix://" + socket, Hint: "internal"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(withinSeconds(t, 20))
	ended := make(chan error)
	failed := make(chan struct{})
	source.log = logTo(func(string) { close(failed) })
	go func() {
		ended <- source.Run(ctx, func(m Material) {
			if !m.ID.IsZero() {
				t.Error("an identity without the hint")
			}
		})
	}()
	<-failed
	cancel()
	<-ended
	if !strings.Contains(source.LastError(), `hint "internal"`) {
		t.Errorf("last error %q", source.LastError())
	}
}

func TestWorkloadSourceAddress(t *testing.T) {
	t.Setenv("SPIFFE_ENDPOINT_SOCKET", "")
	for _, bad := range []string{"", "relative.sock", "http://x", "unix://", "tcp://name:1"} {
		if _, err := NewWorkloadAPI(WorkloadOptions{Socket: bad}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	t.Setenv("SPIFFE_ENDPOINT_SOCKET", "unix:///run/agent.sock")
	for _, good := range []string{"", "/run/agent.sock", "unix:///run/agent.sock", "tcp://127.0.0.1:1"} {
		if _, err := NewWorkloadAPI(WorkloadOptions{Socket: good}); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

func TestSocketFiles(t *testing.T) {
	noLeaks(t)
	a := newTestAuthority(t, nil)
	dir := t.TempDir()
	id := spiffeid.RequireFromString(apiID)

	stale := filepath.Join(dir, "stale.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	s, err := a.ListenWorkloadAPI(stale, id)
	if err != nil {
		t.Fatalf("a stale socket is not replaced: %v", err)
	}
	if _, err := a.ListenWorkloadAPI(stale, id); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a socket in use: %v", err)
	}
	s.Close()
	if _, err := os.Lstat(stale); !os.IsNotExist(err) {
		t.Errorf("the socket file stays: %v", err)
	}

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.ListenWorkloadAPI(file, id); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file: %v", err)
	}
	if content, _ := os.ReadFile(file); string(content) != "precious" {
		t.Error("the file was harmed")
	}
	if _, err := a.ListenWorkloadAPI(filepath.Join(dir, "x"), spiffeid.RequireFromString("spiffe://other.test/a")); err == nil {
		t.Error("a foreign identity was accepted")
	}
	if _, err := a.ListenWorkloadAPI(filepath.Join(dir, strings.Repeat("x", 100)), id); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("a long path: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".s*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// go-spiffe's own client and configurations against ours, both ways.
func TestHandshakesWithGoSpiffe(t *testing.T) {
	noLeaks(t)
	a := newTestAuthority(t, nil)
	socket := filepath.Join(t.TempDir(), "web.sock")
	serve(t, a, socket, webID)
	source, err := workloadapi.NewX509Source(withinSeconds(t, 20), workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+socket)))
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	m, err := a.Issue(spiffeid.RequireFromString(apiID))
	if err != nil {
		t.Fatal(err)
	}
	api, web := snapshotOf(t, m), spiffeid.RequireFromString(webID)
	only, stranger := tlsconfig.AuthorizeID(api.ID()), tlsconfig.AuthorizeID(web)
	tests := []struct {
		name           string
		client, server *tls.Config
		ok             bool
	}{
		{"they call us", tlsconfig.MTLSClientConfig(source, source, only), api.ServerConfig(AnyOf(web)), true},
		{"we call them", api.ClientConfig(AnyOf(web)), tlsconfig.MTLSServerConfig(source, source, only), true},
		{"they call us and expect another", tlsconfig.MTLSClientConfig(source, source, stranger), api.ServerConfig(AnyOf(web)), false},
		{"we call them and expect another", api.ClientConfig(AnyOf(api.ID())), tlsconfig.MTLSServerConfig(source, source, only), false},
		{"they call us and are not accepted", tlsconfig.MTLSClientConfig(source, source, only), api.ServerConfig(AnyOf(api.ID())), false},
		{"we call them and are not accepted", api.ClientConfig(AnyOf(web)), tlsconfig.MTLSServerConfig(source, source, stranger), false},
		{"they call us without a certificate", tlsconfig.TLSClientConfig(source, only), api.ServerConfig(AnyOf(web)), false},
		{"we call a server that wants no certificate", api.ClientConfig(AnyOf(web)), tlsconfig.TLSServerConfig(source), true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			r := handshake(tc.client, tc.server)
			if ok := r.client == nil && r.server == nil; ok != tc.ok {
				t.Errorf("client %v, server %v", r.client, r.server)
			}
		})
	}
}
