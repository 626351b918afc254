package eject

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Guard decides who of a service's endpoints is out. Its callers hold one lock for each
// service; Endpoint's own methods need none.
type Guard struct {
	began int64 // of the interval of success rates
	begun bool
}

// Member is an endpoint as it stands in its service.
type Member struct {
	*Endpoint
	// Counts: it is in the set with a weight and not down, so that it can be picked. Only
	// of those that count is a share out.
	Counts bool
	// Avoided: it is passed over for another cause while others are left. No further one
	// is ejected in its stead: it takes a place under the cap.
	Avoided bool
}

// Change is what has become of one member.
type Change struct {
	Index  int  // of the member
	Out    bool // else it has returned
	Capped bool // it should be out, and stays in
	Early  bool // it has returned since too many were out
	Cause  Cause
	Until  int64
	For    time.Duration
	Times  int
}

// Eject puts one member out, where the cap lets it. False: nothing has changed.
func (g *Guard) Eject(s *Settings, members []Member, i int, cause Cause, now int64) (c Change, any bool) {
	e := members[i].Endpoint
	if e.Out(now) || !members[i].Counts {
		return Change{}, false // out already, or nobody would notice
	}
	if out(members, i, now)+1 > s.most(counting(members)) {
		return Change{Index: i, Capped: true, Cause: cause}, true
	}
	if until := e.until.Load(); until == 0 || now-until >= max(e.length, int64(s.Ramp)) {
		e.times = 0
	}
	e.times++
	e.length = min(int64(s.Time)*int64(e.times), int64(s.MaxTime))
	e.since, e.cause, e.back = now, cause, false
	e.row.Store(0)
	e.until.Store(now + e.length)
	return Change{Index: i, Out: true, Cause: cause, Until: now + e.length, For: time.Duration(e.length), Times: e.times}, true
}

// counting is how many members the cap is a share of.
func counting(members []Member) (n int) {
	for _, m := range members {
		if m.Counts {
			n++
		}
	}
	return n
}

// out is how many places under the cap are taken by others than member i.
func out(members []Member, i int, now int64) (n int) {
	for k, m := range members {
		if k != i && (m.Out(now) || m.Counts && m.Avoided) {
			n++
		}
	}
	return n
}

// Keep brings members back, those longest out first, until no more are out than may be.
func (g *Guard) Keep(s *Settings, members []Member, now int64) (changes []Change) {
	var all []int
	for i, m := range members {
		if m.Out(now) {
			all = append(all, i)
		}
	}
	most := s.most(counting(members))
	if len(all) <= most {
		return nil
	}
	slices.SortStableFunc(all, func(a, b int) int {
		// One that cannot be picked loses nothing by being let in.
		if x, y := members[a].Counts, members[b].Counts; x != y {
			if y {
				return -1
			}
			return 1
		}
		return cmp.Compare(members[a].since, members[b].since)
	})
	for _, i := range all[:len(all)-most] {
		e := members[i].Endpoint
		e.until.Store(max(now, 1))
		e.row.Store(0)
		e.back = true
		changes = append(changes, Change{Index: i, Early: true, Cause: e.cause, Times: e.times})
	}
	return changes
}

// Sweep does what the time brings, and is called about once a second: it tells who has
// returned, keeps the cap where endpoints have come and gone, forgets ejections that were
// long ago, and ejects by success rate when an interval has passed.
func (g *Guard) Sweep(s *Settings, members []Member, now int64) (changes []Change) {
	for i, m := range members {
		e := m.Endpoint
		until := e.until.Load()
		if until == 0 || now < until {
			continue
		}
		if !e.back {
			e.back = true
			e.row.Store(0)
			changes = append(changes, Change{Index: i, Cause: e.cause, Times: e.times})
		}
		if now-until >= max(e.length, int64(s.Ramp)) {
			e.until.Store(0)
			e.times = 0
		}
	}
	changes = append(changes, g.Keep(s, members, now)...)
	return append(changes, g.interval(s, members, now)...)
}

// interval judges by success rate at the end of each interval.
func (g *Guard) interval(s *Settings, members []Member, now int64) (changes []Change) {
	if s.Rate.Interval <= 0 {
		g.begun = false
		return nil
	}
	if g.begun && now-g.began < int64(s.Rate.Interval) {
		return nil
	}
	first := !g.begun
	g.begun, g.began = true, now
	var judged []score
	for i, m := range members {
		w := m.window.Swap(0)
		if n := uint32(w); !first && n >= max(s.Rate.Requests, 1) && m.Counts && !m.Out(now) {
			judged = append(judged, score{i, 1 - float64(w>>32)/float64(n)})
		}
	}
	for _, o := range outliers(judged, &s.Rate) {
		if c, any := g.Eject(s, members, o.index, ByRate, now); any {
			changes = append(changes, c)
		}
	}
	return changes
}

// score is a member's share of successes in an interval.
type score struct {
	index int
	rate  float64
}

// outliers are those far below the others, the worst first.
func outliers(all []score, r *Rate) (bad []score) {
	if len(all) < max(r.Endpoints, 1) {
		return nil
	}
	mean, variance := 0.0, 0.0
	for _, o := range all {
		mean += o.rate / float64(len(all))
	}
	for _, o := range all {
		variance += (o.rate - mean) * (o.rate - mean) / float64(len(all))
	}
	below := mean - r.Deviation*math.Sqrt(variance)
	for _, o := range all {
		if o.rate < below && mean-o.rate >= r.Margin {
			bad = append(bad, o)
		}
	}
	slices.SortStableFunc(bad, func(a, b score) int { return cmp.Compare(a.rate, b.rate) })
	return bad
}

// Clear forgets all of an endpoint: there is no ejection any more.
func (g *Guard) Clear(e *Endpoint) {
	e.until.Store(0)
	e.row.Store(0)
	e.window.Store(0)
	e.times, e.back, g.begun = 0, false, false
}

// View tells what is known of an endpoint.
func (g *Guard) View(e *Endpoint, now int64) View {
	until := e.until.Load()
	if until == 0 {
		return View{}
	}
	return View{Out: now < until, Since: e.since, Until: until, Cause: e.cause, Times: e.times}
}
