//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
)

// roleSinks is the argument that makes this binary the place where telemetry goes.
const roleSinks = "sinks"

// sinkAddrs is what the sinks print when they are ready.
type sinkAddrs struct {
	Syslog  string `json:"syslog"`  // path of a socket for datagrams
	OTLP    string `json:"otlp"`    // URL of a collector over HTTP
	Hanging string `json:"hanging"` // accepts connections, and reads nothing of them
}

// runSinks takes log lines and spans and drops them, until ctx ends or its standard input
// does. dir is where the socket is made.
func runSinks(ctx context.Context, dir string, out io.Writer) error {
	debug.SetGCPercent(400)
	addrs := sinkAddrs{Syslog: filepath.Join(dir, "syslog")}
	os.Remove(addrs.Syslog)
	datagrams, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: addrs.Syslog, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("sinks: %w", err)
	}
	defer datagrams.Close()
	collector, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("sinks: %w", err)
	}
	defer collector.Close()
	hanging, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("sinks: %w", err)
	}
	defer hanging.Close()
	addrs.OTLP, addrs.Hanging = "http://"+collector.Addr().String(), hanging.Addr().String()
	if err := json.NewEncoder(out).Encode(addrs); err != nil {
		return fmt.Errorf("sinks: %w", err)
	}
	go drain(datagrams)
	go http.Serve(collector, http.HandlerFunc(collect))
	go keep(hanging)
	<-ctx.Done()
	return nil
}

func drain(c net.Conn) {
	line := make([]byte, 64<<10)
	for {
		if _, err := c.Read(line); err != nil {
			return
		}
	}
}

// collect answers like a collector that has taken everything: an empty message.
func collect(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// keep accepts connections and does nothing with them until the listener is closed.
func keep(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close() // in the end, with all the others
	}
}
