package health

import (
	"context"
	"net"
)

// Once makes one check of address, by dial, and keeps nothing of it. It blocks for
// spec.Timeout at most and returns what it found in words, and whether that is good.
func Once(ctx context.Context, spec Spec, address string, dial func(ctx context.Context, network, address string) (net.Conn, error)) (result string, ok bool) {
	spec.Interval = spec.Timeout // which bounds it
	spec = spec.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, spec.Timeout)
	defer cancel()
	a := attempt{dial: dial, address: address, spec: &spec}
	return a.run(ctx)
}
