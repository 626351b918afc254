// Package http2 is the HTTP/2 codec (RFC 9113): it turns one connection into many
// message.Streams, on the side of a server and on the side of a client. It is strict: what is
// ambiguous is refused, and what is sent is generated from the parsed form. The package must
// not know of routes, services or pools.
//
// A connection has no task of its own. It is a state machine that the engine calls when bytes
// come: frames are parsed in place, in a lent buffer, until the socket has no more. A stream is
// used by the tasks of its exchange, which park on the stream's own state. What is to be sent is
// appended to one lent buffer for each connection, and leaves in one piece at the end of the
// loop's turn. An idle connection holds neither task nor buffer.
//
// Cost: a request and its answer allocate nothing in steady state (TestSteadyStateAllocates).
// Memory of a connection is bounded: see budget.go for the bounds, each with its name.
package http2

import (
	"time"

	"github.com/larboard-proxy/larboard/policy"
)

// Options are shared by all connections of a listener or of a service and never change.
type Options struct {
	// MaxStreams is how many streams the peer may have open at once (server), or how many are
	// opened at most on one connection (client; the peer's setting may lower it).
	MaxStreams uint32
	// StreamWindow and ConnectionWindow are how many bytes of bodies the peer may send ahead.
	// The connection's is at least 65,535 (RFC 9113 section 6.9.2).
	StreamWindow, ConnectionWindow uint32
	// Head, Fields and Trailers are the limits of a head in bytes, its fields in number, and a
	// trailer section in bytes. Head is told to the peer as SETTINGS_MAX_HEADER_LIST_SIZE.
	Head, Fields, Trailers int
	// Authority is sent by a client where the request names none, as HTTP/1.0 may.
	Authority string
	// HideReason leaves the reason out of a server's answer to a malformed request.
	HideReason bool
	// AllowConnect lets a plain CONNECT through; extended CONNECT (RFC 8441) always is.
	AllowConnect bool
	// PingInterval is how long a peer may be silent before it is asked for a sign of life,
	// PingTimeout how long that may take. Zero: never.
	PingInterval, PingTimeout time.Duration
	// HeadTimeout bounds the preface, and a header block from its first to its last frame;
	// IdleTimeout a connection without a stream; StallTimeout a stream or connection whose peer
	// takes nothing while data waits. Zero: no bound.
	HeadTimeout, IdleTimeout, StallTimeout time.Duration
}

// Handler is told what happens on a server's connection. It is called on the loop, never on a
// task, and must not park.
type Handler interface {
	// Open hands over a stream whose request head is complete. The handler starts a task that
	// uses it and ends with s.Close.
	Open(s *Stream)
	// Malformed tells of a request that was refused before it became an exchange; it has been
	// answered with the status, or reset (0). s is valid during the call only.
	Malformed(s *Stream, status int, err error)
	// Abuse tells that a protection has fired, and what the peer has done; the connection is
	// being ended.
	Abuse(r policy.Reason, what error)
	// Closed is the last call, exactly once: no stream is left and the transport is closed. err
	// is nil where the connection ended in order.
	Closed(err error)
}

// Owner is told what happens on a client's connection. It is called on the loop, never on a
// task, and must not park.
type Owner interface {
	// Room tells that there may be room for another stream again.
	Room()
	// Closed tells, once, that no new stream can be opened any more. Streams under way may go
	// on (after a GOAWAY).
	Closed(err error)
}
