package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// measure runs the rounds of one scenario, first the one proxy then the other
// and in the next round the other way round, so that a drift of the machine
// favours neither.
func (b *bench) measure(ctx context.Context, s scenario) (line, error) {
	l := line{Name: s.name, About: s.about, Unit: s.unit(), Target: s.target}
	var err error
	switch {
	case s.idle > 0:
		err = b.measureIdle(ctx, s, &l)
	case s.tail:
		err = b.withBoth(ctx, func(reference, subject *proxy) error {
			return b.measureTail(ctx, s, &l, reference, subject)
		})
	default:
		err = b.withBoth(ctx, func(reference, subject *proxy) error {
			return b.measureCPU(ctx, s, &l, reference, subject)
		})
	}
	if err == nil {
		l.summary = summarize(l.Rounds)
	}
	return l, err
}

// withBoth keeps both proxies alive for a scenario; the one that is not loaded
// sleeps.
func (b *bench) withBoth(ctx context.Context, f func(reference, subject *proxy) error) error {
	reference, err := b.reference.start(ctx, b.proxyCPU, b.dir, b.site)
	if err != nil {
		return err
	}
	defer reference.stop()
	subject, err := b.subject.start(ctx, b.proxyCPU, b.dir, b.site)
	if err != nil {
		return err
	}
	defer subject.stop()
	return f(reference, subject)
}

// rounds calls one for both proxies n times and collects the values.
func (b *bench) rounds(l *line, n int, one func(subject bool) (float64, error)) error {
	for i := range n {
		var p pair
		for _, subject := range []bool{i%2 == 1, i%2 == 0} {
			v, err := one(subject)
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
		fmt.Fprintf(b.progress, "%-10s %d/%d  %s %.4g  %s %.4g %s  ratio %.3f\n", l.Name, i+1, n,
			b.reference.name, p.Reference, b.subject.name, p.Subject, l.Unit, p.ratio())
	}
	return nil
}

// spec is a scenario's load for one running proxy.
func (b *bench) spec(s scenario, p *proxy, window time.Duration) loadSpec {
	spec := s.spec
	spec.Window = window
	spec.Watch = watched{Proxy: p.pid(), Origin: b.origin.pid(), CPUs: []int{b.proxyCPU, b.loadCPU}}
	spec.Addr = p.site.TCP
	if spec.HTTP {
		spec.Addr = p.site.HTTP
	}
	if spec.CA != "" {
		spec.Addr, spec.CA = p.site.HTTPS, p.site.Cert
	}
	return spec
}

// measureCPU takes the proxy's own CPU time for each completed request.
func (b *bench) measureCPU(ctx context.Context, s scenario, l *line, reference, subject *proxy) error {
	return b.rounds(l, b.o.rounds, func(second bool) (float64, error) {
		p := reference
		if second {
			p = subject
		}
		r, err := b.load(ctx, b.spec(s, p, b.o.round))
		if err != nil {
			return 0, fmt.Errorf("%s: %w", p.name, err)
		}
		l.note(second, r)
		return float64(r.CPU) / float64(r.Requests) / 1e3, nil
	})
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
