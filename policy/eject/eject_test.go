package eject

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/policy"
)

const second = int64(time.Second)

func usual() *Settings {
	return &Settings{Consecutive: 5, Time: 30 * time.Second, MaxTime: 300 * time.Second, MaxPercent: 50, Ramp: 30 * time.Second,
		Rate: Rate{Interval: 10 * time.Second, Requests: 100, Endpoints: 3, Deviation: 1.9, Margin: 0.02}, On: policy.AllFailures}
}

// crew is a service's endpoints.
type crew struct {
	t *testing.T
	Guard
	s   *Settings
	all []Member
	now int64
}

func newCrew(t *testing.T, n int) *crew {
	c := &crew{t: t, s: usual(), now: second}
	for range n {
		c.all = append(c.all, Member{Endpoint: &Endpoint{}, Counts: true})
	}
	return c
}

// count gives member i n outcomes, and ejects it when that is due.
func (c *crew) count(i, n int, v policy.Verdict) (changes []Change) {
	for range n {
		if !c.all[i].Count(c.s, v) {
			continue
		}
		if change, any := c.Eject(c.s, c.all, i, InARow, c.now); any {
			changes = append(changes, change)
		}
	}
	return changes
}

func (c *crew) out() (all []int) {
	for i, m := range c.all {
		if m.Out(c.now) {
			all = append(all, i)
		}
	}
	return all
}

func (c *crew) wantOut(want ...int) {
	c.t.Helper()
	if got := c.out(); !slices.Equal(got, want) {
		c.t.Errorf("at %v: out are %v, want %v", time.Duration(c.now), got, want)
	}
}

// pass lets time go on, second by second.
func (c *crew) pass(d time.Duration) (changes []Change) {
	for range d / time.Second {
		c.now += second
		changes = append(changes, c.Sweep(c.s, c.all, c.now)...)
	}
	return changes
}

func TestInARow(t *testing.T) {
	c := newCrew(t, 4)
	for range 100 {
		c.count(0, 4, policy.Failure)
		c.count(0, 3, policy.Neither)
		c.count(0, 1, policy.Success)
	}
	c.wantOut()
	got := c.count(0, 5, policy.Failure)
	if want := []Change{{Out: true, Until: 31 * second, For: 30 * time.Second, Times: 1}}; !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	c.wantOut(0)
	if got := c.count(0, 20, policy.Failure); got != nil {
		t.Errorf("what was under way ejects again: %+v", got)
	}
	c.now = 31*second - 1
	c.wantOut(0)
	c.now++
	c.wantOut()
	c.s.Consecutive = 0
	c.count(1, 1000, policy.Failure)
	c.wantOut()
}

// An endpoint that is ejected again soon is out longer each time, up to the most.
func TestGrowingTime(t *testing.T) {
	c := newCrew(t, 4)
	for times, want := range []time.Duration{30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300} {
		got := c.count(0, 5, policy.Failure)
		if len(got) != 1 || got[0].Until-c.now != int64(want*time.Second) || got[0].Times != times+1 {
			t.Fatalf("ejection %d: %+v, want %ds", times+1, got, want)
		}
		if back := c.pass(want * time.Second); len(back) != 1 || back[0].Out || back[0].Index != 0 {
			t.Fatalf("return %d: %+v", times+1, back)
		}
		c.pass(29 * time.Second)
	}
	c.pass(300 * time.Second)
	if !c.all[0].Spotless() {
		t.Error("an ejection of long ago is not forgotten")
	}
	if got := c.count(0, 5, policy.Failure); len(got) != 1 || got[0].Until-c.now != 30*second {
		t.Errorf("after a long time well: %+v", got)
	}
}

func TestGradualReturn(t *testing.T) {
	c := newCrew(t, 4)
	share := func() float64 { return c.all[0].Share(c.s, c.now) }
	if share() != 1 {
		t.Error("before")
	}
	c.count(0, 5, policy.Failure)
	for at, want := range map[int64]float64{0: 0, 30*second - 1: 0, 30 * second: 0, 45 * second: 0.5, 57 * second: 0.9, 60 * second: 1, 90 * second: 1} {
		c.now = second + at
		if got := share(); got != want {
			t.Errorf("after %v: %v, want %v", time.Duration(at), got, want)
		}
	}
	c.s.Ramp = 0
	if c.now = 31 * second; share() != 1 {
		t.Error("without a ramp the return is not at once")
	}
}

// The cap: of n endpoints never more than the percentage is out, and of one never any.
func TestCap(t *testing.T) {
	for _, x := range []struct{ n, percent, most int }{
		{1, 50, 0}, {1, 99, 0}, {2, 50, 1}, {2, 49, 0}, {3, 50, 1}, {3, 34, 1}, {3, 33, 0}, {4, 50, 2}, {10, 10, 1}, {10, 9, 0}, {10, 0, 0}, {1000, 25, 250},
	} {
		t.Run(fmt.Sprint(x.n, x.percent), func(t *testing.T) {
			c := newCrew(t, x.n)
			c.s.MaxPercent = x.percent
			capped := 0
			for range 3 {
				for i := range c.all {
					for _, change := range c.count(i, 5, policy.Failure) {
						if change.Capped {
							capped++
						}
					}
				}
			}
			if got := len(c.out()); got != x.most {
				t.Errorf("%d are out, want %d", got, x.most)
			}
			if want := 3 * (x.n - x.most); capped != want {
				t.Errorf("capped %d times, want %d", capped, want)
			}
		})
	}
}

// Those passed over for another cause take places under the cap, those down are no part of
// what it is a share of.
func TestCapAndOthers(t *testing.T) {
	c := newCrew(t, 4)
	c.all[1].Avoided = true
	c.count(0, 5, policy.Failure)
	c.count(2, 5, policy.Failure)
	c.wantOut(0)
	c.all[1].Avoided = false
	c.count(2, 5, policy.Failure)
	c.wantOut(0, 2)

	c = newCrew(t, 4)
	c.all[3].Counts, c.all[2].Counts = false, false
	c.count(0, 5, policy.Failure)
	c.count(1, 5, policy.Failure)
	c.count(2, 5, policy.Failure)
	c.wantOut(0)

	c = newCrew(t, 4)
	c.count(0, 5, policy.Failure)
	c.count(1, 5, policy.Failure)
	c.all[0].Counts, c.all[1].Counts = false, false
	c.count(2, 5, policy.Failure)
	c.wantOut(0, 1)
}

// When endpoints leave, those beyond the cap return, the longest out first.
func TestCapAsEndpointsLeave(t *testing.T) {
	c := newCrew(t, 8)
	for i := range 4 {
		c.count(i, 5, policy.Failure)
		c.pass(time.Second)
	}
	c.wantOut(0, 1, 2, 3)
	c.all = c.all[:5]
	got := c.Keep(c.s, c.all, c.now)
	if len(got) != 2 || !got[0].Early || got[0].Index != 0 || got[1].Index != 1 {
		t.Errorf("%+v", got)
	}
	c.wantOut(2, 3)
	if c.all[0].Share(c.s, c.now) != 0 || c.all[0].Share(c.s, c.now+15*second) != 0.5 {
		t.Error("who returns early returns gradually, too")
	}
	c.all[2].Counts, c.all[4].Counts = false, false
	c.pass(time.Second)
	c.wantOut(3) // who is down loses nothing by being let in
	c.all = c.all[3:4]
	c.Keep(c.s, c.all, c.now)
	c.wantOut()
}

func TestByRate(t *testing.T) {
	for _, x := range []struct {
		name   string
		rates  []float64 // of failures, of 1000 requests each
		change func(*crew)
		want   []int
	}{
		{"one of ten", []float64{0, 0, 0, .3, 0, 0, 0, 0, 0, 0}, nil, []int{3}},
		{"one of ten, hardly", []float64{0, 0, 0, .01, 0, 0, 0, 0, 0, 0}, nil, nil},
		{"no margin", []float64{0, 0, 0, .01, 0, 0, 0, 0, 0, 0}, func(c *crew) { c.s.Rate.Margin = 0 }, []int{3}},
		{"all alike", []float64{.3, .3, .3, .3, .3, .3, .3, .3}, nil, nil},
		{"two of twelve", []float64{0, .5, 0, 0, 0, 0, .6, 0, 0, 0, 0, 0}, nil, []int{1, 6}},
		{"one of four is never 1.9 deviations off", []float64{0, 0, 0, 1}, nil, nil},
		{"one of four", []float64{0, 0, 0, .3}, func(c *crew) { c.s.Rate.Deviation = 1.5 }, []int{3}},
		{"too few endpoints", []float64{0, 1}, func(c *crew) { c.s.Rate.Deviation = .5 }, nil},
		{"too few requests", []float64{0, 0, 0, .3, 0, 0, 0, 0, 0, 0}, func(c *crew) { c.s.Rate.Requests = 1001 }, nil},
		{"the worst first", []float64{.5, .9, 0, 0, 0, 0, 0, 0, 0, 0}, func(c *crew) { c.s.MaxPercent, c.s.Rate.Deviation = 10, 1 }, []int{1}},
		{"one that is down", []float64{0, 0, 0, .3, 0, 0, 0, 0, 0, 0}, func(c *crew) { c.all[3].Counts = false }, nil},
		{"off", []float64{0, 0, 0, .3, 0, 0, 0, 0, 0, 0}, func(c *crew) { c.s.Rate.Interval = 0 }, nil},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := newCrew(t, len(x.rates))
			c.s.Consecutive = 0
			if x.change != nil {
				x.change(c)
			}
			c.pass(time.Second) // the first interval begins
			for i, rate := range x.rates {
				failed := int(rate * 1000)
				c.count(i, failed, policy.Failure)
				c.count(i, 1000-failed, policy.Success)
			}
			c.pass(9 * time.Second)
			c.wantOut()
			changes := c.pass(time.Second)
			c.wantOut(x.want...)
			for _, change := range changes {
				if change.Cause != ByRate {
					t.Errorf("cause %v", change.Cause)
				}
			}
			c.pass(10 * time.Second)
			c.wantOut(x.want...) // what was counted once is not counted again
		})
	}
}

// TestCapAlways: whatever comes, no more are out than may be.
func TestCapAlways(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 3))
		c := newCrew(t, 1+r.IntN(9))
		c.s.MaxPercent = r.IntN(100)
		c.s.Rate.Deviation, c.s.Rate.Requests = r.Float64()*2, 10
		for range 400 {
			i := r.IntN(len(c.all))
			switch r.IntN(10) {
			case 0:
				c.pass(time.Duration(r.IntN(40)) * time.Second)
			case 1:
				if len(c.all) > 1 {
					c.all = slices.Delete(c.all, i, i+1)
					c.Keep(c.s, c.all, c.now)
				}
			case 2:
				c.all = append(c.all, Member{Endpoint: &Endpoint{}, Counts: true})
			case 3:
				c.all[i].Counts = r.IntN(2) == 0
			case 4:
				c.all[i].Avoided = r.IntN(2) == 0
			default:
				c.count(i, r.IntN(20), policy.Verdict(r.IntN(3)))
				c.count(i, r.IntN(8), policy.Failure)
			}
			if got, most := len(c.out()), len(c.all)*c.s.MaxPercent/100; got > most {
				t.Fatalf("seed %d: %d of %d are out, with %d%% at most", seed, got, len(c.all), c.s.MaxPercent)
			}
		}
	}
}

func TestClearAndView(t *testing.T) {
	c := newCrew(t, 4)
	if v := c.View(c.all[0].Endpoint, c.now); v != (View{}) {
		t.Errorf("%+v", v)
	}
	c.count(0, 5, policy.Failure)
	if v, want := c.View(c.all[0].Endpoint, c.now), (View{Out: true, Since: second, Until: 31 * second, Times: 1}); v != want {
		t.Errorf("%+v, want %+v", v, want)
	}
	c.now = 31 * second
	if v := c.View(c.all[0].Endpoint, c.now); v.Out || v.Until != 31*second {
		t.Errorf("%+v", v)
	}
	c.Clear(c.all[0].Endpoint)
	if v := c.View(c.all[0].Endpoint, c.now); v != (View{}) || !c.all[0].Spotless() {
		t.Errorf("%+v", v)
	}
}

// BenchmarkCount is what ejection costs an attempt that succeeds. Target: at most 20 ns, no
// allocation.
func BenchmarkCount(b *testing.B) {
	e, s := &Endpoint{}, usual()
	b.ReportAllocs()
	for b.Loop() {
		if !e.Spotless() || e.Count(s, policy.Success) {
			b.Fatal("out")
		}
	}
}
