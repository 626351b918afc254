// Package health checks endpoints actively: it connects to them, or asks them
// over HTTP or by gRPC's health protocol, at intervals, and reports when one comes up or goes down. It runs
// on ordinary goroutines of the control plane. It must not know of services'
// settings, loops, pools or routing: targets come in by Apply, verdicts go out
// by Report.
//
// As in HAProxy, an endpoint nobody has checked yet counts as up, and if its very
// first check fails it is down at once; after that it takes Fall failures in a
// row to go down and Rise successes in a row to come up.
package health

import (
	"crypto/tls"
	"fmt"
	"slices"
	"time"
)

// Kind says how an endpoint is checked.
type Kind string

// The kinds of check.
const (
	// TCP: a connection can be made, and TLS set up. With TLS 1.3 an endpoint refuses
	// our certificate only after that, which an HTTP check alone notices.
	TCP Kind = "tcp"
	// HTTP: and a request is answered with an expected status.
	HTTP Kind = "http"
	// GRPC: and the health service of gRPC (grpc.health.v1) says SERVING.
	GRPC Kind = "grpc"
)

// StatusRange is a range of HTTP statuses, both ends included.
type StatusRange struct{ Low, High int }

func (r StatusRange) String() string {
	if r.Low == r.High {
		return fmt.Sprint(r.Low)
	}
	return fmt.Sprintf("%d-%d", r.Low, r.High)
}

// Spec says how and how often to check. Zero fields take the defaults, which are
// HAProxy's.
type Spec struct {
	Kind     Kind          // default tcp
	Method   string        // default GET
	Path     string        // default /
	Host     string        // default the endpoint's address
	Expect   []StatusRange // default 200-399
	First    string        // what each connection begins with, before TLS
	Service  string        // that a gRPC server is asked about; empty: the server as a whole
	Interval time.Duration // default 2 s; from the start of one check to the start of the next
	Timeout  time.Duration // of one whole check; default and most: Interval
	Rise     int           // default 2
	Fall     int           // default 3
	Jitter   float64       // share of Interval, 0 to 1, by which each wait varies either way
}

func (s Spec) withDefaults() Spec {
	s.Kind = or(s.Kind, TCP)
	s.Method = or(s.Method, "GET")
	s.Path = or(s.Path, "/")
	if len(s.Expect) == 0 {
		s.Expect = []StatusRange{{200, 399}}
	}
	s.Interval = or(max(s.Interval, 0), 2*time.Second)
	s.Timeout = min(or(max(s.Timeout, 0), s.Interval), s.Interval)
	s.Rise = or(max(s.Rise, 0), 2)
	s.Fall = or(max(s.Fall, 0), 3)
	s.Jitter = min(max(s.Jitter, 0), 1)
	return s
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

func (s Spec) equal(o Spec) bool {
	return slices.Equal(s.Expect, o.Expect) && s.Kind == o.Kind && s.Method == o.Method && s.Path == o.Path &&
		s.Host == o.Host && s.Service == o.Service && s.Interval == o.Interval && s.Timeout == o.Timeout && s.Rise == o.Rise &&
		s.Fall == o.Fall && s.Jitter == o.Jitter
}

// Target is one endpoint to check.
type Target struct {
	// Key tells targets apart; the same Key in the next Apply is the same target.
	Key     string
	Service string // for reports and the log
	Address string // ip:port or unix:///path
	Spec    Spec
	// TLS, where set, is called for each check and gives the configuration to speak
	// TLS with: for mesh endpoints mutual TLS with our own identity. While it gives
	// nil (no identity yet) checks are left out and states stay.
	TLS func() *tls.Config
}

// same reports whether t and o are the same endpoint, however it is checked.
func (t Target) same(o Target) bool {
	return t.Key == o.Key && t.Service == o.Service && t.Address == o.Address
}

// Change reports that an endpoint came up or went down.
type Change struct {
	Key, Service, Address string
	Up                    bool
	Reason                string        // what the deciding check found
	Lasted                time.Duration // how long the state before lasted
	At                    time.Time
}

// Status is the view of one target for the admin API.
type Status struct {
	Key, Service, Address string
	Kind                  Kind
	Up                    bool
	Since                 time.Time // of the state
	// Of the last check; Result is empty and At zero before the first.
	OK       bool
	Result   string
	Duration time.Duration
	At       time.Time
	Streak   int // checks in a row with this outcome
}
