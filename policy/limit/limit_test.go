package limit

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const second = int64(time.Second)

func one(t testing.TB, d Definition) *Limit {
	t.Helper()
	if d.Keys == 0 {
		d.Keys = DefaultKeys
	}
	return NewRegistry().Get("place", "limit", d)
}

func take(l *Limit, now int64, k Key) Verdict {
	return Take(now, []Claim{{Limit: l, Key: k}})
}

func TestBucket(t *testing.T) {
	l := one(t, Definition{Rate: 10, Burst: 3})
	now := 5 * second
	for i := range 3 {
		if v := take(l, now, Everybody); !v.Allowed || v.Remaining != 2-i || v.Limit != 3 || v.Wait != 0 {
			t.Fatalf("%d: %+v", i, v)
		}
	}
	v := take(l, now, Everybody)
	if v.Allowed || v.Wait != 100*time.Millisecond || v.Remaining != 0 || v.Reset != 300*time.Millisecond {
		t.Fatalf("%+v", v)
	}
	if v = take(l, now+int64(v.Wait)-2, Everybody); v.Allowed {
		t.Error("allowed before its time")
	}
	if v = take(l, now+int64(100*time.Millisecond), Everybody); !v.Allowed || v.Remaining != 0 {
		t.Errorf("after the wait: %+v", v)
	}
	if v = take(l, now+int64(100*time.Millisecond), Nobody); !v.Allowed || v.Remaining != 2 {
		t.Errorf("another key: %+v", v)
	}
	if v = take(l, now+100*second, Everybody); !v.Allowed || v.Remaining != 2 {
		t.Errorf("no more than the burst is saved up: %+v", v)
	}
	if s := l.Stats(); s != (Stats{Keys: 2, Allowed: 6, Denied: 2}) {
		t.Errorf("%+v", s)
	}
}

// A client that comes at the very rate is never refused, and gets nothing beyond it.
func TestVeryRate(t *testing.T) {
	for _, rate := range []float64{1, 3, 7, 100, 333, 1000, 44100} {
		l := one(t, Definition{Rate: rate, Burst: 1})
		allowed := 0
		for i := range 10 * int64(rate) {
			if take(l, (i*second+int64(rate)-1)/int64(rate), Everybody).Allowed { // rounded up
				allowed++
			}
		}
		if allowed != 10*int(rate) {
			t.Errorf("%v a second: %d of %d", rate, allowed, 10*int(rate))
		}
	}
}

// Two loops, each with its own idea of the time, offer far more than is allowed for a
// minute of virtual time.
func TestExactOverAMinute(t *testing.T) {
	for _, d := range []Definition{{Rate: 1, Burst: 2}, {Rate: 10, Burst: 50}, {Rate: 100, Burst: 100}, {Rate: 1000, Burst: 10}, {Rate: 0.5, Burst: 3}, {Rate: 2000, Burst: 2000}} {
		t.Run(fmt.Sprint(d.Rate, " ", d.Burst), func(t *testing.T) {
			l := one(t, d)
			random := rand.New(rand.NewPCG(1, 2))
			allowed, minute := 0, 60*second
			now := [2]int64{}
			for now[0] < minute || now[1] < minute {
				i := 0
				if now[1] < now[0] {
					i = 1
				}
				now[i] += random.Int64N(max(second/int64(4*d.Rate+1), 2)) // each twice the rate and more
				if now[i] >= minute {
					now[i] = minute
					continue
				}
				late := now[i] - random.Int64N(int64(2*time.Millisecond)) // a loop reads its clock once a turn
				if take(l, max(late, 0), Everybody).Allowed {
					allowed++
				}
			}
			want := d.Rate*60 + float64(d.Burst)
			if got := float64(allowed); got < want*0.99-1 || got > want+1 {
				t.Errorf("%v allowed, want %v", got, want)
			}
		})
	}
}

// The same by real goroutines, whose times go backwards for each other.
func TestExactFromTwoLoops(t *testing.T) {
	l := one(t, Definition{Rate: 1000, Burst: 100})
	var clock atomic.Int64
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				now := clock.Add(100_000) // 100 us: ten times the rate
				if now > 60*second {
					return
				}
				if take(l, now, Everybody).Allowed {
					allowed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := allowed.Load(); n < 60_100-1 || n > 60_100+1 {
		t.Errorf("%d allowed, want 60100", n)
	}
}

func TestAllOrNothing(t *testing.T) {
	r := NewRegistry()
	wide := r.Get("a", "wide", Definition{Rate: 1, Burst: 10, Keys: 10})
	narrow := r.Get("b", "narrow", Definition{Rate: 1, Burst: 2, Keys: 10})
	slow := r.Get("c", "slow", Definition{Rate: 0.1, Burst: 3, Keys: 10})
	order := Sort([]*Limit{slow, wide, narrow, wide})
	if len(order) != 3 || order[0] != wide || order[1] != narrow || order[2] != slow {
		t.Fatal("not in the order in which they were made")
	}
	claims := []Claim{{Limit: wide}, {Limit: narrow}, {Limit: slow}}
	for i := range 2 {
		if v := Take(0, claims); !v.Allowed || v.Claim != 1 || v.Remaining != 1-i {
			t.Fatalf("%+v", v)
		}
	}
	for range 5 {
		if v := Take(0, claims); v.Allowed || v.Claim != 1 || v.Wait != time.Second {
			t.Fatalf("%+v", v)
		}
	}
	// A second later narrow has one more, and after it slow has none for longer.
	if v := Take(second, claims); !v.Allowed {
		t.Fatalf("%+v", v)
	}
	if v := Take(second, claims); v.Allowed || v.Claim != 2 || v.Wait != 9*time.Second {
		t.Fatalf("two deny: %+v", v)
	}
	if s := wide.Stats(); s.Allowed != 3 || s.Denied != 0 {
		t.Errorf("wide: %+v", s)
	}
	if v := take(wide, second, Everybody); v.Remaining != 7 { // 10 - 3 + 1 second - this one
		t.Errorf("what others denied was taken from wide: %+v", v)
	}
	if a, b := narrow.Stats(), slow.Stats(); a.Denied != 5 || b.Denied != 1 {
		t.Errorf("the one that is waited for longest has denied: %+v %+v", a, b)
	}
}

func TestGiveBack(t *testing.T) {
	l := one(t, Definition{Rate: 1, Burst: 2})
	claims := []Claim{{Limit: l}}
	for i := range 50 {
		if v := Take(0, claims); !v.Allowed || v.Remaining != 1 {
			t.Fatalf("%d: %+v", i, v)
		}
		GiveBack(0, claims)
	}
	if s := l.Stats(); s.Allowed != 0 || s.Denied != 0 {
		t.Errorf("%+v", s)
	}
	// More than the bucket holds is given back to no avail.
	Take(0, claims)
	GiveBack(10*second, claims)
	for i := range 3 {
		if v := Take(10*second, claims); v.Allowed != (i < 2) && i != 2 {
			t.Errorf("%d: %+v", i, v)
		}
	}
	if v := Take(10*second+1, claims); v.Allowed {
		t.Errorf("a bucket of 2 gave more: %+v", v)
	}
}

func TestKeys(t *testing.T) {
	l := one(t, Definition{Rate: 1, Burst: 1})
	addr := netip.MustParseAddr
	same := [][2]Key{
		{l.Source(addr("192.0.2.1"), 24, 64), l.Source(addr("192.0.2.250"), 24, 64)},
		{l.Source(addr("192.0.2.1"), 32, 64), l.Source(addr("::ffff:192.0.2.1"), 32, 64)},
		{l.Source(addr("2001:db8::1"), 32, 64), l.Source(addr("2001:db8::ffff:1"), 32, 64)},
		{l.Source(addr("fe80::1%eth0"), 32, 128), l.Source(addr("fe80::1"), 32, 128)},
		{l.Source(netip.Addr{}, 32, 64), Nobody},
		{l.Hash([]byte("a")), l.HashString("a")},
	}
	for i, p := range same {
		if p[0] != p[1] {
			t.Errorf("same %d: %v", i, p)
		}
	}
	other := [][2]Key{
		{l.Source(addr("192.0.2.1"), 32, 64), l.Source(addr("192.0.2.2"), 32, 64)},
		{l.Source(addr("192.0.2.1"), 24, 64), l.Source(addr("192.0.3.1"), 24, 64)},
		{l.Source(addr("2001:db8::1"), 32, 64), l.Source(addr("2001:db8:0:1::1"), 32, 64)},
		{l.Hash([]byte("a")), l.Hash([]byte("b"))},
		{l.Hash(nil), Nobody},
		{l.Hash(nil), Everybody},
	}
	for i, p := range other {
		if p[0] == p[1] {
			t.Errorf("other %d: %v", i, p)
		}
	}
}

// Full buckets are forgotten, others are not; what is forgotten loses nothing.
func TestExpire(t *testing.T) {
	l := one(t, Definition{Rate: 1, Burst: 2})
	for i := range 5000 {
		take(l, 0, l.HashString(fmt.Sprint(i)))
	}
	take(l, 0, Everybody)
	take(l, 0, Everybody)
	l.Expire(second - 2)
	if n := l.Stats().Keys; n != 5001 {
		t.Errorf("%d keys are left while none is full", n)
	}
	l.Expire(second)
	if n := l.Stats().Keys; n != 1 {
		t.Errorf("%d keys are left, want the one that is not full", n)
	}
	if v := take(l, second, Everybody); !v.Allowed || v.Remaining != 0 {
		t.Errorf("%+v", v)
	}
	l.Expire(10 * second)
	if s := l.Stats(); s.Keys != 0 || s.Evicted != 0 {
		t.Errorf("%+v", s)
	}
	for i := range l.shards {
		if s := &l.shards[i]; s.buckets != nil {
			t.Errorf("shard %d keeps %d places", i, len(s.buckets))
		}
	}
}

// At the bound those go that have not been used for a while.
func TestBound(t *testing.T) {
	l := one(t, Definition{Rate: 1, Burst: 2, Keys: 100})
	key := func(i int) Key { return l.HashString(fmt.Sprint(i)) }
	for i := range 100 {
		take(l, 0, key(i))
	}
	for i := 100; i < 300; i++ {
		take(l, 0, key(i))
		for j := range 10 {
			take(l, 0, key(50+j)) // used all the time
		}
	}
	if s := l.Stats(); s.Keys != 100 || s.Evicted < 200 || s.Evicted > 210 {
		t.Errorf("%+v", s)
	}
	for i := range 10 {
		if v := take(l, 0, key(50+i)); v.Allowed {
			t.Errorf("key %d is used and was forgotten", 50+i)
		}
	}
	// Full ones that go are no loss.
	l = one(t, Definition{Rate: 1, Burst: 2, Keys: 100})
	for i := range 300 {
		take(l, int64(i)*second, key(i))
	}
	if s := l.Stats(); s.Keys != 100 || s.Evicted != 0 {
		t.Errorf("%+v", s)
	}
}

// memoryBound is what the manual says of a table of DefaultKeys.
const memoryBound = 24 << 20

func TestMemoryOfAMillionKeys(t *testing.T) {
	l := one(t, Definition{Rate: 1, Burst: 100})
	before := heap()
	text := []byte("key-0000000000000000")
	for i := range 1_000_000 {
		for j, n := len(text)-1, i; n > 0; j, n = j-1, n/10 {
			text[j] = byte('0' + n%10)
		}
		take(l, int64(i)*100, l.Hash(text))
	}
	used := heap() - before
	t.Logf("%.1f MiB for %d keys: %.0f bytes a key", float64(used)/(1<<20), l.Stats().Keys, float64(used)/float64(l.Stats().Keys))
	if used > memoryBound {
		t.Errorf("%d bytes, more than %d", used, memoryBound)
	}
	if s := l.Stats(); s.Keys < 99_000 || s.Keys > DefaultKeys+maxShards || s.Evicted != uint64(1_000_000-s.Keys) {
		t.Errorf("%+v", s)
	}
	l.Expire(1000 * second)
	if left := heap() - before; left > 1<<20 {
		t.Errorf("%d bytes are left when all has expired", left)
	}
	runtime.KeepAlive(l)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestNothingIsAllocated(t *testing.T) {
	r := NewRegistry()
	a := r.Get("a", "a", Definition{Rate: 100, Burst: 100, Keys: 5000})
	b := r.Get("b", "b", Definition{Rate: 1, Burst: 1, Keys: 5000})
	claims, n := []Claim{{Limit: a}, {Limit: b}}, 0
	text := []byte("key")
	step := func() {
		n++
		text = append(text[:3], byte(n), byte(n>>8), byte(n>>16))
		claims[0].Key, claims[1].Key = a.Hash(text[:4]), b.Hash(text) // b's are always new
		if Take(int64(n)*1000, claims).Allowed {
			GiveBack(int64(n)*1000, claims)
		}
	}
	for range 100_000 {
		step()
	}
	if got := testing.AllocsPerRun(20_000, step); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func TestRegistry(t *testing.T) {
	r := NewRegistry()
	d := Definition{Rate: 1, Burst: 1, Keys: 10}
	a := r.Get("x", "n", d)
	if r.Get("x", "n", d) == a {
		t.Error("not kept, yet found")
	}
	r.Keep([]Placed{{"x", a}})
	if r.Get("x", "n", d) != a {
		t.Error("what is in force unchanged is made anew")
	}
	for name, other := range map[string]*Limit{
		"place": r.Get("y", "n", d), "name": r.Get("x", "m", d), "rate": r.Get("x", "n", Definition{2, 1, 10}),
		"burst": r.Get("x", "n", Definition{1, 2, 10}), "keys": r.Get("x", "n", Definition{1, 1, 11}),
	} {
		if other == a {
			t.Errorf("another %s, the same limit", name)
		}
	}
	if all := r.All(); len(all) != 1 || all[0] != (Placed{"x", a}) {
		t.Errorf("%v", all)
	}
	r.Keep(nil)
	if r.Get("x", "n", d) == a || len(r.All()) != 0 {
		t.Error("a limit that went came back")
	}
}

// Loops, the control plane and statistics at once; for the race detector.
func TestAtOnce(t *testing.T) {
	r := NewRegistry()
	limits := Sort([]*Limit{
		r.Get("a", "a", Definition{Rate: 1000, Burst: 5, Keys: 2000}),
		r.Get("b", "b", Definition{Rate: 1000, Burst: 5, Keys: 50}),
		r.Get("c", "c", Definition{Rate: 1e6, Burst: 500, Keys: 1}),
	})
	var allowed atomic.Int64
	var loops, control sync.WaitGroup
	done := make(chan struct{})
	for g := range 4 {
		loops.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g), 1))
			claims := make([]Claim, len(limits))
			for i := range 20_000 {
				claims = claims[:0]
				for j, l := range limits {
					claims = append(claims, Claim{Limit: l, Key: []Key{l.Hash([]byte{byte(random.IntN(200)), byte(random.IntN(20))}), Key(random.IntN(100)), Everybody}[j]})
				}
				if Take(int64(i)*1000, claims).Allowed {
					if i%3 == 0 {
						GiveBack(int64(i)*1000, claims)
					} else {
						allowed.Add(1)
					}
				}
			}
		})
	}
	control.Go(func() {
		for i := int64(0); ; i++ {
			select {
			case <-done:
				return
			default:
			}
			for _, l := range limits {
				l.Expire(i * 100_000)
				l.Stats()
			}
			runtime.Gosched()
		}
	})
	loops.Wait()
	close(done)
	control.Wait()
	for _, l := range limits {
		s, n := l.Stats(), 0
		for i := range l.shards {
			n += l.shards[i].n
		}
		if s.Keys != n || n > l.def.Keys+len(l.shards) || s.Allowed != uint64(allowed.Load()) {
			t.Errorf("%s: %+v, %d buckets, %d allowed", l.name, s, n, allowed.Load())
		}
	}
}
