package sim

import (
	"fmt"
	"time"
)

// kind is what a call is made of.
type kind uint8

const (
	request kind = iota // HTTP, one request and one answer
	upgrade             // HTTP that becomes a tunnel
	raw                 // a TCP connection
)

func (k kind) String() string { return [...]string{"request", "upgrade", "tcp"}[k] }

// mishap is what a workload does to a call on purpose, the first time that it sees it.
type mishap uint8

const (
	none          mishap = iota
	resetAtHead          // resets when it has read the head
	closeAtEnd           // closes in place of an answer
	breakOff             // resets half-way through the answer
	silent               // never answers
	garbage              // answers what is no HTTP
	earlyAnswer          // answers while the request still arrives; nothing goes wrong
	closeAfter           // says that it closes, and does; nothing goes wrong
	closeUnasked         // closes after the answer without having said so
	continueFirst        // says 103 first; nothing goes wrong
	turnedAway           // over HTTP/2 refuses it unseen; repeated where another connection or endpoint may take it
	errorFirst           // answers 503, a call with UNAVAILABLE; repeated where the sidecars do so
	mishaps       = errorFirst + 1
)

func (m mishap) String() string {
	return [...]string{"none", "reset at the head", "close without answer", "answer broken off", "silence",
		"garbage", "early answer", "close announced", "close unannounced", "interim answer", "refused unseen", "an error"}[m]
}

// harms reports whether the call may fail for it.
func (m mishap) harms() bool {
	switch m {
	case none, earlyAnswer, closeAfter, closeUnasked, continueFirst, turnedAway:
		return false
	}
	return true
}

// call is what a client of a asks of the mesh: one answer, whole and its own, or a failure
// for which the schedule has a reason.
type call struct {
	id     int
	kind   kind
	to     string // the service called
	viaC   bool   // b asks c before it answers
	method string

	askSize, answerSize       int
	askChunked, answerChunked bool
	answerUntilClose          bool // as HTTP/1.0 does it
	expect                    bool // 100-continue
	http2                     bool // of its client
	grpc                      bool // as gRPC's clients call
	uploadPause, serveDelay   time.Duration
	stall, abortAfter         time.Duration
	abortQuietly              bool // by an orderly close
	mishap                    mishap
	mishapAt                  string // service
	shutFirst                 int    // of a tunnel: 0 client, 1 server, 2 both

	began, ended time.Time
	turn         time.Time // when it was the first of its connection to be answered
	done         bool
	failure      string
	aborted      bool
	collateral   *call          // its failure took this one along
	turned       bool           // refused unseen
	tripped      bool           // a breaker did not let it through
	limited      bool           // nor did a rate limit
	ran          map[string]int // executions by service
	sends        map[string]int // requests by service, asked again ones included
	answered     map[string]int // of them
	recorded     map[string]tried
	served       []string // instances, in order
	farEnd       bool     // the server's end of a tunnel saw all of it
}

// tried is what the records of one side of the proxies say of a call.
type tried struct{ records, attempts int }

// safe reports whether the proxy may repeat it (RFC 9110 section 9.2.2).
func (c *call) safe() bool { return c.method != "POST" && c.method != "PATCH" }

// parts are the services and hops that a call touches.
type parts uint8

const (
	partA parts = 1 << iota
	partB
	partC
	hopAB
	hopBC
	hopAC
)

func (c *call) parts() parts {
	switch {
	case c.to != serviceB:
		return partA | partC | hopAC
	case c.viaC:
		return partA | partB | partC | hopAB | hopBC
	}
	return partA | partB | hopAB
}

// hopOf is the hop between two services.
func hopOf(x, y string) parts {
	switch x + y {
	case "ab", "ba":
		return hopAB
	case "bc", "cb":
		return hopBC
	}
	return hopAC
}

func partOf(service string) parts {
	switch service {
	case "a":
		return partA
	case serviceB:
		return partB
	}
	return partC
}

// Bodies are numbered so that no two are alike.
func (c *call) askID(service string) int    { return c.id*4 + int(service[0]-'b')*2 }
func (c *call) answerID(service string) int { return c.askID(service) + 1 }

// port is the listener of a's sidecar that the call goes to.
func (c *call) port() int {
	switch {
	case c.kind == raw:
		return callStream
	case c.to == serviceB:
		return callB
	}
	return callC
}

func (c *call) String() string {
	return fmt.Sprintf("call %d (%s %s to %s via c %v, %d up %d down, mishap %s at %s)",
		c.id, c.kind, c.method, c.to, c.viaC, c.askSize, c.answerSize, c.mishap, c.mishapAt)
}

// patience is how long a call may take where nothing goes wrong.
func (c *call) patience() time.Duration {
	return 6*time.Second + 2*c.serveDelay + c.uploadPause + c.stall
}

// mustEnd is how long it may take whatever goes wrong: the timeouts of all attempts.
const mustEnd = 90 * time.Second
