package compile

import (
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/retry"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

// retries is nil where c is: then somebody else's hold.
func retries(c *config.Retries) *retry.Policy {
	if c == nil {
		return nil
	}
	p := &retry.Policy{
		Attempts: c.Attempts,
		PerTry:   c.PerTryTimeout.D(),
		Backoff:  retry.Backoff{Base: c.Backoff.Base.D(), Max: c.Backoff.Max.D()},
		Budget:   retry.Limits{Percent: c.Budget.Percent, Min: c.Budget.Min},
		Replay:   int(c.Replay),
	}
	for _, word := range c.On {
		switch word {
		case config.Retry5xx:
			p.Statuses.Add(500, 599)
		case config.RetryGatewayError:
			p.Statuses.Add(502, 504)
		default:
			p.On |= retry.Of(retryCauses[word])
		}
	}
	for _, r := range c.Statuses {
		p.Statuses.Add(r.From, r.To)
	}
	for _, name := range c.GRPCStatuses {
		p.GRPC.Add(policy.GRPCStatusOf(c.GRPCStatuses.Code(name)))
	}
	return p
}

var retryCauses = map[string]retry.Cause{
	config.RetryConnectFailure: retry.ConnectFailure,
	config.RetryRefusedStream:  retry.RefusedStream,
	config.RetryReset:          retry.Reset,
	config.RetryTimeout:        retry.Timeout,
}
