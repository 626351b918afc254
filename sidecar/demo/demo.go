package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// Options of a demo.
type Options struct {
	// Consul is the address of a real agent; empty: a registry in memory.
	Consul string
	// Once tells the story and ends; otherwise the mesh runs on until ctx ends.
	Once bool
	// Terminal redraws the table in place; otherwise it is printed after each step.
	Terminal bool
	Rate     int           // calls a second; 0: 200
	Pause    time.Duration // after each step; 0: long enough to read
	Out      io.Writer
	Log      *slog.Logger // of the sidecars; nil discards
}

// demo is a running demo.
type demo struct {
	options Options
	mesh    *mesh
	load    *load
	screen  *screen
}

// pause lets people read; the story must stay within half a minute.
const pause = 500 * time.Millisecond

// Run tells the story. It returns an error unless every step showed what it claims
// and no call failed.
func Run(ctx context.Context, o Options) (err error) {
	if o.Rate == 0 {
		o.Rate = 200
	}
	if o.Pause == 0 {
		o.Pause = pause
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	m, err := newMesh(o)
	if err != nil {
		return err
	}
	began := time.Now()
	fmt.Fprintf(o.Out, "larboard demo: web -> api (3 instances) -> stock (2 instances, gRPC), a sidecar beside each, endpoints from %s\n\n", registryName(o))
	meshCtx, endMesh := context.WithCancel(context.WithoutCancel(ctx))
	defer endMesh()
	if err := m.build(meshCtx); err != nil {
		return errors.Join(err, m.close())
	}
	d := &demo{options: o, mesh: m, load: newLoad(m.node("web").listener("api"), o.Rate), screen: newScreen(o)}
	loadCtx, endLoad := context.WithCancel(ctx)
	loadDone := make(chan struct{})
	go func() { d.load.run(loadCtx); close(loadDone) }()
	d.screen.start(d)

	passed, failures := d.tell(ctx)
	if !o.Once && ctx.Err() == nil {
		d.screen.say("The story is told; the mesh runs on. Ctrl-C ends it. Configurations: %s", m.dir)
		<-ctx.Done()
	}
	endLoad()
	<-loadDone
	d.screen.stop()
	if err := m.close(); err != nil {
		failures = append(failures, err)
	}
	return d.summary(passed, failures, time.Since(began))
}

func registryName(o Options) string {
	if o.Consul != "" {
		return "Consul at " + o.Consul
	}
	return "a registry in memory"
}

// tell runs the steps; one that fails does not keep the others from being told.
func (d *demo) tell(ctx context.Context) (passed int, failures []error) {
	for i, s := range story() {
		if ctx.Err() != nil {
			return passed, failures
		}
		began := time.Now()
		seen, err := s.run(ctx, d)
		if err != nil {
			if ctx.Err() == nil {
				failures = append(failures, fmt.Errorf("step %d, %s: %w", i+1, s.title, err))
			}
			d.screen.told(i+1, s.title, "FAILED: "+err.Error(), false, time.Since(began))
		} else {
			passed++
			d.screen.told(i+1, s.title, seen, true, time.Since(began))
		}
		sleep(ctx, d.options.Pause)
	}
	return passed, failures
}

func (d *demo) summary(passed int, failures []error, took time.Duration) error {
	c := d.load.read()
	fmt.Fprintf(d.options.Out, "\nsummary: requests %d, failed %d; steps %d of %d passed in %s\n",
		c.requests, c.failed, passed, len(story()), took.Round(100*time.Millisecond))
	if c.failed > 0 {
		failures = append(failures, fmt.Errorf("%d calls failed, the first one: %w", c.failed, c.err))
	}
	if d.options.Once && passed < len(story()) && len(failures) == 0 {
		failures = append(failures, errors.New("the story was not told to its end"))
	}
	return errors.Join(failures...)
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
