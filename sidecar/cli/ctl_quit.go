package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newCtlQuit() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "quit",
		Short: "Have a running proxy drain and end",
		Long: `Asks the proxy to drain and end, as SIGTERM would, and does not wait for that. It may be
asked any number of times.`,
		Example: `  larboard ctl quit
  larboard ctl quit --admin unix:///run/larboard/admin.sock`,
		Args: noArguments,
	}
	admin := adminFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := newAdminClient(*admin)
		if err != nil {
			return err
		}
		w := waiting{admin: client}
		if err := w.quit(cmd.Context()); err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "the proxy drains and ends")
		return err
	}
	return cmd
}
