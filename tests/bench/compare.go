//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// bench is one comparison under way.
type bench struct {
	o                 options
	self, dir         string
	proxyCPU, loadCPU int
	larboard          string // the binary measured
	site              site
	origin, sinks     *process
	consul            *consulAgent // nil until a scenario needs it
	progress          io.Writer
}

// compare runs the selected scenarios. A scenario that fails is reported as
// unmeasured and the next one runs; an error means that nothing could. When ctx
// ends, what was measured so far is reported, and the rest as interrupted.
func compare(ctx context.Context, o options) (*report, error) {
	b := &bench{o: o, progress: os.Stderr}
	var err error
	if b.proxyCPU, b.loadCPU, err = twoCPUs(); err != nil {
		return nil, err
	}
	if b.self, err = os.Executable(); err != nil {
		return nil, fmt.Errorf("own path: %w", err)
	}
	if b.dir, err = os.MkdirTemp("", "larboard-bench-*"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(b.dir)
	if err := b.prepare(ctx); err != nil {
		return nil, err
	}
	if b.origin, err = startProcess(b.loadCPU, "origin", b.self, roleOrigin); err != nil {
		return nil, err
	}
	defer b.origin.stop()
	if err := b.origin.decode(ctx, 10*time.Second, &b.site.Origin); err != nil {
		return nil, err
	}
	if b.sinks, err = startProcess(b.loadCPU, "sinks", b.self, roleSinks, b.dir); err != nil {
		return nil, err
	}
	defer b.sinks.stop()
	if err := b.sinks.decode(ctx, 10*time.Second, &b.site.Sinks); err != nil {
		return nil, err
	}
	b.site.Dir = b.dir
	rep, err := b.scenarios(ctx)
	if b.consul != nil {
		b.consul.process.stop()
	}
	return rep, err
}

func (b *bench) scenarios(ctx context.Context) (*report, error) {
	rep := b.newReport()
	for _, s := range scenarios {
		if !b.o.run.MatchString(s.name) {
			continue
		}
		line, err := b.measure(ctx, s) // which fails at once when ctx has ended
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		if err != nil {
			line.Error = err.Error()
			fmt.Fprintf(b.progress, "%s: not measured: %v\n", s.name, err)
		}
		line.judge(b.judged())
		rep.Scenarios = append(rep.Scenarios, line)
	}
	if len(rep.Scenarios) == 0 {
		return nil, fmt.Errorf("no scenario matches %q", b.o.run)
	}
	return rep, nil
}

// judged says whether the targets, which are ratios to HAProxy, apply.
func (b *bench) judged() bool { return !b.o.noise && b.o.baseline == "" }

// prepare finds or builds the binaries and writes the certificate.
func (b *bench) prepare(ctx context.Context) error {
	if b.o.baseline == "" {
		if err := b.findHAProxy(ctx); err != nil {
			return err
		}
	}
	var err error
	if !b.o.noise {
		if b.larboard, err = b.larboardBinary(ctx); err != nil {
			return err
		}
	}
	if b.o.baseline != "" {
		if b.o.baseline, err = b.baselineBinary(ctx); err != nil {
			return err
		}
	}
	if b.site.Files, err = writeCertificates(b.dir); err != nil {
		return err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("open files: %w", err)
	}
	b.site.FDs = min(limit.Max, 100_000)
	return nil
}

func (b *bench) findHAProxy(ctx context.Context) error {
	_, err := exec.LookPath(b.o.haproxy)
	if err == nil {
		return nil
	}
	if !b.o.install || os.Geteuid() != 0 {
		return fmt.Errorf("%w (Debian: apt-get install haproxy; or -install as root)", err)
	}
	fmt.Fprintln(b.progress, "installing haproxy with apt-get, about half a minute")
	for _, argv := range [][]string{{"apt-get", "update", "-qq"}, {"apt-get", "install", "-y", "-qq", "--no-install-recommends", "haproxy"}} {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		cmd.Stdout, cmd.Stderr = b.progress, b.progress
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", argv[0], err)
		}
	}
	_, err = exec.LookPath(b.o.haproxy)
	return err
}

// load runs one window in a child of its own.
func (b *bench) load(ctx context.Context, spec loadSpec) (loadResult, error) {
	var result loadResult
	child, err := b.startLoad(spec)
	if err != nil {
		return result, err
	}
	defer child.stop()
	if err := child.decode(ctx, spec.Window+30*time.Second, &result); err != nil {
		return result, err
	}
	return result, result.check()
}

// tolerated is the share of failed requests above which a window counts as
// unmeasured: what fails is cheaper than what succeeds.
const tolerated = 0.001

func (r loadResult) check() error {
	if r.Requests == 0 {
		return fmt.Errorf("no request was answered in %v; %d failed, the first: %q; %.2f of a CPU went to others",
			r.Elapsed, r.Failed, r.Example, r.Foreign)
	}
	if float64(r.Failed) > tolerated*float64(r.Requests) {
		return fmt.Errorf("%d of %d requests failed, the first: %s", r.Failed, r.Requests+r.Failed, r.Example)
	}
	return nil
}
