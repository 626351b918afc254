package limit

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"
)

// BenchmarkTake decides about one of 100,000 keys, at random: the worst for caches.
func BenchmarkTake(b *testing.B) {
	for _, n := range []uint32{1, 1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := one(b, Definition{Rate: 1e4, Burst: 1000, Keys: DefaultKeys})
			claims, text := []Claim{{Limit: l}}, []byte("client-....")
			key := func(i uint32) Key {
				binary.LittleEndian.PutUint32(text[7:], i%n)
				return l.Hash(text)
			}
			for i := range n {
				take(l, 0, key(i))
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				claims[0].Key = key(uint32(i) * 2654435761 >> 8)
				Take(int64(i)*100, claims)
			}
		})
	}
}

// BenchmarkTakeThree decides about a request that three limits hold for.
func BenchmarkTakeThree(b *testing.B) {
	r := NewRegistry()
	claims := make([]Claim, 3)
	for i := range claims {
		claims[i] = Claim{Limit: r.Get("", "", Definition{Rate: 1e9, Burst: 1e6, Keys: 1000})}
	}
	b.ReportAllocs()
	for i := range b.N {
		Take(int64(i)*100, claims)
	}
}

// BenchmarkTakeNew has a new key each time, in a full table.
func BenchmarkTakeNew(b *testing.B) {
	l := one(b, Definition{Rate: 100, Burst: 100})
	text := make([]byte, 8)
	claims := []Claim{{Limit: l}}
	b.ReportAllocs()
	for i := range b.N {
		for j := range text {
			text[j] = byte(i >> (8 * j))
		}
		claims[0].Key = l.Hash(text)
		Take(int64(i)*100, claims)
	}
}

// BenchmarkTakeHot has all loops at one bucket: what leasing would save.
func BenchmarkTakeHot(b *testing.B) {
	l := one(b, Definition{Rate: 1e4, Burst: 1000})
	var clock atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		claims := []Claim{{Limit: l}}
		now := clock.Add(1)
		for pb.Next() {
			now += 100
			Take(now, claims)
		}
	})
}
