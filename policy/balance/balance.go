// Package balance chooses an endpoint for an attempt. Endpoints are known by
// their index in the set that a Picker was made for; health, connections and
// addresses are the caller's, who answers through Load. The package must not
// know of them, of time, or of configuration files.
//
// A Picker is owned by one loop: no locks, and no allocation in Pick or Done
// (BenchmarkPick). When the endpoint set changes the owner makes a new one.
package balance

import (
	"fmt"

	"github.com/larboard-proxy/larboard/policy"
)

// The kinds that New knows, as configured in services[].balance.
const (
	RoundRobin = "round_robin" // smooth weighted round robin
	Random     = "random"      // weighted random
	P2C        = "p2c"         // the less loaded of two drawn at random
)

// MaxWeight is the most that a weight counts for, so that sums and products fit.
const MaxWeight = 1 << 20

// Load is what a picker asks about the endpoints at the moment of a pick. Called
// on the loop that owns the picker; must not block.
type Load interface {
	// Usable reports whether endpoint i may get an exchange now.
	Usable(i int) bool
	// Inflight is the number of exchanges under way at endpoint i.
	Inflight(i int) int64
}

// PickContext is what one pick is told.
type PickContext struct {
	Now   int64 // the loop's clock, ns
	Load  Load
	Tried *Set // endpoints already tried in this exchange; nil: none
}

// usable reports whether endpoint i comes into question for this pick.
func (c *PickContext) usable(i int) bool { return !c.Tried.Has(i) && c.Load.Usable(i) }

// Token is the choice, to be returned by Done to the picker that made it.
type Token struct {
	Index int // of the endpoint
}

// Picker chooses endpoints. All methods are called by the loop that owns it.
type Picker interface {
	// Pick chooses among the endpoints that are usable, untried and of a weight
	// above 0; false: there is none. It never blocks.
	Pick(PickContext) (Token, bool)
	// Done is told what came of a pick, exactly once for each that was true.
	Done(Token, policy.Outcome)
}

// New returns a picker of a kind for endpoints 0 to len(weights)-1. An endpoint of
// weight 0 or less is never picked; a weight over MaxWeight counts as that, since
// nobody could act on an error when discovery delivers one. The seed decides the
// random draws, and where round robin begins, so that many proxies do not all
// begin at the first endpoint; 0 begins there. The slice is not kept. Error: an
// unknown kind.
func New(kind string, weights []int, seed uint64) (Picker, error) {
	m := membersOf(weights)
	switch kind {
	case RoundRobin:
		return newRoundRobin(m, seed), nil
	case Random:
		return &random{draw: newDraw(m, seed)}, nil
	case P2C:
		return &p2c{draw: newDraw(m, seed)}, nil
	}
	return nil, fmt.Errorf("balance: unknown kind %q", kind)
}

// member is an endpoint that can be picked at all.
type member struct {
	index  int
	weight int64
}

func membersOf(weights []int) []member {
	members := make([]member, 0, len(weights))
	for i, w := range weights {
		if w > 0 {
			members = append(members, member{index: i, weight: int64(min(w, MaxWeight))})
		}
	}
	return members
}

// stateless is embedded by pickers that learn nothing from outcomes.
type stateless struct{}

func (stateless) Done(Token, policy.Outcome) {}
