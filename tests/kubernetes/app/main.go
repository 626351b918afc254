// Package main is the application in the pods of the tests: it serves, calls others, can
// be told to fall ill, and ends as slowly as wanted. It knows nothing of a mesh.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

func main() {
	var err error
	switch {
	case len(os.Args) > 2 && os.Args[1] == "job":
		err = job(os.Args[2:])
	case len(os.Args) == 1:
		err = serve()
	default:
		err = errors.New("usage: app, or app job with URLs")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// job calls each URL once, from its first moment on and without a second try.
func job(urls []string) error {
	for _, url := range urls {
		got := call(http.MethodGet, url)
		fmt.Printf("%s: %d %s%s\n", url, got.Status, got.Body, got.Error)
		if got.Status != http.StatusOK {
			return fmt.Errorf("%s failed", url)
		}
	}
	return nil
}

// serve listens on PORT (default 8080), for the tests on CONTROL (7070), and for gRPC's health
// checks on GRPC, where that is set, after it has called each URL of FIRST. Told to end it goes on
// serving for LINGER, then finishes what it has, makes its last calls and ends.
func serve() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	a := &app{health: health.NewServer()}
	for _, url := range strings.Fields(os.Getenv("FIRST")) {
		a.first = append(a.first, call(http.MethodGet, url))
	}
	server := &http.Server{Handler: a}
	listener, err := net.Listen("tcp", ":"+cmp.Or(os.Getenv("PORT"), "8080"))
	if err != nil {
		return err
	}
	control, err := net.Listen("tcp", ":"+cmp.Or(os.Getenv("CONTROL"), "7070"))
	if err != nil {
		return err
	}
	if port := os.Getenv("GRPC"); port != "" {
		if err := a.serveHealth(port); err != nil {
			return err
		}
	}
	go func() { _ = server.Serve(listener) }()
	go func() { _ = http.Serve(control, a.control()) }()
	<-ctx.Done()
	linger, err := time.ParseDuration(cmp.Or(os.Getenv("LINGER"), "0s"))
	if err != nil {
		return err
	}
	time.Sleep(linger)
	bounded, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := server.Shutdown(bounded); err != nil {
		return err
	}
	return farewell()
}

// farewell makes LAST_COUNT calls of LAST, one each 20 ms, and tells how many failed with one more, from
// whose path the server learns it.
func farewell() error {
	url := os.Getenv("LAST")
	if url == "" {
		return nil
	}
	count, err := strconv.Atoi(cmp.Or(os.Getenv("LAST_COUNT"), "20"))
	if err != nil {
		return err
	}
	failed := 0
	for range count {
		if got := call(http.MethodPost, url+"/last"); got.Status != http.StatusOK {
			failed++
			fmt.Printf("a last call: %d %s%s\n", got.Status, got.Body, got.Error)
		}
		time.Sleep(20 * time.Millisecond)
	}
	got := call(http.MethodPost, fmt.Sprintf("%s/farewell/%s/%d", url, hostname(), failed))
	fmt.Printf("%d last calls, %d failed; farewell: %d %s\n", count, failed, got.Status, got.Error)
	return nil
}

// serveHealth answers gRPC's health checks for as long as the process lives.
func (a *app) serveHealth(port string) error {
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, a.health)
	go func() { _ = server.Serve(listener) }()
	return nil
}
