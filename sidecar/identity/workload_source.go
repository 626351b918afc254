package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// WorkloadOptions configures a Workload API source.
type WorkloadOptions struct {
	// Socket is the endpoint: "unix:///run/spire/agent.sock", a plain path or
	// "tcp://IP:PORT"; empty: the environment's SPIFFE_ENDPOINT_SOCKET.
	Socket string
	// Hint picks among several SVIDs the one the operator has marked so; empty: the
	// first, which the specification calls the default.
	Hint string
	Log  *slog.Logger
}

// WorkloadAPI is a Source that follows a SPIFFE Workload API.
type WorkloadAPI struct {
	options WorkloadOptions
	log     *slog.Logger
	failure lastError
}

// NewWorkloadAPI checks the address and nothing else: no connection is made
// before Run.
func NewWorkloadAPI(options WorkloadOptions) (*WorkloadAPI, error) {
	if options.Socket == "" {
		options.Socket = os.Getenv("SPIFFE_ENDPOINT_SOCKET")
	}
	if strings.HasPrefix(options.Socket, "/") {
		options.Socket = "unix://" + options.Socket
	}
	if options.Socket == "" {
		return nil, errors.New("identity: workload api: no socket is configured and SPIFFE_ENDPOINT_SOCKET is not set")
	}
	if err := workloadapi.ValidateAddress(options.Socket); err != nil {
		return nil, fmt.Errorf("identity: workload api: %w", err)
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	return &WorkloadAPI{options: options, log: options.Log.With("socket", options.Socket)}, nil
}

// LastError is the latest failure, empty while the stream is healthy.
func (w *WorkloadAPI) LastError() string { return w.failure.text() }

// Run implements Source. It watches for ever: an agent that is absent, restarts,
// denies or answers nonsense is tried again with a jittered, growing pause, since
// an operator can mend each of these while the proxy runs.
func (w *WorkloadAPI) Run(ctx context.Context, out func(Material)) error {
	pauses := &jittered{}
	for {
		err := w.watch(ctx, pauses, out)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.fail(err)
		if err := pause(ctx, pauses.Next(), nil); err != nil {
			return err
		}
	}
}

// watch follows one client's stream; go-spiffe retries inside for most failures
// and comes back for those it holds to be final.
func (w *WorkloadAPI) watch(ctx context.Context, pauses *jittered, out func(Material)) error {
	client, err := workloadapi.New(ctx, workloadapi.WithAddr(w.options.Socket),
		workloadapi.WithBackoffStrategy(pauses),
		workloadapi.WithDialOptions(grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		})))
	if err != nil {
		return fmt.Errorf("identity: workload api: %w", err)
	}
	defer client.Close()
	return client.WatchX509Context(ctx, &contextWatcher{source: w, ctx: ctx, out: out})
}

func (w *WorkloadAPI) fail(err error) {
	w.failure.note(w.log, "workload api delivers no identity", err)
}

// contextWatcher receives go-spiffe's updates; its methods are called from the one
// goroutine of WatchX509Context.
type contextWatcher struct {
	source *WorkloadAPI
	ctx    context.Context // of Run: an error after its end is no failure
	out    func(Material)
}

// OnX509ContextUpdate hands the material on. Bundles are copied out of the set
// here, in the goroutine that made it, for go-spiffe's bundle source is not safe
// to read beside its writer.
func (c *contextWatcher) OnX509ContextUpdate(update *workloadapi.X509Context) {
	svid, err := pick(update.SVIDs, c.source.options.Hint)
	if err != nil {
		c.source.fail(err)
		return
	}
	bundles := make(map[spiffeid.TrustDomain][]*x509.Certificate)
	for _, b := range update.Bundles.Bundles() {
		bundles[b.TrustDomain()] = b.X509Authorities()
	}
	c.source.fail(nil)
	c.out(materialOf(svid, bundles, "workload-api"))
}

// OnX509ContextWatchError notes a failure; go-spiffe goes on by itself.
func (c *contextWatcher) OnX509ContextWatchError(err error) {
	if c.ctx.Err() == nil && err != nil {
		c.source.fail(err)
	}
}

func pick(svids []*x509svid.SVID, hint string) (*x509svid.SVID, error) {
	if len(svids) == 0 {
		return nil, errors.New("identity: the workload api sent no svid")
	}
	if hint == "" {
		return svids[0], nil
	}
	for _, s := range svids {
		if s.Hint == hint {
			return s, nil
		}
	}
	return nil, fmt.Errorf("identity: none of the %d svids has the hint %q", len(svids), hint)
}

func materialOf(svid *x509svid.SVID, bundles map[spiffeid.TrustDomain][]*x509.Certificate, source string) Material {
	certificate := tls.Certificate{PrivateKey: svid.PrivateKey, Leaf: svid.Certificates[0]}
	for _, c := range svid.Certificates {
		certificate.Certificate = append(certificate.Certificate, c.Raw)
	}
	return Material{
		ID: svid.ID, Certificate: certificate, Bundles: bundles, Source: source,
		NotBefore: certificate.Leaf.NotBefore, NotAfter: certificate.Leaf.NotAfter,
	}
}

// jittered is the pause between attempts: 100 ms doubling to 10 s, the actual one
// drawn from its upper half. It is go-spiffe's strategy and its only back-off.
type jittered struct{ attempts int }

// NewBackoff implements workloadapi.BackoffStrategy; there is one stream a client.
func (j *jittered) NewBackoff() workloadapi.Backoff { return j }

// Next returns the next pause.
func (j *jittered) Next() time.Duration {
	d := 10 * time.Second
	if j.attempts < 7 {
		d = 100 * time.Millisecond << j.attempts
	}
	j.attempts++
	return d/2 + time.Duration(rand.Int64N(int64(d/2)+1))
}

// Reset starts over after a success.
func (j *jittered) Reset() { j.attempts = 0 }
