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
configuration again; one with problems is refused and the old one stays.`,
		Example: `  larboard run -c larboard.yaml
  kill -HUP $(pidof larboard)          reload`,
		Args: noArguments,
	}
	file := configFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return run(*file, cmd.ErrOrStderr()) }
	return cmd
}

func run(file string, stderr io.Writer) error {
	load := func() (*config.Config, error) {
		c, problems := loadChecked(file)
		return c, problems.Err()
	}
	c, err := load()
	if err != nil {
		var problems config.Problems
		errors.As(err, &problems)
		return refuse(stderr, file, problems)
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
	lines := newLogWriter(stderr)
	defer lines.Close()
	log := newLogger(c.Log, lines)
	s, err := sidecar.New(sidecar.Options{Load: load, Log: log, CPUs: cpus, Descriptors: sidecar.DescriptorLimit()})
	var problems config.Problems
	if errors.As(err, &problems) {
		return refuse(stderr, file, problems)
	}
	if err != nil {
		return err
	}
	return serve(s, log)
}

// serve runs s and turns signals into what they mean.
func serve(s *sidecar.Sidecar, log *slog.Logger) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)
	signal.Ignore(syscall.SIGPIPE) // a log reader that leaves must not take us along
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
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
				go s.Reload() // its outcome is logged
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
