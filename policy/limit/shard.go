package limit

import (
	"math/bits"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The table of a limit: shards by the key's high bits, each with its lock and its buckets. With
// many keys the time of a decision is that of its cache misses, so a bucket stands in the table
// itself, where its key says, or close behind (open addressing, linear probing): there is one
// miss, where a map of pointers would have four.

// manyKeys is where a table is worth more than one shard; there are maxShards then.
const (
	manyKeys  = 1024
	maxShards = 64
)

func shardsFor(keys int) int {
	if keys < manyKeys {
		return 1
	}
	return maxShards
}

func (l *Limit) shard(k Key) *shard {
	if len(l.shards) == 1 {
		return &l.shards[0]
	}
	return &l.shards[uint64(k)>>(64-6)] // maxShards
}

// bucket is one key's, of 96 bytes. It moves within its table, together with the lock inside
// the library's Limiter, which nobody holds then: the shard's is held for every use of it.
type bucket struct {
	key    Key
	state  state
	tokens rate.Limiter
}

type state uint8

const (
	empty state = iota // no bucket
	idle               // not used since the hand was there
	used
)

type shard struct {
	mu      sync.Mutex // guards all; held for moments, by loops and by the control plane
	buckets []bucket   // between an eighth and three quarters of them are none
	n       int        // how many are
	hand    int        // of the clock that says which one goes where there are too many
	now     int64      // latest time seen

	allowed, denied, evicted uint64
}

// at is now as a time. Times of several loops come out of order by the length of a turn; the
// library would take the way back for time that has passed, and pass it again.
func (s *shard) at(now int64) time.Time {
	s.now = max(s.now, now)
	return time.Unix(0, s.now)
}

// home is where the bucket of k stands if nobody is in its way.
func (s *shard) home(k Key) int {
	hi, _ := bits.Mul64(uint64(k)<<6, uint64(len(s.buckets))) // without the bits of the shard
	return int(hi)
}

func (s *shard) after(i int) int {
	if i++; i < len(s.buckets) {
		return i
	}
	return 0
}

// place returns where the bucket of k is, or where there is room for it.
func (s *shard) place(k Key) int {
	i := s.home(k)
	for s.buckets[i].state != empty && s.buckets[i].key != k {
		i = s.after(i)
	}
	return i
}

// find returns the bucket of k, a full one where there was none. It is valid while s is locked and
// nothing else is looked for.
func (s *shard) find(l *Limit, k Key, t time.Time) *bucket {
	if len(s.buckets) > 0 {
		if b := &s.buckets[s.place(k)]; b.state != empty {
			b.state = used
			return b
		}
	}
	return s.add(l, k, t)
}

// add makes a bucket for k, in place of another where there are as many as may be. The count is
// over all shards, so that a table is full at its bound whatever the keys; it may pass by one for
// each shard that has none yet.
func (s *shard) add(l *Limit, k Key, t time.Time) *bucket {
	if s.n > 0 && l.keys.Load() >= int64(l.def.Keys) {
		v := s.victim()
		if !s.buckets[v].full(l, t) {
			s.evicted++
		}
		s.forget(v)
	} else {
		l.keys.Add(1)
	}
	if s.n++; 4*s.n > 3*len(s.buckets) {
		s.resize(2 * s.n)
	}
	b := &s.buckets[s.place(k)]
	*b = bucket{key: k, state: used}
	// The library's buckets are empty at first; this one began so long ago that it is full.
	born := t.Add(-time.Duration(l.fill) - time.Millisecond)
	b.tokens.SetLimitAt(born, rate.Limit(l.def.Rate))
	b.tokens.SetBurstAt(born, l.def.Burst)
	return b
}

func (b *bucket) full(l *Limit, t time.Time) bool {
	return b.tokens.TokensAt(t) >= float64(l.def.Burst)
}

// maxLook bounds how many buckets the hand passes over for one victim.
const maxLook = 16

// victim is a bucket that has not been used for a while: the hand passes over those that have
// been used since it was there last.
func (s *shard) victim() int {
	for look := 0; ; s.hand++ {
		if s.hand >= len(s.buckets) {
			s.hand = 0
		}
		b := &s.buckets[s.hand]
		switch {
		case b.state == empty:
		case b.state == idle || look == maxLook:
			return s.hand
		default:
			b.state = idle
			look++
		}
	}
}

// forget empties place i, and moves up those behind that would not be found any more.
func (s *shard) forget(i int) {
	s.n--
	for next := s.after(i); s.buckets[next].state != empty; next = s.after(next) {
		// One that stands between its home and the gap, in the sense of the ring, stays.
		if home := s.home(s.buckets[next].key); s.from(home, next) >= s.from(i, next) {
			copy(s.buckets[i:i+1], s.buckets[next:])
			i = next
		}
	}
	s.buckets[i] = bucket{}
}

// from is the way from place i to place j.
func (s *shard) from(i, j int) int {
	if j < i {
		j += len(s.buckets)
	}
	return j - i
}

// resize makes n places, more than there are buckets; 0 where there are none.
func (s *shard) resize(n int) {
	was := s.buckets
	s.buckets, s.hand = nil, 0
	if n > 0 {
		s.buckets = make([]bucket, max(n, 8))
	}
	for i := range was {
		if was[i].state != empty {
			at := s.place(was[i].key)
			copy(s.buckets[at:at+1], was[i:])
		}
	}
}

// expireBatch is how many places are looked at under one lock.
const expireBatch = 128

// expire forgets the full ones of the batch that begins at place begin, and returns where the next
// one does; 0: there is none.
func (s *shard) expire(l *Limit, now int64, begin int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.at(now)
	for i := begin; i < min(begin+expireBatch, len(s.buckets)); i++ {
		for s.buckets[i].state != empty && s.buckets[i].full(l, t) {
			s.forget(i) // and look at what moves up
			l.keys.Add(-1)
		}
	}
	if begin += expireBatch; begin < len(s.buckets) {
		return begin
	}
	if 8*s.n < len(s.buckets) && (s.n == 0 || len(s.buckets) > 8) {
		s.resize(2 * s.n)
	}
	return 0
}
