package limit

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Keys that come and go are found each where a map would find them; they have so few bits that
// they meet all the time.
func TestTableIsAMap(t *testing.T) {
	for seed := range uint64(64) {
		random := rand.New(rand.NewPCG(seed, 7))
		s, known := &shard{}, map[Key]bool{}
		for range 3000 {
			k := Key(random.Uint64()&0x8300_0000_0000_0007 | random.Uint64()&(seed*0x0404_0000_0000_0001))
			at := -1
			if len(s.buckets) > 0 {
				if i := s.place(k); s.buckets[i].state != empty {
					at = i
				}
			}
			if (at >= 0) != known[k] || at >= 0 && s.buckets[at].key != k {
				t.Fatalf("seed %d: %x: place %d, known %v", seed, uint64(k), at, known[k])
			}
			switch {
			case at >= 0 && random.IntN(3) > 0:
				s.forget(at)
				delete(known, k)
			case at < 0 && random.IntN(3) > 0:
				if s.n++; 4*s.n > 3*len(s.buckets) {
					s.resize(2 * s.n)
				}
				i := s.place(k)
				s.buckets[i].key, s.buckets[i].state = k, idle
				known[k] = true
			}
			if s.n != len(known) || len(s.buckets) <= s.n && s.n > 0 {
				t.Fatalf("seed %d: %d buckets in %d places for %d keys", seed, s.n, len(s.buckets), len(known))
			}
		}
	}
}

func TestFill(t *testing.T) {
	for _, c := range []struct {
		d    Definition
		want time.Duration
	}{
		{Definition{Rate: 10, Burst: 5}, 500 * time.Millisecond},
		{Definition{Rate: 3, Burst: 1}, 333333334},
		{Definition{Rate: 1e-9, Burst: 1 << 40}, 1 << 62},
	} {
		if got := c.d.Fill(); got != c.want {
			t.Errorf("%+v: %v, want %v", c.d, got, c.want)
		}
	}
}
