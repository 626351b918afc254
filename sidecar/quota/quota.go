// Package quota asks a rate limit service whether a request may pass: version 3 of the protocol
// that Envoy's proxies ask it in (envoy.service.ratelimit.v3), so that limits hold over all
// proxies, whoever made them. It answers the proxy's questions (proxy.Quota) and must not know of
// routes, exchanges or configuration files.
//
// The protocol's two messages are written and read here, in wire.go, with the wire format of
// google.golang.org/protobuf. The generated package of github.com/envoyproxy/go-control-plane would
// bring ten packages with it, 4.7 MiB of every binary and 0.5 MiB of every process's memory, for two
// messages; it is the server of the tests, which hold the two together.
package quota

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/proxy"
)

// Options of a Client.
type Options struct {
	Address  string        // HOST:PORT or unix:///PATH
	Timeout  time.Duration // of one question
	FailOpen bool          // as proxy.Quota.FailOpen
	Calls    int           // at once
	// Remember bounds for how long it is remembered that something is over its limit; 0: not at all.
	Remember time.Duration
	TLS      *tls.Config  // nil: plain text
	Nanos    func() int64 // the engine's clock
	Log      *slog.Logger
}

// Client asks one service over one connection, which it makes when it is first asked, and again
// whenever it has ended.
type Client struct {
	options Options
	conn    *grpc.ClientConn
	calls   *engine.Sem
	over    remembered
	failing atomic.Bool
}

var _ proxy.Quota = (*Client)(nil)

// The pace of connecting again: a service that is back is used again soon.
const (
	leastPause = 100 * time.Millisecond
	mostPause  = 2 * time.Second
	// A connection whose other end has gone without a word ends when it has not acknowledged
	// a question for waitAlive (TCP_USER_TIMEOUT, which comes with keep-alive).
	askAlive  = 10 * time.Second
	waitAlive = 3 * time.Second
)

// maxAnswer bounds an answer in bytes.
const maxAnswer = 64 << 10

// New returns a client; Close is to be called.
func New(o Options) (*Client, error) {
	target := "dns:///" + o.Address
	if strings.HasPrefix(o.Address, "unix://") {
		target = o.Address
	}
	secure := insecure.NewCredentials()
	if o.TLS != nil {
		secure = credentials.NewTLS(o.TLS)
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(secure), grpc.WithNoProxy(),
		grpc.WithUserAgent("larboard"), grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: leastPause, Multiplier: 1.6, Jitter: 0.2, MaxDelay: mostPause},
			MinConnectTimeout: mostPause,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: askAlive, Timeout: waitAlive}))
	if err != nil {
		return nil, fmt.Errorf("rate limit service %s: %w", o.Address, err)
	}
	c := &Client{options: o, conn: conn, calls: engine.NewSem(o.Calls, 0)}
	c.over.init(o.Remember)
	return c, nil
}

// Close ends the connection; what is under way fails.
func (c *Client) Close() error { return c.conn.Close() }

// Calls implements proxy.Quota.
func (c *Client) Calls() *engine.Sem { return c.calls }

// FailOpen implements proxy.Quota.
func (c *Client) FailOpen() bool { return c.options.FailOpen }

// Known implements proxy.Quota: what was over its limit stays so until the service's own time is over.
func (c *Client) Known(q *proxy.Question) (proxy.Answer, bool) {
	return c.over.find(q, c.options.Nanos())
}

// method is the one of the protocol.
const method = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"

// Ask implements proxy.Quota.
func (c *Client) Ask(ctx context.Context, q *proxy.Question) (proxy.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	var r response
	err := c.conn.Invoke(ctx, method, q, &r)
	if err == nil && r.code != codeOK && r.code != codeOverLimit {
		err = fmt.Errorf("it answered with the code %d, which is neither OK nor OVER_LIMIT", r.code)
	}
	if err != nil {
		return proxy.Answer{}, c.failed(ctx, err)
	}
	if c.failing.CompareAndSwap(true, false) {
		c.options.Log.Info("rate limit service answers again", "address", c.options.Address)
	}
	c.over.note(q, &r, c.options.Nanos())
	return r.answer(), nil
}

// failed is the error of a question without an answer. The first of several is logged.
func (c *Client) failed(ctx context.Context, err error) error {
	late := status.Code(err) == codes.DeadlineExceeded || errors.Is(ctx.Err(), context.DeadlineExceeded)
	if ctx.Err() != nil && !late {
		return err // nobody waits any more: it says nothing about the service
	}
	if late {
		err = fmt.Errorf("rate limit service %s: %w within %v", c.options.Address, proxy.ErrQuotaTime, c.options.Timeout)
	} else {
		err = fmt.Errorf("rate limit service %s: %w", c.options.Address, err)
	}
	if c.failing.CompareAndSwap(false, true) {
		c.options.Log.Warn("rate limit service does not answer", "address", c.options.Address, "error", err.Error(), "requests_pass", c.options.FailOpen)
	}
	return err
}
