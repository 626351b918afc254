package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/larboard-proxy/larboard/sidecar/config"
)

// outputChoice is the value of --output.
type outputChoice struct {
	value   string
	allowed []string
}

// outputFlag gives cmd the flag --output, whose default is the first of allowed.
func outputFlag(cmd *cobra.Command, allowed ...string) *outputChoice {
	o := &outputChoice{allowed: allowed}
	cmd.Flags().StringVarP(&o.value, "output", "o", allowed[0], "how to write: "+strings.Join(allowed, " or "))
	return o
}

// valid returns a usage error for a value that is none of the allowed ones.
func (o *outputChoice) valid() error {
	if slices.Contains(o.allowed, o.value) {
		return nil
	}
	return &ExitError{Code: exitUsage, Err: fmt.Errorf("--output %q is none of %s", o.value, strings.Join(o.allowed, ", "))}
}

// The colours of a terminal (ECMA-48, SGR).
const (
	bold   = "\x1b[1m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	normal = "\x1b[0m"
)

// coloured reports whether w is a terminal whose user has not refused colours
// (https://no-color.org).
func coloured(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(file.Fd()))
}

// writeProblems writes one line for each problem.
func writeProblems(w io.Writer, problems config.Problems) {
	inColour := coloured(w)
	for _, p := range problems {
		line := p.String()
		if inColour {
			line = paint(p)
		}
		fmt.Fprintln(w, line)
	}
}

// paint is Problem.String with the position in bold, what is wrong in red and the
// suggestion in green.
func paint(p config.Problem) string {
	line := bold + p.Position() + ":" + normal + " "
	if p.Path != "" {
		line += p.Path + ": "
	}
	line += red + p.Message + normal
	if p.Suggestion != "" {
		line += fmt.Sprintf("; did you mean %s%q%s?", green, p.Suggestion, normal)
	}
	return line
}
