package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/larboard-proxy/larboard/observability/metrics"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar"
	"github.com/larboard-proxy/larboard/sidecar/admin"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

// node is one instance of a service: a workload and the sidecar beside it. web's
// workload is the load itself.
type node struct {
	name, service string
	workload      *workload // nil for web
	sidecar       *sidecar.Sidecar
	file          string // its configuration

	cancel context.CancelFunc
	done   chan error
	killed bool
	seen   metrics.Totals // at the last reading
}

// start writes the node's configuration and runs its sidecar in front of its
// workload.
func (m *mesh) start(ctx context.Context, name, service string, upstreams ...string) (*node, error) {
	n := &node{name: name, service: service, done: make(chan error, 1)}
	if service != "web" {
		w, err := startWorkload(name, service)
		if err != nil {
			return nil, err
		}
		n.workload = w
	}
	n.file = filepath.Join(m.dir, name+".yaml")
	if err := os.WriteFile(n.file, []byte(m.configuration(n, upstreams)), 0o600); err != nil {
		return nil, err
	}
	s, err := sidecar.New(sidecar.Options{
		Load:   func() (*config.Config, error) { return loadFile(n.file) },
		Log:    m.log.With("sidecar", name),
		Source: m.source(), Authority: m.authority,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	n.sidecar = s
	runCtx, cancel := context.WithCancel(ctx)
	n.cancel = cancel
	go func() { n.done <- s.Run(runCtx) }()
	if err := n.waitReady(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if n.workload != nil && len(upstreams) > 0 {
		if err := n.workload.call(n.listener(upstreams[0])); err != nil {
			return nil, err
		}
	}
	return n, m.register(n)
}

func (n *node) waitReady(ctx context.Context) error {
	for end := time.Now().Add(10 * time.Second); !n.sidecar.Ready(); time.Sleep(2 * time.Millisecond) {
		select {
		case err := <-n.done:
			n.done <- err
			return fmt.Errorf("ended: %w", err)
		default:
		}
		if ctx.Err() != nil || time.Now().After(end) {
			return errors.New("not ready in time")
		}
	}
	return nil
}

// listener is where the sidecar listens under that name.
func (n *node) listener(name string) string {
	for _, l := range n.sidecar.Listeners() {
		if l.Name == name && len(l.Addresses) > 0 {
			return l.Addresses[0]
		}
	}
	return ""
}

// kill ends workload and sidecar at once, without a word to anybody.
func (n *node) kill() {
	n.killed = true
	if n.workload != nil {
		n.workload.kill()
	}
	n.cancel()
	<-n.done
}

// stop ends the sidecar gracefully, and then the workload.
func (n *node) stop() error {
	if n.killed {
		return nil
	}
	n.killed = true
	n.sidecar.Stop()
	err := <-n.done
	n.cancel()
	if n.workload != nil {
		n.workload.kill()
	}
	return err
}

// identity is who the node has proven to be.
func (n *node) identity() admin.IdentityView {
	if all := n.sidecar.Identity(); len(all) > 0 {
		return all[0]
	}
	return admin.IdentityView{}
}

// accepted counts the connections its workload's sidecar has accepted from its own
// workload.
func (n *node) accepted() uint64 {
	for _, l := range n.sidecar.Listeners() {
		if l.Direction == "outbound" {
			return l.ConnectionsTotal
		}
	}
	return 0
}

// triedInVain are the exchanges that succeeded although an attempt at that address failed
// for that reason, the latest first.
func (n *node) triedInVain(ctx context.Context, address string, reason policy.Reason) []admin.DecisionView {
	all, err := n.sidecar.Decisions(ctx, admin.DecisionsQuery{Reason: policy.None})
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(all, func(d admin.DecisionView) bool {
		return !slices.ContainsFunc(d.Tries, func(t admin.TryView) bool { return t.Endpoint == address && t.Reason == reason.String() })
	})
}

// since returns what the node has carried since the last call.
func (n *node) since() metrics.Totals {
	service := "local"
	if n.workload == nil {
		service = "api"
	}
	now := n.sidecar.Metrics().Totals(service)
	d := now.Since(n.seen)
	n.seen = now
	return d
}

func loadFile(name string) (*config.Config, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	c, problems := config.Load(filepath.Base(name), data)
	return c, problems.Err()
}
