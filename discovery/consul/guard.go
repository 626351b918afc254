package consul

import (
	"errors"
	"fmt"
	"time"
)

// OnEmpty says what to do with an answer that has no endpoint when there were
// some before. A service's first answer may always be empty.
type OnEmpty int

const (
	// Confirm, the default, takes an empty answer for true only when the service
	// stays empty for confirmAfter and then a query without index in consistent mode,
	// which a leader with a majority answers, says so too. If the index went
	// backwards as well, or the answer is the first since Consul was out of reach,
	// the registry may have lost its data, and its agents need time to register
	// again: then it must stay empty for confirmReset. An error in between starts
	// the time anew.
	Confirm OnEmpty = iota
	// Keep never gives up the last endpoints for an empty answer.
	Keep
	// Accept believes each answer.
	Accept
)

const (
	confirmAfter = 2 * time.Second
	confirmReset = 2 * time.Minute // agents synchronize within about one minute
)

// ParseOnEmpty reads "confirm" (or nothing), "keep" or "accept".
func ParseOnEmpty(text string) (OnEmpty, error) {
	switch text {
	case "", "confirm":
		return Confirm, nil
	case "keep":
		return Keep, nil
	case "accept":
		return Accept, nil
	}
	return 0, fmt.Errorf("consul: on empty: %q is not confirm, keep or accept", text)
}

// String is the inverse of ParseOnEmpty.
func (o OnEmpty) String() string {
	switch o {
	case Keep:
		return "keep"
	case Accept:
		return "accept"
	default:
		return "confirm"
	}
}

var (
	errKept  = errors.New("has no endpoint, the last ones are kept as configured")
	errAway  = errors.New("has no endpoint since Consul was out of reach, the last ones are kept for now")
	errReset = errors.New("has no endpoint since the registry was reset, the last ones are kept for now")
)

// verdict is what becomes of an answer.
type verdict struct {
	// deliver it; otherwise the last endpoints stay.
	deliver bool
	next    next
	// err says that the endpoints kept are in doubt.
	err error
}

// guard judges empty answers; it holds no clock.
type guard struct {
	mode  OnEmpty
	some  bool      // the endpoints in force are not none
	since time.Time // first empty answer in a row; zero: none
	seen  bool      // an empty answer came while Consul was in reach
	away  bool      // Consul was out of reach before the first empty answer
	reset bool      // the index went backwards meanwhile
}

// judge decides about an answer that came at now; confirmed says that next.confirm
// asked for it.
func (g *guard) judge(now time.Time, empty, wentBack, confirmed bool) verdict {
	if !empty || !g.some || g.mode == Accept {
		*g = guard{mode: g.mode, some: !empty}
		return verdict{deliver: true}
	}
	if g.mode == Keep {
		return verdict{err: errKept}
	}
	if g.since.IsZero() {
		g.since = now
	}
	g.seen = g.seen || !g.away
	g.reset = g.reset || wentBack
	hold := confirmAfter
	// A registry that comes back empty may have been reset; its new index need not
	// be lower than the old one.
	if g.reset || g.away {
		hold = confirmReset
	}
	left := hold - now.Sub(g.since)
	if left <= 0 && confirmed {
		*g = guard{mode: g.mode}
		return verdict{deliver: true}
	}
	v := verdict{next: next{confirm: left <= 0}}
	if left > 0 {
		v.next.within = max(left, time.Millisecond)
	}
	switch {
	case g.reset:
		v.err = errReset
	case g.away:
		v.err = errAway
	}
	return v
}

// failed notes an error: what was empty before it must be seen again.
func (g *guard) failed() {
	g.since = time.Time{}
	g.away = g.away || !g.seen
}
