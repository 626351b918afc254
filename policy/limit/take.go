package limit

import (
	"cmp"
	"slices"
	"time"
)

// Claim is what one request wants of one limit.
type Claim struct {
	Limit *Limit
	Key   Key

	shard  *shard
	bucket *bucket
}

// Sort puts limits in the order in which claims come to Take, without repetitions.
func Sort(all []*Limit) []*Limit {
	slices.SortFunc(all, func(a, b *Limit) int { return cmp.Compare(a.order, b.order) })
	return slices.Compact(all)
}

// Verdict is what Take has decided.
type Verdict struct {
	Allowed bool
	// Claim is the index of the claim that the rest is about: the one whose limit has to be waited
	// for longest, or, where all allow, the one that has least left.
	Claim int
	// Wait is when to come again; 0 where Allowed.
	Wait time.Duration
	// Limit is the size of the bucket, Remaining what is left in it, and Reset when it is full.
	Limit, Remaining int
	Reset            time.Duration
}

// Take takes a token of each claim, or, where one has none, none of any. The claims are of
// different limits, in the order of Sort; at least one. now is the engine's clock in
// nanoseconds. It does not allocate but for new keys, and must not be called where a task
// could park between claims: it holds all their locks for a moment, and nobody sees half of
// what it does.
func Take(now int64, claims []Claim) Verdict {
	v := Verdict{Allowed: true, Remaining: -1}
	for i := range claims {
		c := &claims[i]
		c.shard = c.Limit.shard(c.Key)
		c.shard.mu.Lock()
		t := c.shard.at(now)
		c.bucket = c.shard.find(c.Limit, c.Key, t)
		v.consider(i, c.Limit, c.bucket.tokens.TokensAt(t))
	}
	if v.Allowed {
		for i := range claims {
			c := &claims[i]
			c.bucket.tokens.AllowN(time.Unix(0, c.shard.now), 1)
			c.shard.allowed++
		}
	} else {
		claims[v.Claim].shard.denied++
	}
	for i := range claims {
		c := &claims[i]
		c.shard.mu.Unlock()
		c.shard, c.bucket = nil, nil
	}
	return v
}

// consider notes claim i, in whose bucket there are so many tokens.
func (v *Verdict) consider(i int, l *Limit, tokens float64) {
	// What is there within a nanosecond is there, as for the library: a client that comes at the
	// very rate would otherwise lose every other token to rounding.
	if wait := seconds((1 - tokens) / l.def.Rate); wait > 1 {
		if v.Allowed || wait > v.Wait {
			*v = Verdict{Claim: i, Wait: wait, Limit: l.def.Burst, Reset: l.until(tokens)}
		}
		return
	}
	if left := max(int(tokens)-1, 0); v.Allowed && (v.Remaining < 0 || left < v.Remaining) {
		*v = Verdict{Allowed: true, Claim: i, Limit: l.def.Burst, Remaining: left, Reset: l.until(tokens - 1)}
	}
}

// until is when a bucket with so many tokens is full.
func (l *Limit) until(tokens float64) time.Duration {
	return seconds(max(float64(l.def.Burst)-tokens, 0) / l.def.Rate)
}

// GiveBack returns what Take took for something that was then refused for another reason.
func GiveBack(now int64, claims []Claim) {
	for i := range claims {
		c := &claims[i]
		s := c.Limit.shard(c.Key)
		s.mu.Lock()
		s.allowed--
		// To take less than nothing is to give; a bucket holds no more than its burst for long.
		s.find(c.Limit, c.Key, s.at(now)).tokens.AllowN(time.Unix(0, s.now), -1)
		s.mu.Unlock()
	}
}
