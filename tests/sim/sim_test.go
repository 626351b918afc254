package sim

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// short is how many schedules an ordinary run of the tests has.
const short = 250

// number reads an environment variable.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestSchedules runs many schedules: LARBOARD_SIM_SEEDS of them, from LARBOARD_SIM_FIRST on,
// or the one that LARBOARD_SIM_SEED names, with its timeline.
func TestSchedules(t *testing.T) {
	if seed := number(t, "LARBOARD_SIM_SEED", 0); seed != 0 {
		r := Run(NewTools(), Options{Seed: seed, Traced: true})
		t.Logf("\n%s", r.Timeline)
		if len(r.Violations) > 0 {
			t.Errorf("seed %d:\n%s", seed, strings.Join(r.Violations, "\n"))
		}
		return
	}
	n := number(t, "LARBOARD_SIM_SEEDS", short)
	first := number(t, "LARBOARD_SIM_FIRST", 1)
	total, failed := series(t, first, n)
	t.Logf("%d schedules in %v, %d failed\n%s", n, total.took.Round(time.Millisecond), failed, total.table())
	if n >= short {
		total.checkCoverage(t)
	}
}

// shown is how many failing seeds are told in full.
const shown = 5

// series runs schedules side by side, one for each CPU.
func series(t *testing.T, first, n uint64) (total *tally, failed int) {
	tools, total := NewTools(), newTally()
	seeds, results := make(chan uint64), make(chan *Result)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for seed := range seeds {
				results <- Run(tools, Options{Seed: seed})
			}
		})
	}
	go func() {
		for i := range n {
			seeds <- first + i
		}
		close(seeds)
		workers.Wait()
		close(results)
	}()
	for r := range results {
		total.add(r)
		if len(r.Violations) > 0 {
			if failed++; failed <= shown {
				explain(t, tools, r)
			}
		}
		if total.schedules%1000 == 0 {
			fmt.Fprintf(os.Stderr, "sim: %d of %d schedules, %d failed, %v\n", total.schedules, n, failed, time.Since(total.began).Round(time.Second))
		}
	}
	total.took = time.Since(total.began)
	return total, failed
}

// explain runs a failing seed once more and shows what happened.
func explain(t *testing.T, tools *Tools, r *Result) {
	again := Run(tools, Options{Seed: r.Seed, Traced: true})
	same := "it repeats exactly"
	if again.Trace != r.Trace {
		same = "IT DOES NOT REPEAT"
	}
	t.Errorf("seed %d (%s):\n%s\nrun it again: %s\n%s", r.Seed, same, strings.Join(r.Violations, "\n"), r.Command(), last(again.Timeline, 60))
}

// last are the last lines of a timeline.
func last(timeline []byte, n int) []byte {
	lines := bytes.SplitAfter(timeline, []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-n):], nil)
}

// TestSeedsRepeat: the same seed is the same timeline to the byte, whoever runs beside it
// and whatever was run before.
func TestSeedsRepeat(t *testing.T) {
	tools := NewTools()
	var group sync.WaitGroup
	for seed := uint64(1); seed <= 24; seed++ {
		alone := Run(NewTools(), Options{Seed: seed, Traced: true})
		for range 2 {
			group.Go(func() {
				beside := Run(tools, Options{Seed: seed, Traced: true})
				if !bytes.Equal(alone.Timeline, beside.Timeline) {
					t.Errorf("seed %d: two runs differ; the ends of their timelines:\n%s\n%s",
						seed, last(alone.Timeline, 5), last(beside.Timeline, 5))
				}
			})
		}
		group.Wait()
		if plain := Run(tools, Options{Seed: seed}); plain.Trace != alone.Trace {
			t.Errorf("seed %d: being looked at changes what happens", seed)
		}
	}
}

// TestPlantedBugsAreFound: a mistake of each kind that simulation is to find is found soon,
// and the seed that found it finds it again.
func TestPlantedBugsAreFound(t *testing.T) {
	for _, c := range []struct {
		plant  Plant
		within uint64 // seeds
		says   string // one of these stands in a violation
	}{
		{LostWakeUp, 20, "for no reason"},
		{DoubleDone, 40, "in flight"},
		{StaleSet, 40, "after it had left"},
		{KeptWindow, 40, "for no reason"},
		{LostWriter, 40, "for no reason"},
		{ForgottenStream, 60, "was executed 2 times"},
		{NoCap, 60, "endpoints are ejected"},
	} {
		t.Run(c.plant.String(), func(t *testing.T) {
			tools := NewTools()
			for seed := uint64(1); seed <= c.within; seed++ {
				o := Options{Seed: seed, Plant: c.plant, Traced: true}
				r := Run(tools, o)
				said := strings.Join(r.Violations, "\n")
				if !strings.Contains(said, c.says) {
					continue
				}
				t.Logf("seed %d: %s", seed, r.Violations[0])
				again := Run(tools, o)
				if !bytes.Equal(r.Timeline, again.Timeline) || strings.Join(again.Violations, "\n") != said {
					t.Errorf("seed %d does not repeat:\n%s\n%s", seed, r.Violations, again.Violations)
				}
				return
			}
			t.Errorf("not found in %d seeds", c.within)
		})
	}
}
