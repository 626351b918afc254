//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// larboardBinary builds the tree this command was compiled from, unless a
// binary was named.
func (b *bench) larboardBinary(ctx context.Context) (string, error) {
	if b.o.larboard != "" {
		return b.o.larboard, nil
	}
	fmt.Fprintln(b.progress, "building larboard")
	return b.build(ctx, "larboard", "", "github.com/larboard-proxy/larboard")
}

// baselineBinary is the file -baseline names or, if there is none, what the commit of
// that name builds.
func (b *bench) baselineBinary(ctx context.Context) (string, error) {
	if _, err := os.Stat(b.o.baseline); err == nil {
		return b.o.baseline, nil
	}
	fmt.Fprintln(b.progress, "building larboard of", b.o.baseline)
	tree := filepath.Join(b.dir, "baseline-tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return "", err
	}
	archive := filepath.Join(b.dir, "baseline.tar")
	if err := output(ctx, "", "git", "archive", "-o", archive, b.o.baseline); err != nil {
		return "", fmt.Errorf("-baseline %q is no file, and as a commit: %w", b.o.baseline, err)
	}
	if err := output(ctx, "", "tar", "-xf", archive, "-C", tree); err != nil {
		return "", err
	}
	return b.build(ctx, "larboard-baseline", tree, ".")
}

// build compiles a package, seen from dir.
func (b *bench) build(ctx context.Context, name, dir, path string) (string, error) {
	binary := filepath.Join(b.dir, name)
	return binary, output(ctx, dir, "go", "build", "-o", binary, path)
}

// output runs a command that says nothing unless it fails.
func output(ctx context.Context, dir string, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", argv[0], err), errors.New(string(out)))
	}
	return nil
}
