package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/larboard-proxy/larboard/sidecar/child"
)

// The times of waiting.
const (
	// askFirst is the pause after the first answer; it grows to askMost.
	askFirst = 5 * time.Millisecond
	askMost  = 100 * time.Millisecond
	// askTimeout bounds one question.
	askTimeout = 2 * time.Second
	// quitWithin is how long a proxy that does not answer is asked to end.
	quitWithin = 5 * time.Second
)

func newWait() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "wait [-- COMMAND [ARGUMENT...]]",
		Short: "Wait until a running proxy is ready, then run a command",
		Long: `Waits until the proxy is ready, by its admin interface (/readyz) or, with --probes,
by its listener for probes (/ready). Where it is not ready in time, the exit code is 1
and the reasons are told.

With a command behind -- that is run in place of wait: the same process, so that
signals and exit code are its own. With --quit wait stays, passes signals on, asks the
proxy to end when the command has ended, and ends with the command's exit code: the
form for jobs, whose proxy would otherwise live on.`,
		Example: `  larboard wait && ./app
  larboard wait --timeout 30s -- ./app --port 8080
  larboard wait --quit -- ./job            a job beside a proxy of its own
  larboard wait --probes http://127.0.0.1:15021`,
		Args: onlyCommand,
	}
	admin := adminFlag(cmd)
	flags := cmd.Flags()
	file := flags.StringP("config", "c", "", "configuration `FILE` of the proxy, or env:NAME, to take the address of its admin interface from")
	probes := flags.String("probes", "", "`URL` of the proxy's listener for probes, to ask in place of the admin interface")
	timeout := flags.Duration("timeout", time.Minute, "how long to wait")
	listening := flags.Bool("listening", false, "wait only until the listeners of the configuration given with -c can be connected to: who connects is served once the proxy is ready")
	quit := flags.Bool("quit", false, "ask the proxy to end afterwards")
	cmd.RunE = func(cmd *cobra.Command, command []string) error {
		if *file != "" && !flags.Changed("admin") {
			address, err := adminOf(cmd.ErrOrStderr(), *file)
			if err != nil {
				return err
			}
			*admin = address
		}
		w := waiting{ask: readyz, timeout: *timeout, stderr: cmd.ErrOrStderr()}
		var err error
		if w.admin, err = newAdminClient(*admin); err != nil {
			return err
		}
		if *listening {
			if w.ask, err = askListeners(cmd.ErrOrStderr(), *file); err != nil {
				return err
			}
		}
		if *probes != "" {
			if w.ask, err = probeReady(*probes); err != nil {
				return err
			}
		}
		return w.run(cmd.Context(), command, *quit)
	}
	return cmd
}

// adminOf is where a configuration has the admin interface.
func adminOf(stderr io.Writer, file string) (string, error) {
	c, problems := loadFile(file)
	if len(problems) > 0 {
		return "", refuse(stderr, file, problems)
	}
	switch {
	case c.Admin.Address != "":
		return c.Admin.Address, nil
	case c.Admin.Socket != "":
		path, err := filepath.Abs(c.Admin.Socket)
		return "unix://" + path, err
	}
	return "", &ExitError{Code: exitUsage, Err: fmt.Errorf("%s has no admin interface; add admin: {address: %s}, or use --probes", file, defaultAdmin)}
}

// waiting waits for a proxy and does what comes then.
type waiting struct {
	admin   *adminClient
	ask     func(ctx context.Context, admin *adminClient) error // nil: ready
	timeout time.Duration
	stderr  io.Writer
}

func (w *waiting) run(ctx context.Context, command []string, quit bool) error {
	if ctx == nil {
		ctx = context.Background()
	}
	var path string
	if len(command) > 0 { // what cannot be started is found out at once
		c, err := newChild(child.Options{Command: command})
		if err != nil {
			return err
		}
		path = c.Path()
	}
	if err := w.await(ctx); err != nil {
		return err
	}
	if len(command) > 0 && !quit {
		return fmt.Errorf("%s: %w", path, syscall.Exec(path, command, os.Environ()))
	}
	var result error
	if len(command) > 0 {
		result = beside(command)
	}
	if quit {
		if err := w.quit(ctx); err != nil && result == nil && len(command) == 0 {
			return err
		} else if err != nil {
			fmt.Fprintf(w.stderr, "larboard: the proxy lives on: %v\n", err)
		}
	}
	return result
}

// await returns nil once the proxy is ready.
func (w *waiting) await(ctx context.Context) error {
	until, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	pause := askFirst
	for {
		err := w.ask(until, w.admin)
		if err == nil {
			return nil
		}
		if until.Err() == nil {
			select {
			case <-time.After(pause):
			case <-until.Done():
			}
			pause = min(2*pause, askMost)
		}
		if until.Err() != nil {
			return fmt.Errorf("not ready after %s: %w", w.timeout, w.last(err))
		}
	}
}

// last asks once more where err is only that the time was over in the midst of asking.
func (w *waiting) last(err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	if again := w.ask(ctx, w.admin); again != nil {
		return again
	}
	return err
}

// readyz asks the admin interface; its error tells why the proxy is not ready.
func readyz(ctx context.Context, admin *adminClient) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var v struct {
		Ready   bool
		Reasons []string
	}
	if err := admin.decode(ctx, http.MethodGet, "/readyz", &v, http.StatusOK, http.StatusServiceUnavailable); err != nil {
		return err
	}
	if v.Ready {
		return nil
	}
	return fmt.Errorf("%s: %s", admin.address, printable(strings.Join(v.Reasons, ", ")))
}

// probeReady asks the listener for probes at a URL.
func probeReady(text string) (func(context.Context, *adminClient) error, error) {
	base := strings.TrimSuffix(text, "/")
	if !strings.HasPrefix(base, "http://") || strings.ContainsAny(base, "?#@ ") {
		return nil, &ExitError{Code: exitUsage, Err: fmt.Errorf("--probes %q is not http://HOST:PORT", text)}
	}
	return func(ctx context.Context, _ *adminClient) error {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/ready", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		why, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		if resp.StatusCode == http.StatusOK || err != nil {
			return err
		}
		return fmt.Errorf("%s: %s", base, printable(strings.TrimSpace(string(why))))
	}, nil
}

// quit asks the proxy to end; one that does not answer, for a while.
func (w *waiting) quit(ctx context.Context) error {
	until, cancel := context.WithTimeout(ctx, quitWithin)
	defer cancel()
	for {
		err := w.admin.decode(until, http.MethodPost, "/api/v1/quit", &struct{}{}, http.StatusAccepted)
		if err == nil || errors.As(err, new(*answerError)) {
			return err
		}
		select {
		case <-time.After(askMost):
		case <-until.Done():
			return err
		}
	}
}

// beside runs a command below us and returns its exit code as an error; 0 is nil.
func beside(command []string) error {
	c, err := newChild(child.Options{Command: command})
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
	defer signal.Stop(signals)
	if err := c.Start(); err != nil {
		return fmt.Errorf("the command cannot be started: %w", err)
	}
	for {
		select {
		case sig := <-signals:
			c.Signal(sig)
		case <-c.Ended():
			if c.Code() == 0 {
				return nil
			}
			return &ExitError{Code: c.Code()}
		}
	}
}
