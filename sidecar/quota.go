package sidecar

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/proxy"
	"github.com/larboard-proxy/larboard/sidecar/quota"
)

// quotas holds the client of the rate limit service, which stays over reloads that do not change
// how it is reached.
type quotas struct {
	mu  sync.Mutex
	now quotaClient
	old []quotaClient // still asked by exchanges that began before a reload
}

// quotaClient is a client, or none, and what it was made of.
type quotaClient struct {
	client *quota.Client
	config *config.RateLimitService
	until  time.Time // of an old one
}

// preparedQuota is the client of a configuration that may never be in force.
type preparedQuota struct {
	quotaClient
	fresh bool // it is new, and nobody's yet
}

// prepare returns the client in force if it will do, or else a new one, which connects when it is first
// asked. One with TLS is always new: its files may have changed.
func (q *quotas) prepare(c *config.RateLimitService, nanos func() int64, log *slog.Logger) (*preparedQuota, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := &preparedQuota{quotaClient: quotaClient{config: c}}
	switch {
	case c == nil:
		return p, nil
	case c.TLS == nil && reflect.DeepEqual(c, q.now.config):
		p.client = q.now.client
		return p, nil
	}
	o := quota.Options{Address: c.Address, Timeout: c.Timeout.D(), FailOpen: c.OnFailure == config.QuotaAllow,
		Calls: c.Calls, Remember: c.Remember.D(), Nanos: nanos, Log: log}
	var err error
	if c.TLS != nil {
		if o.TLS, err = clientTLS(c.TLS); err != nil {
			return nil, fmt.Errorf("rate_limit_service.tls: %w", err)
		}
	}
	p.client, err = quota.New(o)
	p.fresh = err == nil
	return p, err
}

// asProxy is the client for the data plane; nil: there is none.
func (p *preparedQuota) asProxy() proxy.Quota {
	if p.client == nil {
		return nil
	}
	return p.client
}

// abandon ends a client that did not come into force.
func (p *preparedQuota) abandon() {
	if p.fresh {
		p.client.Close()
		p.fresh = false
	}
}

// commit brings p into force.
func (q *quotas) commit(p *preparedQuota) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if old := q.now; old.client != nil && old.client != p.client {
		// No exchange asks for longer, and those that have yet to ask are few.
		old.until = time.Now().Add(old.config.Timeout.D() + time.Second)
		q.old = append(q.old, old)
	}
	q.now, p.fresh = p.quotaClient, false
}

// run ends old clients when nobody asks them any more, and the one in force with ctx, at which nothing
// is carried any more.
func (q *quotas) run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			q.close(time.Time{})
			return nil
		case now := <-tick.C:
			q.close(now)
		}
	}
}

// close ends those that are over at a time; zero: all.
func (q *quotas) close(at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	rest := q.old[:0]
	for _, c := range q.old {
		if !at.IsZero() && at.Before(c.until) {
			rest = append(rest, c)
			continue
		}
		c.client.Close()
	}
	clear(q.old[len(rest):])
	q.old = rest
	if at.IsZero() && q.now.client != nil {
		q.now.client.Close()
		q.now = quotaClient{}
	}
}
