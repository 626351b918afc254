package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/larboard-proxy/larboard/sidecar"
	"github.com/larboard-proxy/larboard/sidecar/child"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

func newRun() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run [-- COMMAND [ARGUMENT...]]",
		Short: "Run the proxy, and an application with it",
		Long: `Runs the proxy until SIGTERM or SIGINT, which drain it: what is under way ends,
within timeouts.drain. A second one ends it at once. SIGHUP reads the
configuration again; one with problems is refused and the old one stays. SIGUSR1 opens
the files of the access logs anew, after they were renamed.

With --sidecar-for it is the sidecar that is registered in Consul for a service, and
needs no file: ports, upstreams and protocols come from the definition, whose changes
take effect at once, the identity from Connect. The agent is found as the commands of
Consul find it, by CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN and so on. A file given with
-c may add the rest: admin, log, timeouts.

With a command behind -- it is started once the proxy is ready, and what run ends with
is its exit code (128 and the number for a signal; 127 and 126 where it cannot be found
or executed). At SIGTERM or SIGINT inbound drains first, then the application gets
that signal and keeps its outbound until it has ended. When it ends by itself, the proxy
drains and ends. SIGUSR1, SIGUSR2, SIGQUIT and SIGWINCH are passed on; SIGHUP is the
proxy's. Standard streams, directory and environment are inherited.`,
		Example: `  larboard run -c larboard.yaml
  larboard run --sidecar-for web       instead of: consul connect proxy -sidecar-for web
  larboard run -c env:LARBOARD_CONFIG -- /app --port 8080
  kill -HUP $(pidof larboard)          reload`,
		Args: onlyCommand,
	}
	from := originFlags(cmd)
	within := cmd.Flags().Duration("start-timeout", time.Minute, "how long the proxy may take to become ready before the command is given up")
	cmd.RunE = func(cmd *cobra.Command, command []string) error {
		o, err := from()
		if err != nil {
			return err
		}
		return run(o, cmd.ErrOrStderr(), command, *within)
	}
	return cmd
}

// onlyCommand takes arguments only behind --.
func onlyCommand(cmd *cobra.Command, args []string) error {
	switch dash := cmd.ArgsLenAtDash(); {
	case dash < 0:
		return noArguments(cmd, args)
	case dash > 0:
		return noArguments(cmd, args[:dash])
	case len(args) == 0:
		return errors.New("no command behind --")
	}
	return nil
}

// The exit codes of a command that cannot be started, as env(1) has them.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
)

// newChild finds the program of a command.
func newChild(o child.Options) (*child.Child, error) {
	o.OwnGroup = !term.IsTerminal(int(os.Stdin.Fd())) // one with a terminal has its signals from there
	o.Without = []string{notifyVariable}
	c, err := child.New(o)
	if err == nil {
		return c, nil
	}
	code := exitNotExecutable
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		code = exitNotFound
	}
	return nil, &ExitError{Code: code, Err: fmt.Errorf("the command cannot be started: %w", err)}
}

func run(o *origin, stderr io.Writer, command []string, within time.Duration) error {
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
	var app *child.Child
	if len(command) > 0 {
		if app, err = newChild(child.Options{Command: command, OnThread: unboundThread()}); err != nil {
			return err
		}
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
	options := sidecar.Options{Log: log, Version: shortVersion(), CPUs: cpus, Descriptors: sidecar.DescriptorLimit(), Load: func() (*config.Config, error) {
		c, problems, err := o.checked()
		if err == nil {
			err = problems.Err()
		}
		return c, err
	}}
	if o.sidecarFor != "" {
		options.Changes = o.watch
	}
	if app != nil {
		options.Application = app
	}
	s, err := sidecar.New(options)
	var refused config.Problems
	if errors.As(err, &refused) {
		return refuse(stderr, o.name(), refused)
	}
	if err != nil {
		return err
	}
	return (&server{sidecar: s, log: log, app: app, within: within}).run()
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
