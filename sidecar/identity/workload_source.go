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
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// WorkloadOptions configures a Workload API source.
type WorkloadOptions struct {
	// Socket is the endpoint: "unix:///run/spire/agent.sock", a plain path or
	// "tcp://IP:PORT"; empty: the environment's SPIFFE_ENDPOINT_SOCKET.
	Socket string
	// ID picks among several SVIDs the one of that name, Hint the one the operator has
	// marked so; with neither it is the first, which the specification calls the
	// default.
	ID   spiffeid.ID
	Hint string
	Log  *slog.Logger
}

// WorkloadAPI is a Source that follows a SPIFFE Workload API.
type WorkloadAPI struct {
	options WorkloadOptions
	log     *slog.Logger
	failure lastError
	several bool // the last answer held several SVIDs; owned by Run
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
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxPause},
			MinConnectTimeout: 5 * time.Second,
		})))
	if err != nil {
		return fmt.Errorf("identity: workload api: %w", err)
	}
	defer client.Close()
	return client.WatchX509Context(ctx, &contextWatcher{source: w, ctx: ctx, out: out})
}

func (w *WorkloadAPI) fail(err error) {
	if advice := w.advice(err); advice != "" {
		err = fmt.Errorf("%w (%s)", err, advice)
	}
	w.failure.note(w.log, "workload api delivers no identity", err)
}

// advice says what to look at for the failures that an operator meets first.
func (w *WorkloadAPI) advice(err error) string {
	switch text := fmt.Sprint(err); {
	case err == nil:
		return ""
	case status.Code(err) == codes.PermissionDenied:
		return fmt.Sprintf("the agent has no registration entry for this process: look at its selectors; ours are unix:uid:%d, unix:gid:%d", os.Getuid(), os.Getgid())
	case strings.Contains(text, "no such file or directory"), strings.Contains(text, "connection refused"):
		return "is the agent running, and is this its socket?"
	case strings.Contains(text, "connect: permission denied"):
		return fmt.Sprintf("may uid %d open the socket and enter its directory?", os.Getuid())
	}
	return ""
}

// contextWatcher receives go-spiffe's updates; its methods are called from the one
// goroutine of WatchX509Context.
type contextWatcher struct {
	source *WorkloadAPI
	ctx    context.Context // of Run: an error after its end is no failure
	out    func(Material)
}

// withdrawn hands on that the API itself, not a failure to reach it, says that the SVID
// is not ours (SPIFFE Workload API section 5.2.1).
func (c *contextWatcher) withdrawn() { c.out(Material{}) }

// OnX509ContextUpdate hands the material on. Bundles are copied out of the set
// here, in the goroutine that made it, for go-spiffe's bundle source is not safe
// to read beside its writer.
func (c *contextWatcher) OnX509ContextUpdate(update *workloadapi.X509Context) {
	svid, err := c.source.pick(update.SVIDs)
	if err != nil {
		c.source.fail(err)
		c.withdrawn()
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
	if c.ctx.Err() != nil || err == nil {
		return
	}
	c.source.fail(err)
	if status.Code(err) == codes.PermissionDenied {
		c.withdrawn()
	}
}

// pick chooses among the SVIDs that are offered. Without a wish it is the first, and
// that there are others is said, since another entry may change which is the first.
func (w *WorkloadAPI) pick(svids []*x509svid.SVID) (*x509svid.SVID, error) {
	o := w.options
	if len(svids) == 0 {
		return nil, errors.New("identity: the workload api sent no svid")
	}
	if o.ID.IsZero() && o.Hint == "" {
		if len(svids) > 1 && !w.several {
			w.log.Warn("several identities are offered and none is configured: the first is ours", "offered", offered(svids))
		}
		w.several = len(svids) > 1
		return svids[0], nil
	}
	for _, s := range svids {
		if o.Hint != "" && s.Hint == o.Hint || s.ID == o.ID {
			return s, nil
		}
	}
	if o.Hint != "" {
		return nil, fmt.Errorf("identity: no svid has the hint %q; offered: %s", o.Hint, offered(svids))
	}
	return nil, fmt.Errorf("identity: no svid is for %s; offered: %s", o.ID, offered(svids))
}

// offered lists a handful of SVIDs with their hints, in the order of the API.
func offered(svids []*x509svid.SVID) string {
	var all []string
	for i, s := range svids {
		if i == namedInErrors {
			all = append(all, fmt.Sprintf("and %d more", len(svids)-i))
			break
		}
		text := s.ID.String()
		if s.Hint != "" {
			text += fmt.Sprintf(" (hint %q)", s.Hint)
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
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

// maxPause is the longest time between two attempts. The socket is local, so that
// little is saved by a longer one; SVIDs of 30 s leave no time for it.
const maxPause = 3 * time.Second

// jittered is the pause between attempts: 100 ms doubling to maxPause, the actual one
// drawn from its upper half. It is go-spiffe's strategy and its only back-off.
type jittered struct{ attempts int }

// NewBackoff implements workloadapi.BackoffStrategy; there is one stream a client.
func (j *jittered) NewBackoff() workloadapi.Backoff { return j }

// Next returns the next pause.
func (j *jittered) Next() time.Duration {
	d := min(maxPause, 100*time.Millisecond<<min(j.attempts, 10))
	j.attempts++
	return d/2 + time.Duration(rand.Int64N(int64(d/2)+1))
}

// Reset starts over after a success.
func (j *jittered) Reset() { j.attempts = 0 }
