package consul

import (
	"context"
	"errors"
	"fmt"
)

// Maintain puts the instances into maintenance for a reason, so that nobody finds them,
// or ends that where the reason is empty, whoever began it. What was begun here holds
// over registrations. It blocks for the calls to the agent; its error is that of the
// first one that failed.
func (p *Presence) Maintain(ctx context.Context, reason string) error {
	p.calling.Lock()
	defer p.calling.Unlock()
	p.mu.Lock()
	want, left := p.want, p.left
	p.mu.Unlock()
	if left {
		return errors.New("no longer registered")
	}
	ids := []string{want.Adopt}
	if want.Adopt == "" {
		ids = ids[:0]
		for _, r := range want.Register {
			ids = append(ids, r.ID)
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, reportLimit, hungError{reportLimit})
	defer cancel()
	agent, q := p.client.api.Agent(), p.client.agentQuery().WithContext(ctx)
	for _, id := range ids {
		var err error
		switch {
		case want.Node != "":
			err = p.maintainCatalog(ctx, want.Node, id, reason)
		case reason == "":
			err = agent.DisableServiceMaintenanceOpts(id, q)
		default:
			err = agent.EnableServiceMaintenanceOpts(id, reason, q)
		}
		if err != nil {
			return p.client.failed(ctx, fmt.Sprintf("maintenance of %q", id), "service:write", err)
		}
	}
	p.paused = reason
	return nil
}
