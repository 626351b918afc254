package http2

import "github.com/larboard-proxy/larboard/policy"

// fault is what is wrong with a header block; the zero value is "nothing". It is
// made into a *policy.Error where the side is known.
type fault struct {
	kind   faultKind
	reason policy.Reason // as a server reports it
	text   violation
}

// faultKind says what a fault ends.
type faultKind uint8

const (
	faultNone faultKind = iota
	// faultAnswer: the request is understood and refused with the reason's status.
	faultAnswer
	// faultStream: the message is malformed, a stream error PROTOCOL_ERROR (RFC 9113
	// section 8.1.1).
	faultStream
	// faultConnection: COMPRESSION_ERROR; the tables of both ends differ from now on.
	faultConnection
)

// violation is the rule that was broken, as the cause of a *policy.Error.
type violation string

func (v violation) Error() string { return "http2: " + string(v) }

func (f fault) bad() bool { return f.kind != faultNone }

func malformed(text violation) fault { return fault{faultStream, policy.HTTP2Protocol, text} }

func answered(reason policy.Reason, text violation) fault { return fault{faultAnswer, reason, text} }
