// Package limit decides whether something may happen now: how many requests or
// connections there may be in a time, in all or for each key (a client's address, its
// identity, the value of a field). A Limit is a bounded table of token buckets, each a
// rate.Limiter of golang.org/x/time/rate. All loops share it, so that a limit means the
// same however many loops there are.
//
// It must not know of requests, routes or configuration files: keys come to it as hashes,
// and the time as an argument.
//
// Cost: a decision about one limit with 100,000 keys is well below 300 ns and allocates
// nothing; a key that is new costs one allocation until the table is full, and none from
// then on (BenchmarkTake). Leasing batches of a hot bucket to loops was measured against and left
// out: two loops at one bucket cost each other less than 100 ns (BenchmarkTakeHot).
package limit

import (
	"hash/maphash"
	"math"
	"net/netip"
	"sync/atomic"
	"time"
)

// Definition is what a limit allows.
type Definition struct {
	// Rate is how many tokens a bucket gets in a second, more than 0.
	Rate float64
	// Burst is how many a bucket holds, at least 1; it begins with as many.
	Burst int
	// Keys bounds the buckets that are kept, 1 to MaxKeys.
	Keys int
}

// DefaultKeys is the usual bound of a table.
const DefaultKeys = 100_000

// MaxKeys is the largest.
const MaxKeys = 10_000_000

// Fill is the time in which an empty bucket fills.
func (d Definition) Fill() time.Duration { return seconds(float64(d.Burst) / d.Rate) }

// seconds rounds up, and stays within what a Duration holds.
func seconds(s float64) time.Duration {
	return time.Duration(math.Ceil(min(s*float64(time.Second), 1<<62)))
}

// Limit is one rate limit with its buckets. Any goroutine may use it, at any time.
type Limit struct {
	// immutable after the registry has made it
	name  string
	def   Definition
	fill  int64  // ns
	order uint64 // in which several are locked
	seed  maphash.Seed

	shards []shard
	keys   atomic.Int64
}

func newLimit(name string, def Definition, order uint64) *Limit {
	return &Limit{name: name, def: def, fill: int64(def.Fill()), order: order, seed: maphash.MakeSeed(), shards: make([]shard, shardsFor(def.Keys))}
}

// Name is how answers, logs and metrics call it.
func (l *Limit) Name() string { return l.name }

// Definition is what it allows.
func (l *Limit) Definition() Definition { return l.def }

// Key is one key of one limit, from its methods; those of other limits say something else.
type Key uint64

// Everybody is the key where all share one bucket; Nobody is that of those who have none: who do
// not send the field, have no address, or have not proven who they are.
const (
	Everybody Key = 0
	Nobody    Key = 1
)

// Hash is the key of a text. It is 64 bits under a secret seed instead of the text itself, so that
// memory does not depend on what clients send, and nobody can choose keys that meet.
func (l *Limit) Hash(text []byte) Key { return Key(max(maphash.Bytes(l.seed, text), 2)) }

// HashString is Hash.
func (l *Limit) HashString(text string) Key { return Key(max(maphash.String(l.seed, text), 2)) }

// Source is the key of an address, of which only the first v4 or v6 bits count. IPv4 written
// as IPv6 is IPv4. Nobody for an address that is none.
func (l *Limit) Source(a netip.Addr, v4, v6 int) Key {
	if !a.IsValid() {
		return Nobody
	}
	a = a.Unmap()
	bits := v6
	if a.Is4() {
		bits = v4
	}
	p, err := a.WithZone("").Prefix(min(bits, a.BitLen()))
	if err != nil {
		return Nobody
	}
	b := p.Addr().As16()
	return l.Hash(b[:])
}

// Stats is what a limit has come to.
type Stats struct {
	Keys            int    // buckets that are kept
	Allowed, Denied uint64 // since it is there
	// Evicted counts buckets that had to go before they were full again, for want of places:
	// those whose keys began anew with a full one.
	Evicted uint64
}

// Stats counts. It takes the lock of one shard after the other.
func (l *Limit) Stats() Stats {
	s := Stats{Keys: int(l.keys.Load())}
	for i := range l.shards {
		h := &l.shards[i]
		h.mu.Lock()
		s.Allowed += h.allowed
		s.Denied += h.denied
		s.Evicted += h.evicted
		h.mu.Unlock()
	}
	return s
}

// Expire forgets the buckets that are full at now: they say no more than none. Called by the
// control plane now and then; loops wait for moments only.
func (l *Limit) Expire(now int64) {
	for i := range l.shards {
		s := &l.shards[i]
		for next := s.expire(l, now, 0); next > 0; {
			next = s.expire(l, now, next)
		}
	}
}
