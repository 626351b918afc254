package balance

import (
	"math/bits"
	"math/rand/v2"
)

// draw picks at random, in proportion to weight, among the usable endpoints.
type draw struct {
	stateless
	members []member
	places  alias
	source  rand.PCG
}

func newDraw(m []member, seed uint64) draw {
	d := draw{members: m, places: newAlias(m)}
	d.source.Seed(seed, 0)
	return d
}

// below returns a random number under n (above 0). The bias of the multiplication
// is n/2^64, beneath notice for sums of weights.
func (d *draw) below(n int64) int64 {
	hi, _ := bits.Mul64(d.source.Uint64(), uint64(n))
	return int64(hi)
}

// blindDraws is how often a draw that hit an unusable endpoint is repeated before
// the usable ones are added up. Either way the result is in exact proportion.
const blindDraws = 4

// pick returns the place in members of a usable endpoint other than the one at
// place not (-1: none); -1: there is none.
func (d *draw) pick(ctx *PickContext, not int) int {
	if len(d.members) == 0 {
		return -1
	}
	for range blindDraws {
		k := d.places.of(d.source.Uint64())
		if k != not && ctx.usable(d.members[k].index) {
			return k
		}
	}
	return d.scan(ctx, not)
}

// scan draws among the usable endpoints only, in O(n).
func (d *draw) scan(ctx *PickContext, not int) int {
	total := int64(0)
	for k, m := range d.members {
		if k != not && ctx.usable(m.index) {
			total += m.weight
		}
	}
	if total == 0 {
		return -1
	}
	x := d.below(total)
	for k, m := range d.members {
		if k == not || !ctx.usable(m.index) {
			continue
		}
		if x -= m.weight; x < 0 {
			return k
		}
	}
	return -1
}

// random picks in proportion to weight.
type random struct{ draw }

// Pick is O(1) while most endpoints are usable.
func (r *random) Pick(ctx PickContext) (Token, bool) {
	k := r.pick(&ctx, -1)
	if k < 0 {
		return Token{}, false
	}
	return Token{Index: r.members[k].index}, true
}

// p2c draws two different endpoints in proportion to weight and picks the one with
// fewer exchanges under way per weight. A tie goes to the first drawn: at rest the
// choice is weighted random, so nobody starves (comparing inflight+1 instead would
// send everything to the heavier of two idle endpoints).
type p2c struct{ draw }

// Pick is O(1) while most endpoints are usable.
func (p *p2c) Pick(ctx PickContext) (Token, bool) {
	a := p.pick(&ctx, -1)
	if a < 0 {
		return Token{}, false
	}
	if b := p.pick(&ctx, a); b >= 0 && p.lighter(ctx.Load, b, a) {
		a = b
	}
	return Token{Index: p.members[a].index}, true
}

// lighter compares load per weight without dividing.
func (p *p2c) lighter(load Load, a, b int) bool {
	x, y := p.members[a], p.members[b]
	return load.Inflight(x.index)*y.weight < load.Inflight(y.index)*x.weight
}
