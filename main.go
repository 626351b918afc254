// Larboard is a service-mesh proxy: see README.md, or run `larboard demo`.
package main

import (
	"os"

	"github.com/larboard-proxy/larboard/sidecar/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr)) }
