package dns

import "time"

// What an answer without endpoints is worth, where there were some before. The
// first answer may always be empty.
const (
	// confirm, the default, believes it once it has been given confirmTimes in a row
	// over at least confirmAfter. An error in between starts the count anew.
	confirm = "confirm"
	// keep never gives up the last endpoints for an empty answer.
	keep = "keep"
	// accept believes each answer.
	accept = "accept"
)

const (
	confirmAfter = 10 * time.Second
	confirmTimes = 3
)

// guard judges empty answers; it holds no clock.
type guard struct {
	mode  string
	some  bool      // the endpoints in force are not none
	since time.Time // first empty answer in a row; zero: none
	count int       // empty answers in a row
}

// judge decides about an answer that came at now: whether it is delivered and, if
// not, when to ask again at the latest.
func (g *guard) judge(now time.Time, empty bool) (deliver bool, again time.Duration) {
	if !empty || !g.some || g.mode == accept {
		*g = guard{mode: g.mode, some: !empty}
		return true, 0
	}
	if g.mode == keep {
		return false, maxNegative
	}
	if g.count == 0 {
		g.since = now
	}
	g.count++
	if g.count >= confirmTimes && now.Sub(g.since) >= confirmAfter {
		*g = guard{mode: g.mode}
		return true, 0
	}
	return false, confirmAfter / (confirmTimes - 1)
}

// failed notes an error: what was empty before it must be seen again.
func (g *guard) failed() { g.count = 0 }
