package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The environment of an application.
const (
	kindEnv    = "LIFECYCLE_APPLICATION"
	outEnv     = "LIFECYCLE_OUT"     // where it calls
	addressEnv = "LIFECYCLE_ADDRESS" // where it is called
)

// The kinds.
const (
	callsAtOnce = "calls at once" // and ends: with 0 if that went well
	serves      = "serves"        // and calls, until some time after SIGTERM
)

// lingers is how long one that serves goes on calling after SIGTERM.
const lingers = 300 * time.Millisecond

// codeFailed is what an application ends with where a call of its own has failed.
const codeFailed = 70

// application is the process that a proxy stands beside.
func application(kind string) int {
	if kind == callsAtOnce {
		if err := call(http.DefaultClient, os.Getenv(outEnv)); err != nil {
			fmt.Println("the first call:", err)
			return codeFailed
		}
		return 0
	}
	return serve(os.Getenv(addressEnv), os.Getenv(outEnv))
}

func call(c *http.Client, address string) error {
	resp, err := c.Get("http://" + address + "/")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || string(body) != "stock") {
		err = fmt.Errorf("%d %q, reason %q", resp.StatusCode, body, resp.Header.Get("X-Larboard-Reason"))
	}
	return err
}

// serve answers with the help of another service, and calls that all the time besides, over
// kept connections and fresh ones. After SIGTERM it closes its port first, as servers do,
// and calls on for a while.
func serve(address, out string) int {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	var calls, failed atomic.Int64
	ask := func(c *http.Client) error {
		calls.Add(1)
		err := call(c, out)
		if err != nil {
			failed.Add(1)
			fmt.Println("a call:", err)
		}
		return err
	}
	kept := &http.Client{Timeout: patience}
	fresh := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	l, err := net.Listen("tcp", address)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if ask(kept) != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = io.WriteString(w, "ok")
	})}
	stop := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			fmt.Println(err)
		}
	})
	for _, c := range []*http.Client{kept, fresh} {
		all.Go(func() {
			for {
				_ = ask(c)
				select {
				case <-time.After(10 * time.Millisecond):
				case <-stop:
					return
				}
			}
		})
	}
	<-terminated
	before := calls.Load()
	fmt.Println("got SIGTERM")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	over := time.After(lingers)
	if err := server.Shutdown(ctx); err != nil {
		fmt.Println(err)
	}
	<-over
	close(stop)
	all.Wait()
	fmt.Printf("%d calls, %d of them after SIGTERM, %d failed\n", calls.Load(), calls.Load()-before, failed.Load())
	if failed.Load() > 0 || calls.Load() == before {
		return codeFailed
	}
	return 0
}
