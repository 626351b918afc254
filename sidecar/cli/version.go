package cli

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the commit and the Go release of this binary",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), versionLine())
			return err
		},
	}
}

// version is set by the linker where an image or a release is built: such a binary says no
// more of its sources than that, so that the same sources make the same bytes.
var version string

// versionLine tells what the linker was told, or the Go tool has recorded in the binary.
func versionLine() string {
	version, revision := cmp.Or(version, "(devel)"), ""
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Version != "" && version == "(devel)" {
			version = info.Main.Version
		}
		revision = commit(info.Settings)
	}
	return fmt.Sprintf("larboard %s%s %s %s/%s", version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// shortVersion is the version alone.
func shortVersion() string { return strings.Fields(versionLine())[1] }

func commit(settings []debug.BuildSetting) string {
	revision, dirty := "", ""
	for _, s := range settings {
		switch {
		case s.Key == "vcs.revision":
			revision = " " + s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+changes"
		}
	}
	if revision == "" {
		return ""
	}
	return revision + dirty
}
