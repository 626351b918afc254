// Package cli is the command line of larboard: it reads flags and files, calls
// what does the work, and says in words, colours and exit codes how it went. It
// must not know how anything is carried out.
package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2 // wrong flags or arguments, or a bad configuration
)

// ExitError ends the process with a code of its own. Commands return it where 1,
// for any other error, would be wrong.
type ExitError struct {
	Code int
	Err  error // nil: everything has been said
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

// Unwrap returns the cause.
func (e *ExitError) Unwrap() error { return e.Err }

// defaultFile is the configuration that commands read when -c is not given.
const defaultFile = "larboard.yaml"

// configFlag gives cmd the flag -c and returns its value.
func configFlag(cmd *cobra.Command) *string {
	return cmd.Flags().StringP("config", "c", defaultFile, "configuration `FILE`, or env:NAME for the text of an environment variable")
}

// noArguments refuses arguments with a word on where the file belongs.
func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q; a configuration file is given with -c", args[0])
	}
	return nil
}

// knownCommand refuses what is no command, with the one that was probably meant.
func knownCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	message := fmt.Sprintf("unknown command %q", args[0])
	if near := root.SuggestionsFor(args[0]); len(near) > 0 {
		message += fmt.Sprintf("; did you mean %q?", near[0])
	}
	return errors.New(message)
}

// New returns the command tree, which writes to stdout and stderr. Its Execute
// returns an *ExitError or any other error; Main knows their codes.
func New(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "larboard",
		Short: "A service-mesh proxy that stands beside each workload",
		Long: `Larboard runs beside each workload (or once per host, or at the edge), finds
the other services in Consul, and carries their traffic over mutual TLS.`,
		Example: `  larboard demo                        see it work; nothing to install
  larboard check -c larboard.yaml      is the configuration right?
  larboard config -c larboard.yaml     what does it come to, defaults included?
  larboard run -c larboard.yaml        run the proxy; SIGHUP reloads, SIGTERM drains
  larboard run -- ./app                start the application once the proxy is ready
  larboard ctl reasons no_route        what does this answer of the proxy mean?`,
		Args:                       knownCommand,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SuggestionsMinimumDistance: 2,
		SilenceErrors:              true,
		SilenceUsage:               true,
		CompletionOptions:          cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(newRun(), newWait(), newCheck(), newConfig(), newSchema(), newInject(), newInjector(), newDemo(), newCapture(), newClean(), newCtl(), newInstall(), newVersion())
	return root
}

// Main runs the command line args (without the program's name) and returns the
// exit code. It blocks until the command has ended.
func Main(args []string, stdout, stderr io.Writer) int {
	root := New(stdout, stderr)
	root.SetArgs(args)
	started := false
	root.PersistentPreRun = func(*cobra.Command, []string) { started = true }
	cmd, err := root.ExecuteC()
	if err == nil {
		return exitDone
	}
	var exit *ExitError
	switch {
	case errors.As(err, &exit):
		if exit.Err != nil {
			fmt.Fprintf(stderr, "larboard: %v\n", exit.Err)
		}
		return exit.Code
	case started:
		fmt.Fprintf(stderr, "larboard: %v\n", err)
		return exitFailed
	}
	fmt.Fprintf(stderr, "larboard: %v\nSee '%s --help'.\n", err, cmd.CommandPath())
	return exitUsage
}
