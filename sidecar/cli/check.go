package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/larboard-proxy/larboard/sidecar"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

func newCheck() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check a configuration file and the files it names",
		Long: `Check reads a configuration file and the certificates, keys and tokens that it
names, and reports everything that is wrong, each with its line, its column and
what was probably meant. It contacts nobody and changes nothing. Where this host
allows too few file descriptors for the connections asked for, it says so.

The exit code is 0 for a good configuration and 2 for a bad one.`,
		Example: `  larboard check
  larboard check -c edge.yaml
  larboard check -c edge.yaml --output json | jq '.problems[].message'`,
		Args: noArguments,
	}
	file := configFlag(cmd)
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := output.valid(); err != nil {
			return err
		}
		c, problems := loadChecked(*file)
		if output.value == "json" {
			return checkJSON(cmd.OutOrStdout(), *file, c, problems)
		}
		return checkText(cmd, *file, c, problems)
	}
	return cmd
}

func checkText(cmd *cobra.Command, file string, c *config.Config, problems config.Problems) error {
	if len(problems) > 0 {
		return refuse(cmd.ErrOrStderr(), file, problems)
	}
	listeners, services := sizes(c)
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: ok (%s, %s)\n", file, count(listeners, "listener"), count(services, "service"))
	for _, note := range notes(c) {
		fmt.Fprintf(cmd.OutOrStdout(), "%s: here, %s\n", note.Position(), note.Message)
	}
	return err
}

// refuse prints problems and returns the error that ends the process with code 2.
func refuse(w io.Writer, file string, problems config.Problems) error {
	writeProblems(w, problems)
	fmt.Fprintf(w, "%s: %s\n", file, count(len(problems), "problem"))
	return &ExitError{Code: exitUsage}
}

// checked is the answer of check for machines.
type checked struct {
	File      string          `json:"file"`
	OK        bool            `json:"ok"`
	Listeners int             `json:"listeners"` // 0 where there are problems
	Services  int             `json:"services"`
	Problems  config.Problems `json:"problems"`
	// Notes would be problems on this host, and need be none where the proxy is to run.
	Notes config.Problems `json:"notes,omitempty"`
}

func checkJSON(w io.Writer, file string, c *config.Config, problems config.Problems) error {
	answer := checked{File: file, OK: len(problems) == 0, Problems: problems}
	if answer.OK {
		answer.Problems = config.Problems{} // [] rather than null
		answer.Listeners, answer.Services = sizes(c)
		answer.Notes = notes(c)
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(answer); err != nil {
		return err
	}
	if !answer.OK {
		return &ExitError{Code: exitUsage}
	}
	return nil
}

// notes says what this host does not suffice for.
func notes(c *config.Config) (notes config.Problems) {
	_, err := sidecar.Budget(c, sidecar.Loops(c, 0), sidecar.DescriptorLimit())
	errors.As(err, &notes)
	return notes
}

// sizes counts what the shorthand adds, too.
func sizes(c *config.Config) (listeners, services int) {
	full := config.Expand(c)
	return len(full.Listeners), len(full.Services)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
