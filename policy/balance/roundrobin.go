package balance

// Three forms of one order, by what a pick costs:
//
//   - equal weights (nearly every service): a cursor. The order is that of the
//     smooth algorithm, at O(1) while endpoints are up.
//   - different weights, up to 16 endpoints: nginx's smooth algorithm, O(n).
//   - different weights, more endpoints: stride scheduling, O(log of the number of
//     weights). Spread as smoothly, though not in the very same order.
const smoothMost = 16

func newRoundRobin(m []member, seed uint64) Picker {
	var p rotation
	switch {
	case equal(m):
		p = &cursor{members: m}
	case len(m) <= smoothMost:
		p = newSmooth(m)
	default:
		p = newStride(m)
	}
	if len(m) > 0 {
		p.skip(int(seed % uint64(len(m))))
	}
	return p
}

// rotation is a picker that can be started further on.
type rotation interface {
	Picker
	// skip goes n picks ahead with all endpoints up.
	skip(n int)
}

func equal(m []member) bool {
	for _, x := range m {
		if x.weight != m[0].weight {
			return false
		}
	}
	return true
}

// cursor goes round endpoints of equal weight.
type cursor struct {
	stateless
	members []member
	next    int
}

func (c *cursor) skip(n int) { c.next = n }

// Pick takes the next usable endpoint; the cursor stands behind it afterwards, so
// that the one after an endpoint that is down gets no more than its share.
func (c *cursor) Pick(ctx PickContext) (Token, bool) {
	at := c.next
	for range c.members {
		i := c.members[at].index
		if at++; at == len(c.members) {
			at = 0
		}
		if ctx.usable(i) {
			c.next = at
			return Token{Index: i}, true
		}
	}
	return Token{}, false
}

// smooth is nginx's smooth weighted round robin: each turn every usable endpoint
// gains its weight, and the one with most is picked and pays the sum of what was
// gained. Weights 5, 1, 1 give a a b a c a a rather than a a a a a b c.
type smooth struct {
	stateless
	members []member
	current []int64
}

func newSmooth(m []member) *smooth { return &smooth{members: m, current: make([]int64, len(m))} }

func (s *smooth) skip(n int) {
	for range n {
		s.Pick(PickContext{Load: allUsable{}})
	}
}

// Pick is O(n). Endpoints that are not usable neither gain nor pay.
func (s *smooth) Pick(ctx PickContext) (Token, bool) {
	best, total := -1, int64(0)
	for k, m := range s.members {
		if !ctx.usable(m.index) {
			continue
		}
		total += m.weight
		s.current[k] += m.weight
		if best < 0 || s.current[k] > s.current[best] {
			best = k
		}
	}
	if best < 0 {
		return Token{}, false
	}
	s.current[best] -= total
	return Token{Index: s.members[best].index}, true
}

// allUsable is the load of a set with every endpoint up.
type allUsable struct{}

func (allUsable) Usable(int) bool    { return true }
func (allUsable) Inflight(int) int64 { return 0 }
