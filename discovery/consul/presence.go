package consul

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

// State is what an instance says of itself.
type State struct {
	Verdict Verdict
	// Output says why, for people.
	Output string
}

// Verdict is one of Consul's three states.
type Verdict string

// The states.
const (
	Passing  Verdict = api.HealthPassing
	Warning  Verdict = api.HealthWarning
	Critical Verdict = api.HealthCritical
)

// Present is what a Presence keeps true.
type Present struct {
	// Register are the instances to be registered, in their order; at least one has a
	// TTL. They are deregistered in the opposite order.
	Register []Registration
	// Adopt is instead the ID of an instance that somebody else has registered: only its
	// TTL checks are kept alive, and it is in maintenance while we are not there.
	Adopt string
	// Node, where it is given, has the instances registered in the servers' catalog on a node of this
	// name, for want of an agent. It is the host's or the pod's own, and no agent's.
	Node string
	// TTL is how long others believe the last report.
	TTL time.Duration
}

// drainReason is the reason of a maintenance that is ours.
const drainReason = "larboard: draining"

// statePoll is how often a change of state is looked for; it is reported at once.
const statePoll = 250 * time.Millisecond

// reportLimit bounds one call of a Presence.
const reportLimit = 3 * time.Second

// Presence keeps instances known to Consul, with a state that tells the truth. The
// loss of Consul costs nothing but a line in the log: it tries on, in step with the
// other queries of the client, and registers anew whatever the agent has forgotten.
type Presence struct {
	// immutable
	client *Client
	state  func() State
	log    *slog.Logger
	kick   chan struct{} // one slot: look now
	// sessionName is like no other's, also that of an earlier run whose session has not ended yet.
	sessionName string

	calling sync.Mutex // held during calls to the agent, so that Leave comes last
	ttls    []string   // checks to feed; guarded by calling
	paused  string     // why Maintain put them into maintenance; empty: it did not; guarded by calling
	ours    []owned    // what we may have registered, in that order; guarded by calling
	catalog catalogState
	adopted bool // the one to adopt has been found; guarded by calling

	mu       sync.Mutex // guards what follows
	want     Present
	known    bool // everything is registered, as far as we know
	left     bool
	reported State
	at       time.Time // of the last report
	err      error
}

// Keep returns a Presence for what is wanted; Run does the work. state must not block.
func (c *Client) Keep(want Present, state func() State) *Presence {
	return &Presence{client: c, want: want, state: state, log: c.log, kick: make(chan struct{}, 1),
		sessionName: fmt.Sprintf("larboard:%s:%08x", want.id(), rand.Uint32())}
}

// Set exchanges what is wanted; what is not any more is deregistered.
func (p *Presence) Set(want Present) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if reflect.DeepEqual(want, p.want) {
		return
	}
	p.want, p.known = want, false
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// Status is the last known state: whether everything is registered, when that was last
// confirmed, and the error in the way of the next report.
func (p *Presence) Status() (registered bool, at time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known && p.err == nil, p.at, p.err
}

// Run keeps the instances known until ctx ends or Leave is called. It leaves them as
// they are when ctx ends.
func (p *Presence) Run(ctx context.Context) error {
	r := p.client.reach("")
	for failures := 0; ; {
		asked := r.ask(ctx)
		err := p.report(asked.ctx)
		asked.end()
		if ctx.Err() != nil || p.gone() {
			return ctx.Err()
		}
		if err == nil {
			failures = 0
			if err := p.rest(ctx, r); err != nil {
				return err
			}
			continue
		}
		failures++
		if _, err := r.wait(ctx, failure{err: err, count: failures, backs: asked.backs}, p.client.rand); err != nil {
			return err
		}
	}
}

// rest waits until there is something to report.
func (p *Presence) rest(ctx context.Context, r *reach) error {
	p.mu.Lock()
	due := p.want.TTL / 3
	due -= time.Duration(p.client.rand() * float64(due) / 4)
	next := p.at.Add(due)
	p.mu.Unlock()
	poll := time.NewTicker(statePoll)
	defer poll.Stop()
	for {
		select {
		case <-poll.C:
		case <-p.kick:
			return ctx.Err()
		case <-r.returns(): // perhaps with nothing left of what we told it
			return ctx.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
		p.mu.Lock()
		same := p.reported == p.state() && !p.left
		p.mu.Unlock()
		if !same || !time.Now().Before(next) {
			return ctx.Err()
		}
	}
}

func (p *Presence) gone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.left
}

// report registers what is not known to be registered, and tells the state.
func (p *Presence) report(ctx context.Context) error {
	p.calling.Lock()
	defer p.calling.Unlock()
	p.mu.Lock()
	want, known, left := p.want, p.known, p.left
	p.mu.Unlock()
	if left {
		return nil
	}
	state := p.state()
	ctx, cancel := context.WithTimeoutCause(ctx, reportLimit, hungError{reportLimit})
	defer cancel()
	err := p.try(ctx, want, known, state)
	if known && isUnknown(err) {
		p.log.Info("consul has forgotten the registration: registering again", "id", want.id())
		err = p.try(ctx, want, false, state)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	p.note(want, state, err)
	if err == nil {
		p.client.reach("").answered()
	}
	return err
}

// note remembers what came of a report, and says what has changed.
func (p *Presence) note(want Present, state State, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		if isUnknown(err) {
			p.known = false
		}
		ended := errors.Is(err, errStale) || errors.Is(err, context.Canceled)
		err = p.client.explain("register", want.needs(), err)
		if p.err == nil && !ended {
			p.log.Warn("consul does not take the registration, trying on", "id", want.id(), "error", err)
		}
		p.err = err
		return
	}
	if p.err != nil || !p.known {
		p.log.Info("registered in consul", "id", want.id(), "adopted", want.Adopt != "", "state", string(state.Verdict))
	}
	// What was exchanged meanwhile is not registered yet.
	p.known, p.err = reflect.DeepEqual(want, p.want), nil
	p.reported, p.at = state, time.Now()
}

// needs are the permissions for it.
func (w Present) needs() string {
	if w.Node != "" {
		return "service:write for both names, and node:write and session:write for the node " + w.Node
	}
	return "service:write"
}

func (w Present) id() string {
	if w.Adopt != "" {
		return w.Adopt
	}
	return w.Register[len(w.Register)-1].ID
}

// try makes one attempt; its errors are the library's.
func (p *Presence) try(ctx context.Context, want Present, known bool, state State) error {
	if want.Node != "" {
		return p.tryCatalog(ctx, want, known, state)
	}
	if !known || want.Adopt != "" { // whose owner may have changed it
		ttls, err := p.join(ctx, want)
		if err != nil {
			return err
		}
		p.ttls = ttls
	}
	q := p.client.agentQuery().WithContext(ctx)
	for _, check := range p.ttls {
		if err := p.client.api.Agent().UpdateTTLOpts(check, state.Output, string(state.Verdict), q); err != nil {
			return err
		}
	}
	return nil
}

// join registers the instances, or finds the one to adopt, and returns the checks to
// feed.
func (p *Presence) join(ctx context.Context, want Present) (ttls []string, err error) {
	if err := p.takeBack(ctx, want); err != nil {
		return nil, err
	}
	if want.Adopt != "" {
		return p.adopt(ctx, want.Adopt)
	}
	agent := p.client.api.Agent()
	for _, r := range want.Register {
		service, err := p.client.registration(ctx, r)
		if err != nil {
			return nil, err
		}
		reason, err := p.maintenance(ctx, r.ID)
		if err != nil {
			return nil, err
		}
		if mine := (owned{id: r.ID}); !slices.Contains(p.ours, mine) {
			p.ours = append(p.ours, mine) // also if no answer comes
		}
		opts := api.ServiceRegisterOpts{ReplaceExistingChecks: true}
		if err := agent.ServiceRegisterOpts(service, opts.WithContext(ctx)); err != nil {
			return nil, err
		}
		if reason == drainReason || reason == "" {
			reason = p.paused
		}
		if reason != "" {
			// Whoever did that is to end it; a registration ends it by the way.
			if err := agent.EnableServiceMaintenanceOpts(r.ID, reason, p.client.agentQuery().WithContext(ctx)); err != nil {
				return nil, err
			}
		}
		if r.TTL > 0 {
			ttls = append(ttls, ttlCheck(r.ID))
		}
	}
	return ttls, nil
}

// takeBack deregisters what we have registered and nobody wants any more. An instance
// that is to be adopted now is somebody else's.
func (p *Presence) takeBack(ctx context.Context, want Present) error {
	for i := len(p.ours) - 1; i >= 0; i-- {
		o := p.ours[i]
		if o.node == want.Node && slices.ContainsFunc(want.Register, func(r Registration) bool { return r.ID == o.id }) {
			continue
		}
		if o.id != want.Adopt {
			if err := p.withdraw(ctx, o); err != nil {
				return err
			}
		}
		p.ours = slices.Delete(p.ours, i, i+1)
	}
	if want.Node == "" {
		p.endSession(ctx)
	}
	return nil
}

// adopt ends a maintenance of our own and returns the TTL checks of an instance.
func (p *Presence) adopt(ctx context.Context, id string) (ttls []string, err error) {
	checks, err := p.checksOf(ctx, id)
	if err != nil {
		return nil, err
	}
	p.adopted = true
	for _, check := range checks {
		if check.CheckID == maintenanceCheck(id) && check.Notes == drainReason {
			if err := p.client.api.Agent().DisableServiceMaintenanceOpts(id, p.client.agentQuery().WithContext(ctx)); err != nil {
				return nil, err
			}
		}
		if check.Type == "ttl" {
			ttls = append(ttls, check.CheckID)
		}
	}
	return ttls, nil
}

func maintenanceCheck(id string) string { return api.ServiceMaintPrefix + id }

// maintenance is why an instance is in maintenance; empty: it is not.
func (p *Presence) maintenance(ctx context.Context, id string) (reason string, err error) {
	checks, err := p.checksOf(ctx, id)
	if isStatus(err, http.StatusNotFound) {
		return "", nil
	}
	for _, check := range checks {
		if check.CheckID == maintenanceCheck(id) {
			return firstOf(check.Notes, "no reason was given"), err
		}
	}
	return "", err
}

// checksOf are the checks of an instance, which need not exist.
func (p *Presence) checksOf(ctx context.Context, id string) (map[string]*api.AgentCheck, error) {
	return p.client.api.Agent().ChecksWithFilterOpts(fmt.Sprintf("ServiceID == %q", id), p.client.agentQuery().WithContext(ctx))
}

// Leave takes the instances away, or puts the adopted one into maintenance unless it
// is; Run ends. It blocks until that is done, or ctx ends, and says in the log what
// failed. Only the first call does something.
func (p *Presence) Leave(ctx context.Context) {
	p.mu.Lock()
	was := p.left
	p.left = true
	p.mu.Unlock()
	if was {
		return
	}
	p.calling.Lock() // a report under way ends first
	defer p.calling.Unlock()
	p.mu.Lock()
	want := p.want
	p.known = false
	p.mu.Unlock()
	for _, o := range slices.Backward(p.ours) {
		if err := p.withdraw(ctx, o); err != nil {
			p.log.Warn("not deregistered", "error", p.client.failed(ctx, fmt.Sprintf("deregister %q", o.id), "service:write", err))
		}
	}
	p.endSession(ctx)
	if want.Adopt != "" && p.adopted {
		p.pause(ctx, want.Adopt)
	}
}

// pause puts an adopted instance into maintenance.
func (p *Presence) pause(ctx context.Context, id string) {
	reason, err := p.maintenance(ctx, id)
	if err == nil && reason == "" {
		err = p.client.api.Agent().EnableServiceMaintenanceOpts(id, drainReason, p.client.agentQuery().WithContext(ctx))
	}
	if err != nil {
		p.log.Warn("not in maintenance", "error", p.client.failed(ctx, fmt.Sprintf("maintenance of %q", id), "service:write", err))
	}
}

// isUnknown reports whether the agent has never heard of what err is about. Older
// agents answer 500.
func isUnknown(err error) bool {
	var status api.StatusError
	return errors.Is(err, errForgotten) || errors.As(err, &status) && (status.Code == http.StatusNotFound || strings.Contains(status.Body, "nknown check"))
}
