//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/larboard-proxy/larboard/tests/real"
)

// consulAgent is a Consul server for the whole run, on the CPU of the load.
type consulAgent struct {
	binary, address string
	process         *process
}

// inConsul gives a contender the run's agent, which is started once.
func (b *bench) inConsul(ctx context.Context, c contender) (contender, error) {
	if b.consul == nil {
		agent, err := startConsul(ctx, b)
		if err != nil {
			return c, fmt.Errorf("consul: %w", err)
		}
		b.consul = agent
	}
	register := c.setup
	c.setup = func(ctx context.Context, s *site) (func(), error) {
		s.Agent, s.Consul = b.consul.address, b.consul.binary
		if register == nil {
			return nil, nil
		}
		return register(ctx, s)
	}
	return c, nil
}

func startConsul(ctx context.Context, b *bench) (*consulAgent, error) {
	a := &consulAgent{}
	var err error
	if a.binary, err = real.Build(ctx, "consul", b.progress); err != nil {
		return nil, err
	}
	ports, err := freeAddrs(4)
	if err != nil {
		return nil, err
	}
	a.address = ports[0]
	config := map[string]any{
		"bind_addr": "127.0.0.1", "client_addr": "127.0.0.1", "disable_update_check": true,
		"limits": map[string]any{"http_max_conns_per_client": 1000},
		"ports": map[string]int{"http": portOf(ports[0]), "server": portOf(ports[1]), "serf_lan": portOf(ports[2]),
			"serf_wan": -1, "dns": -1, "grpc": portOf(ports[3]), "grpc_tls": -1, "https": -1},
	}
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.dir, "consul.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	if a.process, err = startProcess(b.loadCPU, "consul", a.binary, "agent", "-dev", "-log-level", "error", "-config-file", file); err != nil {
		return nil, err
	}
	if err := waitForLeader(ctx, a.address); err != nil {
		a.process.stop()
		return nil, err
	}
	return a, nil
}

func waitForLeader(ctx context.Context, agent string) error {
	for deadline := time.Now().Add(30 * time.Second); ; {
		var leader string
		err := call(ctx, http.MethodGet, "http://"+agent+"/v1/status/leader", nil, &leader)
		if err == nil && leader != "" {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(errors.New("no leader within 30 s"), err)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// consulPair is Consul's built-in proxy on both sides; it knows TCP only.
func consulPair() contender {
	run := func(service string) func(string, *site) []string {
		return func(_ string, s *site) []string {
			return []string{s.Consul, "connect", "proxy", "-sidecar-for", service, "-http-addr", s.Agent, "-log-level", "error"}
		}
	}
	return contender{name: "consul-pair", setup: registerPair, answers: func(s *site) string { return s.Near }, parts: []part{
		{name: "consul far", argv: run("far"), listens: atFar},
		{name: "consul near", argv: run("near"), listens: atNear},
	}}
}

// registerPair registers near and far with their sidecars: near calls far.
func registerPair(ctx context.Context, s *site) (func(), error) {
	service := func(name string, port int, proxy map[string]any) map[string]any {
		proxy["Checks"] = []any{} // the default one would knock at the listener
		return map[string]any{"Name": name, "ID": name, "Address": "127.0.0.1", "Port": port,
			"Connect": map[string]any{"SidecarService": proxy}}
	}
	far := service("far", portOf(s.Origin.HTTP), map[string]any{
		"Port": portOf(s.Far), "Proxy": map[string]any{"LocalServiceAddress": "127.0.0.1", "LocalServicePort": portOf(s.Origin.HTTP)}})
	near := service("near", 1, map[string]any{
		"Port": portOf(s.Mutual), "Proxy": map[string]any{"Upstreams": []any{map[string]any{
			"DestinationName": "far", "LocalBindAddress": "127.0.0.1", "LocalBindPort": portOf(s.Near)}}}})
	for _, definition := range []any{far, near} {
		if err := call(ctx, http.MethodPut, "http://"+s.Agent+"/v1/agent/service/register", definition, nil); err != nil {
			return nil, err
		}
	}
	agent := s.Agent
	return func() {
		for _, id := range []string{"near", "far"} {
			_ = call(context.Background(), http.MethodPut, "http://"+agent+"/v1/agent/service/deregister/"+id, nil, nil)
		}
	}, nil
}

// call sends one request with a JSON body and decodes the JSON answer into out.
func call(ctx context.Context, method, url string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

func portOf(addr string) int {
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		return 0
	}
	port, _ := strconv.Atoi(text)
	return port
}
