package sidecar

import (
	"errors"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/sidecar/config"
)

func TestBudget(t *testing.T) {
	const text = `loops: 2
listeners: [{name: web, address: [127.0.0.1:1, 127.0.0.1:2], service: web}]
services: [{name: web, endpoints: [127.0.0.1:9], health: {tcp: {}}}]
limits: {connections: `
	for _, c := range []struct {
		name, connections string
		limit             uint64
		want              int64
		problem           string
	}{
		{"derived", "0", 4096, 1946, ""},
		{"as configured", "100", 4096, 100, ""},
		{"exactly enough", "1946", 4096, 1946, ""},
		{"one too many", "1947", 4096, 0,
			"limits.connections: 1947 connections need 4098 file descriptors (2 for each, 204 for the rest of the proxy), and this process may have 4096; raise it"},
		{"what would do", "1947", 4096, 0, "or allow 1946 connections at most"},
		{"no room at all", "0", 100, 0, "limits.connections: no connection is possible: the rest of the proxy needs 112 file descriptors, and this process may have 100; raise it"},
		{"nothing is known", "0", 0, 0, ""},
		{"nothing is known, configured", "5", 0, 5, ""},
		{"more than can be used", "0", 1 << 62, config.MaxConnections, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			loaded, problems := config.Load("larboard.yaml", []byte(text+c.connections+"}\n"))
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			b, err := Budget(loaded, Loops(loaded, 0), c.limit)
			var refused config.Problems
			switch {
			case c.problem == "" && (err != nil || b.Connections != c.want):
				t.Errorf("%+v, %v", b, err)
			case c.problem != "" && (!errors.As(err, &refused) || len(refused) != 1 ||
				!strings.HasPrefix(refused[0].String(), "larboard.yaml:4:23: ") || !strings.Contains(err.Error(), c.problem)):
				t.Errorf("got %v\nwant %s", err, c.problem)
			}
		})
	}
}
