package balance

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/policy"
)

// load is a settable Load: endpoints are up unless in down.
type load struct {
	down     map[int]bool
	inflight []int64
}

func (l *load) Usable(i int) bool { return !l.down[i] }
func (l *load) Inflight(i int) int64 {
	if l.inflight == nil {
		return 0
	}
	return l.inflight[i]
}

func mustNew(t testing.TB, kind string, weights []int, seed uint64) Picker {
	t.Helper()
	p, err := New(kind, weights, seed)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func sequence(p Picker, ctx PickContext, n int) string {
	var b strings.Builder
	for range n {
		token, ok := p.Pick(ctx)
		if !ok {
			b.WriteByte('-')
			continue
		}
		b.WriteByte('a' + byte(token.Index))
		p.Done(token, policy.Outcome{})
	}
	return b.String()
}

func TestRoundRobinSequence(t *testing.T) {
	for _, c := range []struct {
		name    string
		weights []int
		seed    uint64
		down    map[int]bool
		want    string
	}{
		{"equal", []int{1, 1, 1}, 0, nil, "abcabca"},
		{"equal, begins elsewhere", []int{1, 1, 1}, 5, nil, "cabcabc"},
		{"smooth, as nginx documents it", []int{5, 1, 1}, 0, nil, "aabacaaaabacaa"},
		{"smooth, begins elsewhere", []int{5, 1, 1}, 2, nil, "bacaaaabacaa"},
		{"two to one", []int{2, 1}, 0, nil, "abaaba"},
		{"weight 0 left out", []int{1, 0, 1}, 0, nil, "acacac"},
		{"one down, equal", []int{1, 1, 1}, 0, map[int]bool{1: true}, "acacac"},
		{"heavy one down", []int{5, 1, 1}, 0, map[int]bool{0: true}, "bcbcbc"},
		{"all down", []int{5, 1, 1}, 0, map[int]bool{0: true, 1: true, 2: true}, "---"},
		{"no endpoints", nil, 7, nil, "--"},
		{"only weight 0", []int{0, 0}, 7, nil, "--"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := mustNew(t, RoundRobin, c.weights, c.seed)
			if got := sequence(p, PickContext{Load: &load{down: c.down}}, len(c.want)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// A neighbour of an endpoint that is down must not inherit its share.
func TestRoundRobinEvenBesideDown(t *testing.T) {
	p := mustNew(t, RoundRobin, []int{1, 1, 1, 1}, 0)
	counts := map[int]int{}
	for range 300 {
		token, _ := p.Pick(PickContext{Load: &load{down: map[int]bool{1: true}}})
		counts[token.Index]++
	}
	if counts[0] != 100 || counts[2] != 100 || counts[3] != 100 {
		t.Errorf("counts %v", counts)
	}
}

// In every full round each endpoint is picked exactly as often as it weighs, and
// never is an endpoint further from its share than smoothness allows.
func TestRoundRobinProportion(t *testing.T) {
	large := make([]int, 200)
	for i := range large {
		large[i] = 1 + i%7
	}
	for _, c := range []struct {
		name    string
		weights []int
		slack   float64
	}{{"smooth", []int{7, 3, 1, 1, 5}, 1.5}, {"stride", large, 1.5}} {
		t.Run(c.name, func(t *testing.T) {
			total := 0
			for _, w := range c.weights {
				total += w
			}
			p, counts := mustNew(t, RoundRobin, c.weights, 0), make([]int, len(c.weights))
			for n := 1; n <= 3*total; n++ {
				token, _ := p.Pick(PickContext{Load: &load{}})
				counts[token.Index]++
				want := float64(n*c.weights[token.Index]) / float64(total)
				if d := math.Abs(float64(counts[token.Index]) - want); d > c.slack {
					t.Fatalf("pick %d: endpoint %d is %.2f from its share", n, token.Index, d)
				}
			}
			for i, w := range c.weights {
				if math.Abs(float64(counts[i]-3*w)) > 1 {
					t.Errorf("endpoint %d of weight %d: %d picks in 3 rounds", i, w, counts[i])
				}
			}
		})
	}
}

func TestStrideRebases(t *testing.T) {
	s := newStride(membersOf([]int{1, 2, 3}))
	for k := range s.heap {
		s.heap[k].pass += 1<<62 - strideUnit
	}
	got := sequence(s, PickContext{Load: &load{}}, 24)
	for _, c := range []struct {
		name string
		want int
	}{{"a", 4}, {"b", 8}, {"c", 12}} {
		if n := strings.Count(got, c.name); n != c.want {
			t.Errorf("%s: %d picks of %s, want %d", got, n, c.name, c.want)
		}
	}
	for _, item := range s.heap {
		if item.pass < 0 || item.pass > 1<<61 {
			t.Errorf("pass %d after the rebase", item.pass)
		}
	}
}

// A draw stands for each place in exact proportion to its weight.
func TestAliasIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 500 {
		weights := make([]int, 1+r.IntN(70))
		for i := range weights {
			weights[i] = 1 + r.IntN(1<<r.IntN(20))
		}
		m := membersOf(weights)
		a, got := newAlias(m), make([]uint64, len(m))
		if a.columns == nil { // all alike
			continue
		}
		for k, c := range a.columns {
			if c.cut > a.height {
				t.Fatalf("%v: column %d is higher than all", weights, k)
			}
			got[k] += c.cut
			got[c.alias] += a.height - c.cut
		}
		for k, x := range m {
			if got[k] != uint64(x.weight)*a.n {
				t.Fatalf("%v: place %d has %d of %d, want weight %d", weights, k, got[k], a.n*a.height, x.weight)
			}
		}
	}
}

func TestRandomProportion(t *testing.T) {
	weights := []int{1, 2, 3, 0, 4}
	for _, kind := range []string{Random, P2C} {
		for _, down := range []map[int]bool{nil, {4: true, 2: true}} {
			t.Run(fmt.Sprint(kind, down), func(t *testing.T) {
				const n = 60000
				p, counts, total := mustNew(t, kind, weights, 42), make([]int, len(weights)), 0
				for i, w := range weights {
					if !down[i] {
						total += w
					}
				}
				for range n {
					token, ok := p.Pick(PickContext{Load: &load{down: down}})
					if !ok {
						t.Fatal("nothing picked")
					}
					counts[token.Index]++
				}
				for i, w := range weights {
					if down[i] {
						w = 0
					}
					want := float64(n*w) / float64(total)
					if math.Abs(float64(counts[i])-want) > 4*math.Sqrt(want) { // four sigma; the seed is fixed
						t.Errorf("endpoint %d: %d picks, want about %.0f", i, counts[i], want)
					}
				}
			})
		}
	}
}

func TestP2CPrefersTheLessLoaded(t *testing.T) {
	for _, c := range []struct {
		name     string
		weights  []int
		inflight []int64
		want     string
	}{
		{"two endpoints: always the idle one", []int{1, 1}, []int64{3, 0}, "bbbbbb"},
		{"load counts per weight", []int{4, 1}, []int64{3, 1}, "aaaaaa"},
		{"one endpoint", []int{1}, []int64{9}, "aa"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := mustNew(t, P2C, c.weights, 1)
			if got := sequence(p, PickContext{Load: &load{inflight: c.inflight}}, len(c.want)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// With exchanges that never end, p2c keeps the endpoints close together where
// random drifts apart.
func TestP2CEvensOut(t *testing.T) {
	spread := func(kind string) int64 {
		l := &load{inflight: make([]int64, 20)}
		p := mustNew(t, kind, []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 7)
		for range 2000 {
			token, _ := p.Pick(PickContext{Load: l})
			l.inflight[token.Index]++
		}
		low, high := l.inflight[0], l.inflight[0]
		for _, n := range l.inflight {
			low, high = min(low, n), max(high, n)
		}
		return high - low
	}
	if p2c, random := spread(P2C), spread(Random); p2c > 8 || p2c*3 > random {
		t.Errorf("spread of p2c %d, of random %d", p2c, random)
	}
}

// Whatever is down, tried or weightless: a pick is always one of those that come
// into question, there is one exactly if any does, and none of them starves.
func TestPickProperties(t *testing.T) {
	for _, kind := range []string{RoundRobin, Random, P2C} {
		t.Run(kind, func(t *testing.T) {
			r := rand.New(rand.NewPCG(3, 4))
			for range 300 {
				n := []int{1, 2, 5, 64, 65, 130}[r.IntN(6)]
				weights, l, tried := make([]int, n), &load{down: map[int]bool{}, inflight: make([]int64, n)}, &Set{}
				same, can := r.IntN(2) == 0, 0
				for i := range weights {
					if weights[i] = r.IntN(4); same {
						weights[i] = min(weights[i], 1)
					}
					l.down[i] = r.IntN(3) == 0
					if r.IntN(4) == 0 {
						tried.Add(i)
					}
					if weights[i] > 0 && !l.down[i] && !tried.Has(i) {
						can++
					}
				}
				p, seen := mustNew(t, kind, weights, r.Uint64()), map[int]bool{}
				for range 60 * n {
					token, ok := p.Pick(PickContext{Load: l, Tried: tried})
					if ok != (can > 0) {
						t.Fatalf("picked %v with %d in question", ok, can)
					}
					if !ok {
						break
					}
					i := token.Index
					if weights[i] == 0 || l.down[i] || tried.Has(i) {
						t.Fatalf("picked %d: weight %d, down %v, tried %v", i, weights[i], l.down[i], tried.Has(i))
					}
					seen[i] = true
				}
				if len(seen) != can {
					t.Fatalf("%d of %d were ever picked", len(seen), can)
				}
			}
		})
	}
}

func TestNewRefusesAnUnknownKind(t *testing.T) {
	if _, err := New("fastest", []int{1}, 0); err == nil || !strings.Contains(err.Error(), `unknown kind "fastest"`) {
		t.Errorf("got %v", err)
	}
}

func TestStrangeWeights(t *testing.T) {
	weights := []int{-1, math.MaxInt, MaxWeight, math.MinInt}
	for _, kind := range []string{RoundRobin, Random, P2C} {
		counts := map[int]int{}
		p := mustNew(t, kind, weights, 1)
		for range 1000 {
			token, ok := p.Pick(PickContext{Load: &load{inflight: make([]int64, 4)}})
			if !ok {
				t.Fatalf("%s: nothing picked", kind)
			}
			counts[token.Index]++
		}
		if counts[1] < 400 || counts[2] < 400 || counts[1]+counts[2] != 1000 {
			t.Errorf("%s: picks %v, want halves of the two in the middle", kind, counts)
		}
	}
}

func TestSet(t *testing.T) {
	var s Set
	if !s.Empty() || s.Has(0) || s.Has(1000) || !(*Set)(nil).Empty() || (*Set)(nil).Has(3) {
		t.Error("the zero set is not empty")
	}
	in := []int{0, 63, 64, 127, 128, 1000}
	for _, i := range in {
		s.Add(i)
	}
	for i := range 1100 {
		want := false
		for _, j := range in {
			want = want || i == j
		}
		if s.Has(i) != want {
			t.Errorf("Has(%d) = %v", i, !want)
		}
	}
	if s.Reset(); !s.Empty() || s.Has(64) {
		t.Error("not empty after Reset")
	}
	if s.Add(1000); s.Empty() {
		t.Error("empty with 1000 in it")
	}
}

func weightsFor(n int, differ bool) []int {
	weights := make([]int, n)
	for i := range weights {
		if weights[i] = 1; differ {
			weights[i] = 1 + i%5
		}
	}
	return weights
}

func TestPickAllocatesNothing(t *testing.T) {
	for _, kind := range []string{RoundRobin, Random, P2C} {
		for _, n := range []int{3, 64, 500} {
			p, l, tried := mustNew(t, kind, weightsFor(n, true), 1), &load{inflight: make([]int64, n)}, &Set{}
			tried.Add(1)
			if got := testing.AllocsPerRun(100, func() { p.Pick(PickContext{Load: l, Tried: tried}) }); got != 0 {
				t.Errorf("%s of %d: %v allocations a pick", kind, n, got)
			}
		}
	}
}

func BenchmarkPick(b *testing.B) {
	for _, kind := range []string{RoundRobin, Random, P2C} {
		for _, n := range []int{3, 64, 1000} {
			for _, differ := range []bool{false, true} {
				b.Run(fmt.Sprintf("%s/%d/differ=%v", kind, n, differ), func(b *testing.B) {
					p, l := mustNew(b, kind, weightsFor(n, differ), 1), &load{inflight: make([]int64, n)}
					b.ReportAllocs()
					for b.Loop() {
						token, _ := p.Pick(PickContext{Load: l})
						p.Done(token, policy.Outcome{})
					}
				})
			}
		}
	}
}
