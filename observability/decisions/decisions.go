// Package decisions keeps the last exchanges that did not simply succeed: those that
// failed, were denied or limited, or needed more than one attempt, each with what every
// attempt came to. It exists for the question "what has just happened to my request?",
// which metrics are too coarse for and a log is too long for. It must not know of loops,
// HTTP or configuration; who asks finds the loops' goroutines for it.
//
// Cost: an exchange that succeeds at once, a comparison; one that is kept, some hundred
// bytes copied, and no allocation once its loop has kept as many as it may
// (TestAllocatesNothing). No entry holds more than 2 KiB.
package decisions

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
)

// Decision is what became of one exchange, or of a connection that carried none.
type Decision struct {
	ID   uint64 // higher is later, after a restart too
	Time time.Time
	// Connection: it was ended before it carried an exchange.
	Connection bool

	Reason policy.Reason // None: an endpoint answered in the end
	Side   policy.Side
	Phase  policy.Phase // of Reason, if that is not None
	Cause  string

	Listener, Route, Service string
	Inbound                  bool
	Protocol                 string
	Method, Authority, Path  string // the path without its query
	RequestID                string
	Status                   int
	GRPC                     policy.GRPCStatus
	Total                    time.Duration
	TraceID                  [16]byte // zero: in no trace

	Client netip.AddrPort
	Unix   bool
	PeerID string

	// Attempts is how many there were, Tries those that had an endpoint: the first
	// ones and the last, where there were more than are kept.
	Attempts int
	Tries    []Try
}

// Try is one attempt; see observability.Try.
type Try struct {
	Endpoint, EndpointID        string
	Reason                      policy.Reason
	Side                        policy.Side
	Phase                       policy.Phase
	Status                      int
	GRPC                        policy.GRPCStatus
	Reused                      bool
	Start, Connect, Head, Total time.Duration
}

// What an entry holds at most.
const (
	triesKept = 8
	textKept  = 128 // bytes of a method, an authority or a request's id
	pathKept  = 512
	causeKept = 256
)

// Log keeps the decisions of all loops. It implements observability.Observer and
// observability.RefusalObserver.
type Log struct {
	loops []*keeper
	last  atomic.Uint64 // ID
}

// New returns a log that keeps size decisions for each loop.
func New(loops, size int) *Log {
	l := &Log{}
	l.last.Store(uint64(time.Now().UnixMicro())) // no program reads numbers over 2^53
	for range loops {
		l.loops = append(l.loops, newKeeper(size))
	}
	return l
}

// Observe is called on the loop that the record names.
func (l *Log) Observe(r *observability.Record) {
	if r.Reason == policy.None && len(r.Tries) < 2 {
		return
	}
	l.keep(r, false)
}

// ObserveRefusal is called on the loop that the record names.
func (l *Log) ObserveRefusal(r *observability.Record) { l.keep(r, true) }

func (l *Log) keep(r *observability.Record, connection bool) {
	k := l.loops[r.Loop]
	e := k.place(r.Reason)
	e.set(r)
	e.connection, e.id = connection, l.last.Add(1)
	k.put(e)
}

// Query says which decisions are asked for; the zero value: all.
type Query struct {
	Reason  policy.Reason
	Any     bool // Reason does not matter
	Service string
	After   uint64 // ID; only later ones
	Limit   int    // at most so many, the latest; 0: any number
}

// OfLoop returns the decisions of one loop that q asks for, latest first. To be called on
// that loop.
func (l *Log) OfLoop(loop int, q Query) []Decision {
	var all []Decision
	for _, e := range l.loops[loop].entries {
		if e.id > q.After && (q.Any || e.reason == q.Reason) && (q.Service == "" || e.service == q.Service) {
			all = append(all, e.decision())
		}
	}
	return Latest(all, q.Limit)
}

// Latest sorts decisions, latest first, and cuts them off after limit; 0: not.
func Latest(all []Decision, limit int) []Decision {
	slices.SortFunc(all, func(a, b Decision) int {
		if a.ID > b.ID {
			return -1
		}
		return 1
	})
	if limit > 0 && len(all) > limit {
		all = all[:limit]
	}
	return all
}

// entry is a Decision whose memory is used again. Owned by a loop.
type entry struct {
	next *entry // of the same reason
	id   uint64

	connection               bool
	reason                   policy.Reason
	side                     policy.Side
	phase                    policy.Phase
	listener, route, service string
	inbound                  bool
	protocol                 string
	status                   int
	grpc                     policy.GRPCStatus
	start                    time.Time
	total                    time.Duration
	trace                    [16]byte
	client                   netip.AddrPort
	unix                     bool
	peerID                   string
	attempts, tried          int
	tries                    [triesKept]Try
	// reused
	cause, method, authority, path, requestID []byte
}

func (e *entry) set(r *observability.Record) {
	e.reason, e.side = r.Reason, r.Side
	e.listener, e.route, e.service, e.inbound, e.protocol = r.Listener, r.Route, r.Service, r.Inbound, r.Protocol
	e.status, e.grpc, e.start, e.total, e.trace = r.Status, r.GRPC, r.Start, r.Total, r.Trace.TraceID
	e.client, e.unix, e.peerID, e.attempts = r.Client, r.Unix, r.PeerID, r.Attempts
	e.method = clipped(e.method, r.Method, textKept)
	e.authority = clipped(e.authority, withoutUser(r.Authority), textKept)
	e.path = clipped(e.path, withoutQuery(r.Path), pathKept)
	e.requestID = clipped(e.requestID, r.RequestID, textKept)
	e.phase, e.cause = policy.PhaseAccept, e.cause[:0]
	if err, ok := errors.AsType[*policy.Error](r.Err); ok {
		e.phase = err.Phase
		if err.Err != nil {
			e.cause = clippedText(e.cause, err.Err.Error(), causeKept)
		}
	} else if r.Err != nil {
		e.phase, e.cause = policy.PhaseRecord, clippedText(e.cause, r.Err.Error(), causeKept)
	}
	e.tried = min(len(r.Tries), triesKept)
	for i := range e.tried {
		t := &r.Tries[i]
		if i == triesKept-1 {
			t = &r.Tries[len(r.Tries)-1]
		}
		e.tries[i] = Try{t.Endpoint, t.EndpointID, t.Reason, t.Side, t.Phase, t.Status, t.GRPC, t.Reused, t.Start, t.Connect, t.Head, t.Total}
	}
}

func (e *entry) decision() Decision {
	return Decision{
		ID: e.id, Time: e.start, Connection: e.connection, Reason: e.reason, Side: e.side, Phase: e.phase, Cause: string(e.cause),
		Listener: e.listener, Route: e.route, Service: e.service, Inbound: e.inbound, Protocol: e.protocol,
		Method: string(e.method), Authority: string(e.authority), Path: string(e.path), RequestID: string(e.requestID),
		Status: e.status, GRPC: e.grpc, Total: e.total, TraceID: e.trace, Client: e.client, Unix: e.unix, PeerID: e.peerID,
		Attempts: e.attempts, Tries: slices.Clone(e.tries[:e.tried]),
	}
}

// withoutUser cuts off user information, which may be a password.
func withoutUser(authority []byte) []byte { return authority[bytes.LastIndexByte(authority, '@')+1:] }

// withoutQuery cuts off the query and the parameters of a path, which may be secrets.
func withoutQuery(path []byte) []byte {
	if i := bytes.IndexAny(path, "?;#"); i >= 0 {
		return path[:i]
	}
	return path
}

const ellipsis = "…"

func clipped(dst, text []byte, most int) []byte {
	if len(text) <= most {
		return append(dst[:0], text...)
	}
	return append(append(dst[:0], text[:most]...), ellipsis...)
}

func clippedText(dst []byte, text string, most int) []byte {
	if len(text) <= most {
		return append(dst[:0], text...)
	}
	return append(append(dst[:0], text[:most]...), ellipsis...)
}
