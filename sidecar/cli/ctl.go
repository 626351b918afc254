package cli

import (
	"encoding/json"
	"io"

	"github.com/spf13/cobra"
)

func newCtl() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ctl",
		Short: "Ask about a running proxy and what it says",
		Long:  `Ctl holds what one wants to know when something does not work.`,
		Example: `  larboard ctl decisions                 what has just failed or been retried, and where
  larboard ctl reasons no_route          what a reason means, and what to do
  larboard ctl captures 10.96.0.10:80    which listener takes connections to an address
  larboard ctl quit                      have it drain and end`,
		Args:                       knownCommand,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SuggestionsMinimumDistance: 2,
	}
	cmd.AddCommand(newCtlDecisions(), newCtlReasons(), newCtlCaptures(), newCtlLeave(), newCtlQuit())
	return cmd
}

// writeJSON writes v for machines, and for those who read what machines do.
func writeJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
