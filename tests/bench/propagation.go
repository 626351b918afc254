//go:build linux

package main

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

const (
	// propagations are the changes of one value, a p99.
	propagations = 40
	// betweenChanges is the rest between two changes. A watch that is in a hurry all the
	// time is slowed down, to spare Consul; this is a calm one.
	betweenChanges = 600 * time.Millisecond
)

// measurePropagation registers the one instance of a service and takes the time from
// the beginning of that call until a request is answered (the subject), or until a
// bare blocking query shows it (the reference): what Consul itself takes.
func (b *bench) measurePropagation(ctx context.Context, s scenario, l *line) error {
	changes := propagations
	if b.o.short {
		changes = 3
	}
	return b.rounds(ctx, l, min(b.o.rounds, 3), func(p *proxy, _ bool) (float64, error) {
		probe := untilAnswered
		if len(p.parts) == 0 {
			probe = untilSeen
		}
		var took []float64
		for range changes {
			d, err := b.propagate(ctx, p.site, probe)
			if err != nil {
				return 0, err
			}
			took = append(took, d.Seconds()*1e3)
		}
		return quantile(took, 0.99), nil
	})
}

// probe returns when the instance registered is seen there.
type probe func(ctx context.Context, s site) error

func (b *bench) propagate(ctx context.Context, s site, seen probe) (time.Duration, error) {
	agent := "http://" + s.Agent + "/v1/agent/service/"
	instance := map[string]any{"Name": "web", "ID": "web-1", "Address": "127.0.0.1", "Port": portOf(s.Origin.HTTP)}
	watching := make(chan error, 1)
	within, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	go func() { watching <- seen(within, s) }()
	if err := pause(ctx, betweenChanges); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := call(ctx, http.MethodPut, agent+"register", instance, nil); err != nil {
		return 0, err
	}
	err := <-watching
	took := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("the instance registered was not seen: %w", err)
	}
	if err := call(ctx, http.MethodPut, agent+"deregister/web-1", nil, nil); err != nil {
		return 0, err
	}
	return took, pause(ctx, betweenChanges)
}

// untilAnswered sends requests one after the other until one is answered by the
// instance.
func untilAnswered(ctx context.Context, s site) error {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.HTTP+"/1", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}

// untilSeen waits in blocking queries.
func untilSeen(ctx context.Context, s site) error {
	index := "0"
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Agent+"/v1/health/service/web?passing=1&wait=60s&index="+index, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		index = resp.Header.Get("X-Consul-Index")
		var first [3]byte
		n, _ := resp.Body.Read(first[:])
		resp.Body.Close()
		if string(first[:n]) != "[]\n" && string(first[:n]) != "[]" {
			return nil
		}
	}
}
