package compile

import (
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/breaker"
	"github.com/larboard-proxy/larboard/policy/eject"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

// serviceBreaker is nil where a service has none.
func serviceBreaker(c *config.Service) *breaker.Settings {
	b := c.Breaker
	if b == nil {
		return nil
	}
	return &breaker.Settings{Failures: uint32(b.Failures), Open: b.Open.D(), Probes: uint32(b.Probes), Lease: lease(c), On: classifier(b.On)}
}

// lease is how long a probe may be without a word: as long as an attempt that fails in time.
func lease(c *config.Service) time.Duration {
	return max(c.Breaker.Open.D(), c.Timeouts.Connect.D()+c.Timeouts.ResponseHead.D()+time.Second)
}

// serviceEjection is nil where a service has none.
func serviceEjection(e *config.Ejection) *eject.Settings {
	if e == nil {
		return nil
	}
	s := &eject.Settings{
		Consecutive: uint32(e.Consecutive), Time: e.Time.D(), MaxTime: e.MaxTime.D(),
		MaxPercent: e.MaxPercent, Ramp: e.Ramp.D(), On: classifier(e.On),
	}
	if r := e.SuccessRate; r.Requests > 0 {
		s.Rate = eject.Rate{Interval: e.Interval.D(), Requests: uint32(r.Requests), Endpoints: r.Endpoints,
			Deviation: r.Deviation, Margin: r.Margin / 100}
	}
	return s
}

func classifier(words config.Failures) (c policy.Classifier) {
	for _, word := range words {
		switch word {
		case config.FailServer:
			c |= policy.OnServerError
		case config.FailGateway:
			c |= policy.OnGatewayError
		case config.FailLocal:
			c |= policy.OnLocalError
		case config.FailTimeout:
			c |= policy.OnTimeout
		}
	}
	return c
}
