package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

func newInstall() *cobra.Command {
	return &cobra.Command{
		Use:   "install DIR",
		Short: "Copy this program into a directory",
		Long: `Install copies this program to DIR/larboard, for images that hold nothing to copy
it with: an init container brings it to a volume, from which the application's container
begins its command with 'larboard run -- COMMAND'. A file of that name is replaced in one
step, so that it is never half a program.`,
		Example: `  larboard install /larboard-bin`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("one argument is expected: the directory to copy to")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			target := filepath.Join(args[0], "larboard")
			if err := install(target); err != nil {
				return fmt.Errorf("install: %w", err)
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), target)
			return err
		},
	}
}

// install copies the running program to target.
func install(target string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	in, err := os.Open(self)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(target), ".larboard-*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) // gone by then where all went well
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Chmod(0o755), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), target)
}
