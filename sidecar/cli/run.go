package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/larboard-proxy/larboard/sidecar"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

func newRun() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the proxy",
		Long: `Runs the proxy until SIGTERM or SIGINT, which drain it: what is under way ends,
within timeouts.drain. A second one ends it at once. SIGHUP reads the
configuration again; one with problems is refused and the old one stays. SIGUSR1 opens
the files of the access logs anew, after they were renamed.

With --sidecar-for it is the sidecar that is registered in Consul for a service, and
needs no file: ports, upstreams and protocols come from the definition, whose changes
take effect at once, the identity from Connect. The agent is found as the commands of
Consul find it, by CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN and so on. A file given with
-c may add the rest: admin, log, timeouts.`,
		Example: `  larboard run -c larboard.yaml
  larboard run --sidecar-for web       instead of: consul connect proxy -sidecar-for web
  kill -HUP $(pidof larboard)          reload`,
		Args: noArguments,
	}
	from := originFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o, err := from()
		if err != nil {
			return err
		}
		return run(o, cmd.ErrOrStderr())
	}
	return cmd
}

func run(o *origin, stderr io.Writer) error {
	lines := newLogWriter(stderr)
	defer lines.Close()
	o.log = newLogger(config.Log{}, lines)
	c, problems, err := o.await(definitionWithin)
	if err != nil {
		return err
	}
	if len(problems) > 0 {
		return refuse(stderr, o.name(), problems)
	}
	cpus := runtime.GOMAXPROCS(0) // still what the runtime has made of the container's limit
	if len(c.CPUs) > 0 {
		if err := bindCPUs(c.CPUs); err != nil {
			return fmt.Errorf("cpus: %w", err)
		}
	}
	// One more than the loops: the control plane must not wait for them, nor they
	// for it.
	runtime.GOMAXPROCS(max(2, sidecar.Loops(c, cpus)+1))
	log := newLogger(c.Log, lines)
	options := sidecar.Options{Log: log, CPUs: cpus, Descriptors: sidecar.DescriptorLimit(), Load: func() (*config.Config, error) {
		c, problems, err := o.checked()
		if err == nil {
			err = problems.Err()
		}
		return c, err
	}}
	if o.sidecarFor != "" {
		options.Changes = o.watch
	}
	s, err := sidecar.New(options)
	var refused config.Problems
	if errors.As(err, &refused) {
		return refuse(stderr, o.name(), refused)
	}
	if err != nil {
		return err
	}
	return serve(s, log)
}

// serve runs s and turns signals into what they mean.
func serve(s *sidecar.Sidecar, log *slog.Logger) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)
	signal.Ignore(syscall.SIGPIPE) // a log reader that leaves must not take us along
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	// Their outcomes are logged.
	reload, endReloads := coalesced(func() { _ = s.Reload() })
	defer endReloads()
	reopen, endReopens := coalesced(func() { _, _ = s.ReopenLogs() })
	defer endReopens()
	stopping := false
	for {
		select {
		case err := <-done:
			if errors.Is(err, context.Canceled) {
				return &ExitError{Code: exitFailed, Err: errors.New("ended before the drain was over")}
			}
			return err
		case sig := <-signals:
			switch {
			case sig == syscall.SIGHUP:
				reload()
			case sig == syscall.SIGUSR1:
				reopen()
			case stopping:
				log.Warn("second signal: ending at once")
				cancel()
			default:
				stopping = true
				s.Stop()
			}
		}
	}
}

// coalesced returns a function that has f called beside the caller; calls that come while
// one waits are one. end is to be called at last.
func coalesced(f func()) (call, end func()) {
	calls := make(chan struct{}, 1)
	go func() {
		for range calls {
			f()
		}
	}()
	call = func() {
		select {
		case calls <- struct{}{}:
		default:
		}
	}
	return call, func() { close(calls) }
}

// loadChecked reads a configuration and looks into the files that it names.
func loadChecked(file string) (*config.Config, config.Problems) {
	c, problems := loadFile(file)
	if c != nil {
		problems = append(problems, namedFiles(c)...)
		problems = append(problems, ofThisHost(c)...)
		problems.Sort()
	}
	return c, problems
}

func newLogger(c config.Log, w io.Writer) *slog.Logger {
	level := slog.LevelInfo
	level.UnmarshalText([]byte(c.Level)) // checked with the configuration
	options := &slog.HandlerOptions{Level: level}
	if c.Format == config.FormatJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
