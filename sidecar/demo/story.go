package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/admin"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

// step is one thing that happens to the mesh. run does it, and returns what the
// clients saw, or an error if the step did not show what it claims.
type step struct {
	title string
	run   func(ctx context.Context, d *demo) (string, error)
}

// story is told in this order.
func story() []step {
	return []step{
		{"web calls api, api calls stock by gRPC: every hop is mutual TLS", steady},
		{"api-2 is killed, workload and sidecar, without a goodbye", kill},
		{"api-4 is started and registered", add},
		{"api-3 begins to answer 500 to every call", failing},
		{"api-4 becomes slow: its answers take " + (3 * tryTimeout).String(), slow},
		{"one call, of which api-1 answers 503 to the first attempt, is followed through the mesh", followed},
		{"a visitor calls far more often than visitors may", greedy},
		{"every certificate is rotated", rotate},
		{"a stranger without an identity knocks, in plain text and in TLS", stranger},
		{"a stranger of another trust domain knocks", foreign},
		{"web calls stock, which lists only api", unlisted},
		{"the configuration of api-1 is changed and reloaded", reload},
		{"a broken configuration is offered", broken},
	}
}

// patience is how long a step waits for what it claims: a moment on a machine with
// nothing else to do, and longer on a crowded one.
const patience = 25 * time.Second

// until waits for a condition, which the load brings about.
func until(ctx context.Context, what string, ok func() bool) error {
	end := time.Now().Add(patience)
	for !ok() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(end) {
			return errors.New("waited in vain until " + what)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// calls waits until the clients have made n more, and fails if any of them failed.
func (d *demo) calls(ctx context.Context, n int) error {
	start := d.load.read()
	err := until(ctx, fmt.Sprintf("%d more calls were made", n), func() bool { return d.load.read().requests >= start.requests+n })
	if now := d.load.read(); err == nil && now.failed > 0 {
		return fmt.Errorf("%d calls failed, the first one: %w", now.failed, now.err)
	}
	return err
}

func steady(ctx context.Context, d *demo) (string, error) {
	names := []string{"api-1", "api-2", "api-3", "stock-1", "stock-2"}
	err := until(ctx, "every instance has answered", func() bool {
		for _, n := range names {
			if d.load.answers(n) < 5 {
				return false
			}
		}
		return true
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("all %d instances answer; callers and callees have proven their SPIFFE IDs", len(names)), d.calls(ctx, 100)
}

func kill(ctx context.Context, d *demo) (string, error) {
	n := d.mesh.node("api-2")
	before := d.load.read()
	n.kill()
	if err := d.calls(ctx, 300); err != nil {
		return "", err
	}
	last := d.load.answers("api-2")
	if err := d.calls(ctx, 50); err != nil {
		return "", err
	}
	if now := d.load.answers("api-2"); now != last {
		return "", errors.New("the dead instance still answers")
	}
	d.mesh.forget(ctx, n)
	return fmt.Sprintf("%d calls since, none failed: broken ones were repeated at another instance", d.load.read().requests-before.requests), nil
}

func add(ctx context.Context, d *demo) (string, error) {
	began := time.Now()
	if _, err := d.mesh.start(ctx, "api-4", "api", "stock"); err != nil {
		return "", err
	}
	registered := time.Now()
	if err := until(ctx, "api-4 has answered", func() bool { return d.load.answers("api-4") > 0 }); err != nil {
		return "", err
	}
	return fmt.Sprintf("started in %s; its first answer came %s after it was registered",
		round(registered.Sub(began)), round(time.Since(registered))), d.calls(ctx, 50)
}

// failing shows repeats and ejection: callers see nothing of an instance that fails.
func failing(ctx context.Context, d *demo) (string, error) {
	n := d.mesh.node("api-3")
	n.workload.failing.Store(true)
	defer n.workload.failing.Store(false)
	if err := until(ctx, "api-3 is ejected", func() bool { return d.screen.state(n) == "ejected" }); err != nil {
		return "", err
	}
	began, failed, answered := time.Now(), n.workload.spoilt.Load(), d.load.answers("api-3")
	if err := d.calls(ctx, 100); err != nil {
		return "", err
	}
	n.workload.failing.Store(false)
	if err := until(ctx, "api-3 answers again", func() bool { return d.load.answers("api-3") > answered }); err != nil {
		return "", err
	}
	return fmt.Sprintf("ejected after %d of them, each repeated at another instance; repaired, it was back after %s",
		failed, round(time.Since(began))), d.calls(ctx, 50)
}

// slow shows the time that each attempt is given.
func slow(ctx context.Context, d *demo) (string, error) {
	n := d.mesh.node("api-4")
	n.workload.slow.Store(true)
	defer n.workload.slow.Store(false)
	var given []admin.DecisionView
	err := until(ctx, "attempts at api-4 are given up", func() bool {
		given = d.mesh.node("web").triedInVain(ctx, n.listener(config.InboundListener), policy.TryTimeout)
		return len(given) > 0
	})
	if err != nil {
		return "", err
	}
	n.workload.slow.Store(false)
	if err := d.calls(ctx, 100); err != nil {
		return "", err
	}
	return fmt.Sprintf("given up after %s and repeated: %s", tryTimeout, d.mesh.attempts(&given[0])), nil
}

// greedy shows a rate limit: who is over it is told so, and others do not notice.
func greedy(ctx context.Context, d *demo) (string, error) {
	client := newClient()
	defer client.CloseIdleConnections()
	shop := d.mesh.node("web").listener("shop")
	served, refused, again := 0, 0, ""
	for range 10 * visits {
		status, header, err := visit(ctx, client, shop, "robot")
		switch {
		case err != nil:
			return "", err
		case status == http.StatusOK:
			served++
		case status == http.StatusTooManyRequests && header.Get("X-Larboard-Reason") == policy.RateLimited.String():
			refused, again = refused+1, header.Get("Retry-After")
		default:
			return "", fmt.Errorf("status %d", status)
		}
	}
	if served != visits || again == "" {
		return "", fmt.Errorf("%d calls passed, %d were refused (%q)", served, refused, again)
	}
	if status, _, err := visit(ctx, client, shop, "guest"); err != nil || status != http.StatusOK {
		return "", fmt.Errorf("another visitor is told %d, %w", status, err)
	}
	return fmt.Sprintf("%d of its calls passed, %d were answered 429 with the reason %s and Retry-After: %s; another visitor passes",
		served, refused, policy.RateLimited, again), d.calls(ctx, 50)
}

// visit calls at the shop's own door.
func visit(ctx context.Context, client *http.Client, shop, name string) (int, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+shop+"/items", nil)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("x-visitor", name)
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header, err
}

func rotate(ctx context.Context, d *demo) (string, error) {
	serials := map[string]string{}
	for _, n := range d.mesh.all() {
		if !n.killed {
			serials[n.name] = n.identity().Serial
		}
	}
	if err := d.mesh.authority.RotateRoot(); err != nil {
		return "", err
	}
	err := until(ctx, "every sidecar has a new certificate", func() bool {
		for _, n := range d.mesh.all() {
			if !n.killed && n.identity().Serial == serials[n.name] {
				return false
			}
		}
		return true
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d sidecars use new certificates and a new root; no connection was cut", len(serials)), d.calls(ctx, 200)
}

func stranger(ctx context.Context, d *demo) (string, error) {
	n := d.mesh.node("api-1")
	if err := d.mesh.refused(ctx, n, nil, policy.TLSPlainText); err != nil {
		return "", err
	}
	cfg, err := credentials(d.mesh.authority, "/nobody")
	if err != nil {
		return "", err
	}
	cfg.Certificates, cfg.GetClientCertificate = nil, nil
	if err := d.mesh.refused(ctx, n, cfg, policy.TLSNoCertificate); err != nil {
		return "", err
	}
	return "refused and counted: " + policy.TLSPlainText.String() + ", " + policy.TLSNoCertificate.String(), d.calls(ctx, 20)
}

func foreign(ctx context.Context, d *demo) (string, error) {
	cfg, err := d.mesh.foreigner()
	if err != nil {
		return "", err
	}
	if err := d.mesh.refused(ctx, d.mesh.node("api-1"), cfg, policy.TLSUnknownDomain); err != nil {
		return "", err
	}
	return "refused and counted: " + policy.TLSUnknownDomain.String(), d.calls(ctx, 20)
}

func unlisted(ctx context.Context, d *demo) (string, error) {
	cfg, err := credentials(d.mesh.authority, strings.TrimPrefix(d.mesh.id("web"), "spiffe://"+trustDomain))
	if err != nil {
		return "", err
	}
	status, reason, err := knock(ctx, d.mesh.node("stock-1").listener("inbound"), cfg)
	if err != nil {
		return "", err
	}
	if status != 403 || reason != policy.NotAllowed.String() {
		return "", fmt.Errorf("status %d, reason %q", status, reason)
	}
	return fmt.Sprintf("answered %d with the reason %s: authentic, but not on the list", status, reason), d.calls(ctx, 20)
}

func reload(ctx context.Context, d *demo) (string, error) {
	n := d.mesh.node("api-1")
	if err := edit(n.file, func(text string) string {
		return strings.Replace(text, "service: stock,", "service: stock, balance: p2c,", 1)
	}); err != nil {
		return "", err
	}
	before := n.accepted()
	if err := n.sidecar.Reload(); err != nil {
		return "", err
	}
	if err := d.calls(ctx, 100); err != nil {
		return "", err
	}
	if now := n.accepted(); now != before {
		return "", fmt.Errorf("its connections were not kept: %d accepted before, %d after", before, now)
	}
	return fmt.Sprintf("in force at once; connections kept: %d", before), nil
}

func broken(ctx context.Context, d *demo) (string, error) {
	n := d.mesh.node("api-1")
	good, err := os.ReadFile(n.file)
	if err != nil {
		return "", err
	}
	if err := edit(n.file, func(text string) string { return strings.Replace(text, "upstreams:", "upstream:", 1) }); err != nil {
		return "", err
	}
	refusal := n.sidecar.Reload()
	if err := os.WriteFile(n.file, good, 0o600); err != nil {
		return "", err
	}
	if refusal == nil {
		return "", errors.New("it was accepted")
	}
	first, _, _ := strings.Cut(refusal.Error(), "\n")
	if !strings.Contains(first, `did you mean "upstreams"`) {
		return "", fmt.Errorf("the refusal does not help: %w", refusal)
	}
	return "refused: " + first, d.calls(ctx, 50)
}

func edit(file string, change func(string) string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	changed := change(string(text))
	if changed == string(text) {
		return errors.New("the edit changes nothing")
	}
	return os.WriteFile(file, []byte(changed), 0o600)
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
