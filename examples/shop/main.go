// Command shop is what runs in the compose stack beside the proxies: three services as small
// as can be, a load, and the authority that SPIRE is started with. It is an application like any
// other and must not know that there is a proxy.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const usage = `usage: shop serve     --name NAME --listen ADDRESS [--call URL]
       shop load      --url URL [--rate N] [--listen ADDRESS]
       shop authority --dir DIRECTORY --trust-domain NAME
       shop health    URL`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	run, known := map[string]func(context.Context, []string) error{
		"serve": serve, "load": load, "authority": authority, "health": health,
	}[os.Args[1]]
	if !known {
		fmt.Fprintf(os.Stderr, "shop: no command %q\n%s\n", os.Args[1], usage)
		os.Exit(2)
	}
	if err := run(ctx, os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "shop %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

// flags of a command; it exits by itself where they are wrong.
func flags(command string) *flag.FlagSet { return flag.NewFlagSet("shop "+command, flag.ExitOnError) }

// health succeeds where a GET is answered with 200: a container's health check, where there is
// no curl.
func health(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one URL, got %q", args)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := get(ctx, http.DefaultClient, args[0], nil)
	return err
}

// listen serves until ctx ends, and then what is under way.
func listen(ctx context.Context, address string, h http.Handler) error {
	server := &http.Server{Addr: address, Handler: h, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-ctx.Done()
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(within)
	}()
	err := server.ListenAndServe()
	if ctx.Err() == nil {
		return err
	}
	<-ended
	return nil
}
