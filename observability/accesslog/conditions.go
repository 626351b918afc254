package accesslog

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
)

// StatusRange is one of HTTP statuses, both ends included.
type StatusRange struct{ From, To int }

// Conditions say of which exchanges a log has lines: of those that are wanted (any of the
// first group holds, or none is given), that belong to it (each of the second holds), that are
// not left out (none of the third holds), and that are drawn. Immutable; the zero value holds for all.
type Conditions struct {
	// The first group.
	Status     []StatusRange
	Failed     bool          // the proxy gave a reason, or a 5xx or a gRPC failure was answered
	SlowerThan time.Duration // 0: not asked for
	Reasons    []policy.Reason

	// The second.
	Direction string // inbound or outbound; empty: either
	Listeners []string
	Services  []string

	// The third. Paths without their query and user agents are compared whole or, where the
	// pattern ends with a star, by what stands before it.
	SkipPaths  []string
	SkipAgents []string
	// SkipEmpty: connections that have brought no data.
	SkipEmpty bool

	Sample Sample
}

// Sample is a share of the exchanges. The zero value is all of them.
type Sample struct {
	// Rate is the part that is logged, 0 to 1; negative and zero: all.
	Rate float64
	// Random draws for each exchange; otherwise all those of a trace are logged or none, as
	// the trace's ID decides, and only those that are in none are drawn for.
	Random bool
	// Failures are logged, drawn or not.
	Failures bool
}

// hold reports whether there is a line. It runs on the loop.
func (c *Conditions) hold(r *observability.Record, random *rand.PCG) bool {
	return c.wanted(r) && c.belongs(r) && !c.leftOut(r) && c.Sample.draws(r, random)
}

func (c *Conditions) wanted(r *observability.Record) bool {
	if len(c.Status) == 0 && !c.Failed && c.SlowerThan == 0 && len(c.Reasons) == 0 {
		return true
	}
	if c.Failed && failed(r) || c.SlowerThan > 0 && r.Total > c.SlowerThan {
		return true
	}
	for _, s := range c.Status {
		if s.From <= r.Status && r.Status <= s.To {
			return true
		}
	}
	return slices.Contains(c.Reasons, r.Reason)
}

func (c *Conditions) belongs(r *observability.Record) bool {
	return (c.Direction == "" || c.Direction == directionOf(r)) &&
		(len(c.Listeners) == 0 || slices.Contains(c.Listeners, r.Listener)) &&
		(len(c.Services) == 0 || slices.Contains(c.Services, r.Service))
}

func (c *Conditions) leftOut(r *observability.Record) bool {
	return c.SkipEmpty && r.BytesIn == 0 && len(r.Method) == 0 ||
		len(c.SkipPaths) > 0 && len(r.Path) > 0 && matches(c.SkipPaths, barePath(r.Path)) ||
		len(c.SkipAgents) > 0 && len(r.UserAgent) > 0 && matches(c.SkipAgents, r.UserAgent)
}

// matches compares a text with each pattern. The conversions do not allocate.
func matches(patterns []string, text []byte) bool {
	for _, p := range patterns {
		before, star := strings.CutSuffix(p, "*")
		if star && len(text) >= len(before) && string(text[:len(before)]) == before || !star && string(text) == p {
			return true
		}
	}
	return false
}

// draws decides about one exchange. A trace's ID decides as OpenTelemetry's sampler by ratio
// does, so that at equal rates the log has those exchanges whose traces are recorded.
func (s *Sample) draws(r *observability.Record, random *rand.PCG) bool {
	if s.Rate <= 0 || s.Rate >= 1 || s.Failures && failed(r) {
		return true
	}
	draw := random.Uint64()
	if id := &r.Trace.TraceID; !s.Random && *id != [16]byte{} {
		draw = binary.BigEndian.Uint64(id[8:])
	}
	return draw>>1 < uint64(s.Rate*(1<<63))
}
