package cli

import (
	"github.com/spf13/cobra"

	"github.com/larboard-proxy/larboard/sidecar/config"
)

func newConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print what a configuration comes to: shorthand expanded, defaults filled in",
		Long: `Config reads a configuration file and prints the listeners and services that it
comes to, with every default in force. What it prints means the same as what it
read. Secrets are replaced by a placeholder. With --sidecar-for it prints what the
definition of a sidecar in Consul comes to.

With --origins it says where each value comes from: a line of the file, a default,
another field, a shorthand, or Consul.`,
		Example: `  larboard config -c sidecar.yaml
  larboard config -c sidecar.yaml --origins
  larboard config --sidecar-for web
  larboard config -c sidecar.yaml --output json | jq '.services[].name'`,
		Args: noArguments,
	}
	from := originFlags(cmd)
	output := outputFlag(cmd, "yaml", "json")
	origins := cmd.Flags().Bool("origins", false, "say where each value comes from")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := output.valid(); err != nil {
			return err
		}
		o, err := from()
		if err != nil {
			return err
		}
		o.log = newLogger(config.Log{}, cmd.ErrOrStderr())
		c, problems, err := o.load()
		if err != nil {
			return err
		}
		if len(problems) > 0 {
			return refuse(cmd.ErrOrStderr(), o.name(), problems)
		}
		_, err = cmd.OutOrStdout().Write(printed(c, output.value == "json", *origins))
		return err
	}
	return cmd
}

func printed(c *config.Config, asJSON, origins bool) []byte {
	switch {
	case asJSON && origins:
		return config.PrintOriginsJSON(c)
	case asJSON:
		return config.PrintJSON(config.Expand(c))
	case origins:
		return config.PrintOrigins(c)
	}
	return config.Print(config.Expand(c))
}
