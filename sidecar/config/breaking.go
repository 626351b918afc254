package config

import (
	"fmt"
	"math"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"
)

// Breaker stops sending to an endpoint that fails so often in a row.
type Breaker struct {
	Failures int      `yaml:"failures"` // in a row, that open it
	Open     Duration `yaml:"open"`     // until it is half-open
	// Probes pass while it is half-open; when as many in a row have succeeded, it closes.
	Probes int      `yaml:"probes"`
	On     Failures `yaml:"on"`
}

// Ejection leaves out endpoints that stand out for their failures, as long as others can
// do their work.
type Ejection struct {
	Consecutive int         `yaml:"consecutive"` // failures in a row; 0: they never eject
	Interval    Duration    `yaml:"interval"`    // over which success rates are taken
	SuccessRate SuccessRate `yaml:"success_rate"`
	Time        Duration    `yaml:"time"` // times the number of ejections in a row
	MaxTime     Duration    `yaml:"max_time"`
	MaxPercent  int         `yaml:"max_percent"` // of the endpoints, that may be out at once
	Ramp        Duration    `yaml:"ramp"`        // of a return
	On          Failures    `yaml:"on"`
}

// SuccessRate ejects whose rate is below mean - Deviation * standard deviation.
type SuccessRate struct {
	Requests  int     `yaml:"requests"`  // in Interval, that an endpoint must have had; 0: never by rate
	Endpoints int     `yaml:"endpoints"` // that must have had as many
	Deviation float64 `yaml:"deviation"`
	Margin    float64 `yaml:"margin"` // below the mean at least, in percentage points
}

// Failures are the kinds of failure that count; a lone word is a list of one.
type Failures []string

// The kinds of failure.
const (
	FailServer  = "5xx"
	FailGateway = "gateway_error" // 502, 503, 504
	FailLocal   = "local_error"   // of this side: no connection, a broken answer
	FailTimeout = "timeout"
)

// allFailures is the default.
func allFailures() Failures { return Failures{FailServer, FailGateway, FailLocal, FailTimeout} }

func (b *Breaker) setDefaults() {
	*b = Breaker{Failures: 5, Open: Duration(10 * time.Second), Probes: 1, On: allFailures()}
}

func (e *Ejection) setDefaults() {
	*e = Ejection{
		Consecutive: 5, Interval: Duration(10 * time.Second),
		Time: Duration(30 * time.Second), MaxTime: Duration(300 * time.Second), MaxPercent: 50,
		Ramp: Duration(30 * time.Second), On: allFailures(),
	}
	e.SuccessRate.setDefaults()
}

func (s *SuccessRate) setDefaults() {
	*s = SuccessRate{Requests: 100, Endpoints: 3, Deviation: 1.9, Margin: 2}
}

// decodeNode takes a lone word as a list of one.
func (f *Failures) decodeNode(d *decoder, n *yaml.Node, path string) {
	*f = d.loneOrList(n, path)
}

func (v *validator) breaker(path string, b *Breaker) {
	if b == nil {
		return
	}
	v.between(join(path, "failures"), b.Failures, 1, maxFailures)
	v.between(join(path, "probes"), b.Probes, 1, 1000)
	v.least(join(path, "open"), b.Open, time.Millisecond)
	v.failures(join(path, "on"), b.On)
}

// maxFailures is more than anybody waits for.
const maxFailures = 1_000_000

func (v *validator) ejection(path string, e *Ejection) {
	if e == nil {
		return
	}
	v.between(join(path, "consecutive"), e.Consecutive, 0, maxFailures)
	v.least(join(path, "interval"), e.Interval, 100*time.Millisecond)
	v.least(join(path, "time"), e.Time, time.Millisecond)
	if e.MaxTime < e.Time {
		at := join(path, "max_time")
		if !v.given(at) {
			at = join(path, "time")
		}
		v.report(at, fmt.Sprintf("max_time, %s, is less than time, %s", e.MaxTime, e.Time))
	}
	v.between(join(path, "max_percent"), e.MaxPercent, 0, 99)
	v.failures(join(path, "on"), e.On)
	rate := join(path, "success_rate")
	v.between(join(rate, "requests"), e.SuccessRate.Requests, 0, maxFailures)
	v.between(join(rate, "endpoints"), e.SuccessRate.Endpoints, 2, maxFailures)
	if e.Consecutive == 0 && e.SuccessRate.Requests == 0 {
		v.report(join(path, "consecutive"), "is 0, and success_rate.requests too, so that nothing is ever ejected; to have it so, leave ejection out")
	}
	v.fraction(join(rate, "deviation"), e.SuccessRate.Deviation, 0, 10)
	v.fraction(join(rate, "margin"), e.SuccessRate.Margin, 0, 100)
}

func (v *validator) fraction(path string, n, low, high float64) {
	if math.IsNaN(n) || n < low || n > high {
		v.report(path, fmt.Sprintf("%v is not between %v and %v", n, low, high))
	}
}

// least refuses times that are too short to mean anything.
func (v *validator) least(path string, d Duration, low time.Duration) {
	if d.D() < low {
		v.report(path, fmt.Sprintf("%s is less than %s", d, Duration(low)))
	}
}

// failureWords are what others call the kinds of failure.
func failureWords() map[string]string {
	return map[string]string{
		"500": FailServer, "5xx-codes": FailServer, "server_error": FailServer, "gateway": FailGateway, "gateway-error": FailGateway,
		"502": FailGateway, "503": FailGateway, "504": FailGateway, "connect_failure": FailLocal, "connect-failure": FailLocal,
		"reset": FailLocal, "local": FailLocal, "local_origin": FailLocal, "timeouts": FailTimeout,
	}
}

func (v *validator) failures(path string, all Failures) {
	if len(all) == 0 {
		v.report(path, "the list is empty; leave it out for every kind of failure")
	}
	for i, word := range all {
		at := path
		if v.given(fmt.Sprintf("%s[%d]", path, i)) {
			at = fmt.Sprintf("%s[%d]", path, i)
		}
		v.spelled(at, word, failureWords(), allFailures()...)
		if slices.Contains(all[:i], word) {
			v.report(at, fmt.Sprintf("%s is given twice", word))
		}
	}
}
