package cli

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

func newCtlLeave() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "leave",
		Short: "Have a running proxy get no new traffic, and serve on",
		Long: `Tells the proxy that its end is near: it is not ready any more, and what it has
registered in Consul is deregistered, but everything is served until it is told to end.
Leave returns when the others have had the time to hear of it (register.propagation), so
that a hook which runs before an application is stopped leaves nothing under way that
its end would cut off. There is no way back but a new start.`,
		Example: `  larboard ctl leave                     in a preStop hook, before SIGTERM
  larboard ctl leave --admin unix:///run/larboard/admin.sock`,
		Args: noArguments,
	}
	admin := adminFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := newAdminClient(*admin)
		if err != nil {
			return err
		}
		if err := client.decode(cmd.Context(), http.MethodPost, "/api/v1/leave", &struct{}{}, http.StatusOK); err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "the proxy gets no new traffic and serves on")
		return err
	}
	return cmd
}
