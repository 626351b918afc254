package cli

import (
	"github.com/spf13/cobra"

	"github.com/larboard-proxy/larboard/sidecar/config"
)

func newSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the configuration file, for editors",
		Long: `Schema prints the JSON Schema (draft 7) of the configuration file. Editors that
know it complete fields, show what they mean and mark mistakes as they are made.
What depends on other parts of the file only 'larboard check' finds.`,
		Example: `  larboard schema > larboard.schema.json
  larboard schema | jq '.definitions.Listener.properties | keys'`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(config.Schema())
			return err
		},
	}
}
