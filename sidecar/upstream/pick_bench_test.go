package upstream

import (
	"fmt"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/breaker"
	"github.com/larboard-proxy/larboard/policy/eject"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
)

// usualBreaker and usualEjection are the defaults of the configuration.
func usualBreaker() *breaker.Settings {
	return &breaker.Settings{Failures: 5, Open: 10 * time.Second, Probes: 1, Lease: 32 * time.Second, On: policy.AllFailures}
}

func usualEjection() *eject.Settings {
	return &eject.Settings{Consecutive: 5, Time: 30 * time.Second, MaxTime: 300 * time.Second, MaxPercent: 50, Ramp: 30 * time.Second, On: policy.AllFailures,
		Rate: eject.Rate{Interval: 10 * time.Second, Requests: 100, Endpoints: 3, Deviation: 1.9, Margin: 0.02}}
}

// still is a loop that does not turn, for what is called from outside of tasks.
func still(t testing.TB) *Local {
	e, err := sim.New(sim.Options{Seed: 1}).Host("10.9.9.9").Engine(engine.Options{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return NewLocal(e.Loops()[0], func(string, policy.Reason) {})
}

// of n endpoints, whose weights are 1 to 5 if they differ.
func crowd(balance string, n int, differ bool) *Service {
	s := NewService("api", &Settings{Balance: balance, Breaker: usualBreaker(), Ejection: usualEjection()})
	u := discovery.Update{}
	for i := range n {
		address := fmt.Sprintf("10.0.%d.%d:80", i/256, i%256)
		weight := 1
		if differ {
			weight = 1 + i%5
		}
		u.Endpoints = append(u.Endpoints, discovery.Endpoint{ID: address, Address: address, Weight: weight})
	}
	s.Update(u)
	return s
}

// BenchmarkPick is a whole choice of an endpoint with breakers and ejection on: Pick, and
// Done with a success. Target for Pick: at most 100 ns with 1,000 endpoints, whatever the
// balance, and no allocation; Done is shown by itself.
func BenchmarkPick(b *testing.B) {
	for _, balance := range []string{"round_robin", "random", "p2c"} {
		for _, n := range []int{3, 1000} {
			for _, differ := range []bool{false, true} {
				for _, done := range []bool{false, true} {
					b.Run(fmt.Sprintf("%s/%d/differ=%v/done=%v", balance, n, differ, done), func(b *testing.B) {
						l, s, tried := still(b), crowd(balance, n, differ), &Tried{}
						o := policy.Outcome{Connected: true, Status: 200}
						b.ReportAllocs()
						for b.Loop() {
							tried.Reset()
							c, err := l.Pick(s, tried)
							if err != nil {
								b.Fatal(err)
							}
							if done {
								l.Done(&c, o)
							}
						}
					})
				}
			}
		}
	}
}
