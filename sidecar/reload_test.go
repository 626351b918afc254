package sidecar

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/larboard-proxy/larboard/sidecar/config"
)

// What was read last is what stays in force, however close the reloads come.
func TestReloadsComeOneAfterTheOther(t *testing.T) {
	var reads, reading atomic.Int32
	s, err := New(Options{Log: slog.New(slog.DiscardHandler), Load: func() (*config.Config, error) {
		n := reads.Add(1)
		if reading.Add(1) > 1 {
			t.Error("two reloads read at the same time")
		}
		defer reading.Add(-1)
		for range 100 {
			runtime.Gosched()
		}
		c, problems := config.Load("test.yaml", fmt.Appendf(nil,
			"loops: 1\nlisteners: [{name: in, address: 127.0.0.1:0, service: app}]\nservices: [{name: app, endpoints: [127.0.0.1:%d]}]\n", n))
		return c, problems.Err()
	}})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(context.Background()) }()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := s.Reload(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got, want := s.current().Services[0].Endpoints[0].Address, fmt.Sprint("127.0.0.1:", reads.Load()); got != want {
		t.Errorf("in force is what was read as %s, last read was %s", got, want)
	}
	s.Stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
