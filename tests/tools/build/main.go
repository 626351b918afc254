// Command build prints the paths of tools, building first those that the cache
// does not have: go run ./tests/tools/build consul staticcheck. It exists for the
// Makefile and must not know what the tools are for.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/larboard-proxy/larboard/tests/real"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: build NAME...")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	for _, name := range os.Args[1:] {
		path, err := real.Build(ctx, name, os.Stderr)
		if err != nil {
			fmt.Fprintln(os.Stderr, "build:", err)
			os.Exit(1)
		}
		fmt.Println(path)
	}
}
