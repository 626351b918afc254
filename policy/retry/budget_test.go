package retry

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// at is a moment of a test's clock.
func at(d time.Duration) int64 { return int64(time.Hour + d) }

var usual = Limits{Percent: 20, Min: 3}

func TestBudgetAtOnce(t *testing.T) {
	for _, c := range []struct {
		name   string
		active int
		limits Limits
		want   int
	}{
		{"nothing under way", 0, usual, 3},
		{"few under way: the floor", 10, usual, 3},
		{"many under way: the share", 100, usual, 20},
		{"no floor", 4, Limits{Percent: 20}, 0},
		{"nothing at all", 100, Limits{}, 0},
		{"all", 100, Limits{Percent: 100}, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b Budget
			for range c.active {
				b.Begin()
			}
			granted := 0
			for b.Take(c.limits, at(0)) == Granted {
				granted++
			}
			if granted != c.want || b.Allowed(c.limits) != int64(c.want) || b.Repeats() != int64(c.want) {
				t.Errorf("granted %d, allowed %d, under way %d; want %d", granted, b.Allowed(c.limits), b.Repeats(), c.want)
			}
			for range granted {
				b.Give()
			}
			if b.Repeats() != 0 {
				t.Errorf("%d under way at the end", b.Repeats())
			}
		})
	}
}

// TestBudgetOverTime: however fast attempts fail, and whenever the repeats are asked for,
// they are a share of the exchanges begun and the floor of the time that has passed.
func TestBudgetOverTime(t *testing.T) {
	const seconds = 60
	for _, c := range []struct {
		name string
		asks func(second int) bool // a repeat for each exchange
	}{
		{"always", func(int) bool { return true }},
		{"from the middle on", func(s int) bool { return s >= seconds/2 }},
		{"now and then", func(s int) bool { return s%7 == 0 }},
		{"every other", func(s int) bool { return s%2 == 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b Budget
			made, begun := 0, 0
			for s := range seconds {
				for i := range 1000 {
					b.Begin()
					begun++
					for range 2 { // attempts
						if c.asks(s) && b.Take(usual, at(time.Duration(s*1000+i)*time.Millisecond)) == Granted {
							made++
							b.Give()
						}
					}
					b.End()
				}
			}
			most := float64(begun)*0.2 + 3*(seconds+memory.Seconds())
			if float64(made) > most {
				t.Errorf("%d repeats of %d exchanges in %d s; at most %v", made, begun, seconds, most)
			}
			if least := float64(begun) * 0.2 * 0.9; c.name == "always" && float64(made) < least {
				t.Errorf("%d repeats of %d exchanges: the share is not used", made, begun)
			}
		})
	}
}

// TestBudgetForgets: what was saved in an hour without failure is no more than some seconds
// bring.
func TestBudgetForgets(t *testing.T) {
	var b Budget
	for s := range 3600 {
		for range 100 {
			b.Begin()
			b.End()
		}
		if s%60 == 0 {
			if b.Take(usual, at(time.Duration(s)*time.Second)) == Granted {
				b.Give()
			}
		}
	}
	made := 0
	for b.Take(usual, at(time.Hour)) == Granted {
		made++
		b.Give()
	}
	if most := 100*10/5 + 30; made > most || made < most/2 {
		t.Errorf("%d repeats at once after an hour of 100 exchanges a second, want about %d", made, most)
	}
}

// TestBudgetFloor: a service that is hardly used can still be repeated.
func TestBudgetFloor(t *testing.T) {
	var b Budget
	for minute := range 10 {
		b.Begin()
		for try := range 2 {
			if got := b.Take(usual, at(time.Duration(minute)*time.Minute)); got != Granted {
				t.Fatalf("minute %d, repeat %d: %v", minute, try, got)
			}
			b.Give()
		}
		b.End()
	}
}

// TestBudgetIsShared: loops never get more together than one alone.
func TestBudgetIsShared(t *testing.T) {
	var b Budget
	const active = 1000
	for range active {
		b.Begin()
	}
	var granted, most atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 5000 {
				if b.Take(usual, at(0)) != Granted {
					continue
				}
				granted.Add(1)
				for n := b.Repeats(); n > most.Load(); n = b.Repeats() {
					most.Store(n)
				}
				b.Give()
			}
		})
	}
	all.Wait()
	if most.Load() > active/5 || b.Repeats() != 0 {
		t.Errorf("%d under way at once, %d left", most.Load(), b.Repeats())
	}
	if n := granted.Load(); n > active/5+30 {
		t.Errorf("%d granted", n)
	}
}

func BenchmarkBudget(b *testing.B) {
	var budget Budget
	b.Run("exchange", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			budget.Begin()
			budget.End()
		}
	})
	b.Run("repeat", func(b *testing.B) {
		b.ReportAllocs()
		now := at(0)
		for b.Loop() {
			now += int64(time.Second)
			if budget.Take(usual, now) == Granted {
				budget.Give()
			}
		}
	})
}

// What was refused before any endpoint was asked allows no repeats.
func TestBudgetWithoutAsking(t *testing.T) {
	var b Budget
	b.Take(usual, at(0))
	b.Give()
	floor := 0
	for ; b.Take(usual, at(0)) == Granted; floor++ {
		b.Give()
	}
	for range 100_000 {
		b.Enter()
		b.End()
	}
	if got := b.Take(usual, at(0)); got != Exhausted || b.Active() != 0 {
		t.Errorf("%d, %d under way, after %d of the floor", got, b.Active(), floor)
	}
	for range 5 {
		b.Enter()
		b.Ask()
	}
	if got := b.Take(usual, at(0)); got != Granted || b.Active() != 5 {
		t.Errorf("%d, %d under way, of five that were asked for", got, b.Active())
	}
}
