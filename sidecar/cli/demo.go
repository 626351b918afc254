package cli

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/larboard-proxy/larboard/sidecar/demo"
)

func newDemo() *cobra.Command {
	o := demo.Options{}
	verbose := false
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show a small mesh at work; nothing to install",
		Long: `Runs three services (web, api and stock) with a sidecar beside each instance, in
this one process: a development authority gives them their identities, a registry
in memory (or a real Consul) lets them find each other, and web calls at a steady
rate. Then things happen to them, and each step says what the callers saw: instances
are killed, fail and become slow, certificates change, strangers knock; and one call is
followed through the mesh, as a trace.`,
		Example: `  larboard demo                          the story, then the mesh runs on
  larboard demo --once                   the story only; exit code 0 if all is well
  larboard demo --consul 127.0.0.1:8500  register and discover through a real agent`,
		Args: noArguments,
	}
	cmd.Flags().BoolVar(&o.Once, "once", false, "tell the story and end")
	cmd.Flags().StringVar(&o.Consul, "consul", "", "register and discover at this Consul `ADDRESS`")
	cmd.Flags().IntVar(&o.Rate, "rate", 200, "calls a second")
	cmd.Flags().BoolVar(&verbose, "verbose", false, "show what the sidecars log")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		o.Out = cmd.OutOrStdout()
		if f, ok := o.Out.(*os.File); ok {
			o.Terminal = term.IsTerminal(int(f.Fd()))
		}
		if verbose {
			o.Log, o.Terminal = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)), false
		}
		return demo.Run(ctx, o)
	}
	return cmd
}
