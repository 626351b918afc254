//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// measure runs the rounds of one scenario.
func (b *bench) measure(ctx context.Context, s scenario) (line, error) {
	l := line{Name: s.name, About: s.about, Unit: s.kind.unit(), Target: s.target, Limit: s.limit, site: b.site}
	l.site.WantH2 = s.spec.Streams > 0
	l.site.Buffer, l.site.WantMutual, l.site.NoTickets = s.buffer, s.spec.TLS == mutualTLS, s.noTickets
	if b.o.user && s.kind == cpuEach {
		l.Unit = "us user"
	}
	var err error
	if l.reference, l.subject, err = b.sides(ctx, s); err != nil {
		return l, err
	}
	l.Against, l.With = l.reference.name, l.subject.name
	switch s.kind {
	case cpuEach:
		err = b.measureCPU(ctx, s, &l)
	case idleMemory:
		err = b.measureIdle(ctx, s, &l)
	case tailLatency:
		err = b.measureTail(ctx, s, &l)
	case bulkCPU, bulkTime:
		err = b.measureBulk(ctx, s, &l)
	case addedDelay:
		err = b.measureAdded(ctx, s, &l)
	case residentSet:
		err = b.measureResident(ctx, s, &l)
	case propagation:
		err = b.measurePropagation(ctx, s, &l)
	}
	if err == nil {
		l.summary = summarize(l.Rounds)
	}
	return l, err
}

// value measures one side of a round on a proxy that was just started. Two
// processes of one program differ by a few per cent for as long as they live
// (where their memory happens to lie); a fresh one for each value puts that
// into the spread instead of the ratio.
type value func(p *proxy, subject bool) (float64, error)

// rounds takes n pairs of values, first the one proxy then the other and in the
// next round the other way round, so that a drift of the machine favours
// neither.
func (b *bench) rounds(ctx context.Context, l *line, n int, measure value) error {
	for i := range n {
		var p pair
		for _, subject := range []bool{i%2 == 1, i%2 == 0} {
			v, err := b.fresh(ctx, l, subject, measure)
			if err != nil {
				return err
			}
			if subject {
				p.Subject = v
			} else {
				p.Reference = v
			}
		}
		l.Rounds = append(l.Rounds, p)
		fmt.Fprintf(b.progress, "%-14s %d/%d  %s %s  %s %s %s  ratio %.3f\n", l.Name, i+1, n,
			l.Against, figure(p.Reference), l.With, figure(p.Subject), l.Unit, p.ratio())
	}
	return nil
}

func (b *bench) fresh(ctx context.Context, l *line, subject bool, measure value) (float64, error) {
	c := l.reference
	if subject {
		c = l.subject
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	p, err := c.start(ctx, b.proxyCPU, b.dir, l.site)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	v, err := measure(p, subject)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", c.name, err)
	}
	return v, nil
}

// measureCPU takes the proxy's own CPU time for each completed request.
func (b *bench) measureCPU(ctx context.Context, s scenario, l *line) error {
	repeat := repeater{bench: b, line: l, limit: disturbedCPU, spare: 2 * b.o.rounds}
	return b.rounds(ctx, l, b.o.rounds, func(p *proxy, subject bool) (float64, error) {
		r, err := repeat.window(ctx, b.spec(s, p, b.o.round))
		if err != nil {
			return 0, err
		}
		l.note(subject, r)
		if b.o.user {
			return float64(r.User) / float64(r.Requests) / 1e3, nil
		}
		return float64(r.CPU) / float64(r.Requests) / 1e3, nil
	})
}

// spec is a scenario's load for one running proxy.
func (b *bench) spec(s scenario, p *proxy, window time.Duration) loadSpec {
	spec := s.spec
	spec.Window, spec.User = window, b.o.user && s.kind == cpuEach
	spec.Watch = watched{Proxies: p.pids(), Origin: b.origin.pid(), CPUs: []int{b.proxyCPU, b.loadCPU}}
	files := p.site.Files
	spec.CA, spec.Cert, spec.Key = files.CA, files.Client.Cert, files.Client.Key
	switch {
	case len(p.parts) > 1:
		spec.Addr = p.site.Near
	case spec.Streams > 0 && spec.TLS == serverTLS:
		spec.Addr = p.site.H2TLS
	case spec.Streams > 0 && s.down:
		spec.Addr = p.site.H2Down
	case spec.Streams > 0:
		spec.Addr = p.site.H2
	case spec.Bulk:
		spec.Addr = p.site.Bulk
	case !spec.HTTP:
		spec.Addr = p.site.TCP
	case spec.TLS == serverTLS:
		spec.Addr = p.site.HTTPS
	case spec.TLS == mutualTLS:
		spec.Addr = p.site.Mutual
	default:
		spec.Addr = p.site.HTTP
	}
	return spec
}

func (b *bench) startLoad(spec loadSpec) (*process, error) {
	argument, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	return startProcess(b.loadCPU, "load", b.self, roleLoad, string(argument))
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
