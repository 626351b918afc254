package sim

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// tally adds up schedules.
type tally struct {
	schedules int
	began     time.Time
	took      time.Duration
	lasted    time.Duration // virtual
	counts    map[Counter]int
}

func newTally() *tally { return &tally{began: time.Now(), counts: map[Counter]int{}} }

func (t *tally) add(r *Result) {
	t.schedules++
	t.lasted += r.Lasted
	for c, n := range r.Counts {
		t.counts[c] += n
	}
}

// table shows what the schedules have covered.
func (t *tally) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-28s %-36s %10d\n%-28s %-36s %10s\n", "schedules", "", t.schedules, "virtual time", "", t.lasted.Round(time.Second))
	all := slices.SortedFunc(maps.Keys(t.counts), func(x, y Counter) int {
		return cmp.Or(strings.Compare(x.What, y.What), strings.Compare(x.Kind, y.Kind))
	})
	what := ""
	for _, c := range all {
		name := c.What
		if name == what {
			name = ""
		}
		what = c.What
		fmt.Fprintf(&b, "%-28s %-36s %10d\n", name, c.Kind, t.counts[c])
	}
	return b.String()
}
