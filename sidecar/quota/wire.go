package quota

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/larboard-proxy/larboard/sidecar/proxy"
)

// The fields that are written and read, by their numbers in envoy/service/ratelimit/v3/rls.proto and
// what it imports, and by their type on the wire: a number that comes with another type is another field.
const (
	integer = uint64(protowire.VarintType)
	text    = uint64(protowire.BytesType) // and messages

	requestDomain      = 1<<3 | text
	requestDescriptors = 2<<3 | text
	requestHits        = 3<<3 | integer

	descriptorEntries = 1<<3 | text
	entryKey          = 1<<3 | text
	entryValue        = 2<<3 | text

	responseCode       = 1<<3 | integer
	responseStatuses   = 2<<3 | text
	responseToClient   = 3<<3 | text
	responseToUpstream = 4<<3 | text

	statusCode      = 1<<3 | integer
	statusLimit     = 2<<3 | text
	statusRemaining = 3<<3 | integer
	statusReset     = 4<<3 | text

	limitRequests = 1<<3 | integer

	headerKey   = 1<<3 | text
	headerValue = 2<<3 | text
	headerRaw   = 3<<3 | text

	durationSeconds = 1<<3 | integer
	durationNanos   = 2<<3 | integer
)

// The codes.
const (
	codeOK        = 1
	codeOverLimit = 2
)

// response is what is read of a RateLimitResponse.
type response struct {
	code                 uint64
	statuses             []descriptorStatus // as many as there were descriptors, in their order
	toClient, toUpstream []proxy.Pair
}

type descriptorStatus struct {
	code             uint64
	limit, remaining int
	limited          bool // it has a limit
	reset            time.Duration
}

// codec writes questions and reads responses.
type codec struct{}

var _ encoding.CodecV2 = codec{}

// Name is that of the content type: application/grpc+proto.
func (codec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	q, ok := v.(*proxy.Question)
	if !ok {
		return nil, fmt.Errorf("quota: %T is no question", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(appendRequest(nil, q))}, nil
}

// Unmarshal implements encoding.CodecV2.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	r, ok := v.(*response)
	if !ok {
		return fmt.Errorf("quota: %T is no response", v)
	}
	return r.parse(data.Materialize())
}

func appendRequest(b []byte, q *proxy.Question) []byte {
	b = appendText(b, requestDomain, q.Domain)
	for _, d := range q.Descriptors {
		var entries []byte
		for _, p := range d {
			pair := appendText(appendText(nil, entryKey, p.Key), entryValue, p.Value)
			entries = protowire.AppendBytes(protowire.AppendVarint(entries, descriptorEntries), pair)
		}
		b = protowire.AppendBytes(protowire.AppendVarint(b, requestDescriptors), entries)
	}
	return protowire.AppendVarint(protowire.AppendVarint(b, requestHits), uint64(q.Hits))
}

// appendText writes a string, which in this format is UTF-8.
func appendText(b []byte, field uint64, value string) []byte {
	return protowire.AppendString(protowire.AppendVarint(b, field), strings.ToValidUTF8(value, "\uFFFD"))
}

var errMalformed = errors.New("quota: malformed response")

// fields calls known for each integer and each text of a message. Those that known does not know it
// passes over: that is how the protocol grows.
func fields(b []byte, known func(field, n uint64, value []byte) error) error {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errMalformed
		}
		b = b[n:]
		var integer uint64
		var value []byte
		switch kind {
		case protowire.VarintType:
			integer, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(number, kind, b)
		}
		if n < 0 {
			return errMalformed
		}
		b = b[n:]
		if err := known(protowire.EncodeTag(number, kind), integer, value); err != nil {
			return err
		}
	}
	return nil
}

func (r *response) parse(b []byte) error {
	*r = response{}
	return fields(b, func(field, n uint64, value []byte) error {
		switch field {
		case responseCode:
			r.code = n
		case responseStatuses:
			var s descriptorStatus
			if err := s.parse(value); err != nil {
				return err
			}
			r.statuses = append(r.statuses, s)
		case responseToClient:
			return appendHeader(&r.toClient, value)
		case responseToUpstream:
			return appendHeader(&r.toUpstream, value)
		}
		return nil
	})
}

func (s *descriptorStatus) parse(b []byte) error {
	return fields(b, func(field, n uint64, value []byte) error {
		switch field {
		case statusCode:
			s.code = n
		case statusLimit:
			s.limited = true
			return fields(value, func(field, n uint64, _ []byte) error {
				if field == limitRequests {
					s.limit = int(min(n, math.MaxInt32))
				}
				return nil
			})
		case statusRemaining:
			s.remaining = int(min(n, math.MaxInt32))
		case statusReset:
			return fields(value, func(field, n uint64, _ []byte) error {
				// What is negative makes no sense here, and comes as a very large number.
				switch {
				case field == durationSeconds && n < math.MaxInt32:
					s.reset += time.Duration(n) * time.Second
				case field == durationNanos && n < uint64(time.Second):
					s.reset += time.Duration(n)
				}
				return nil
			})
		}
		return nil
	})
}

// appendHeader reads a header to add. Who is meant by the request is not the service's to change.
func appendHeader(all *[]proxy.Pair, b []byte) error {
	var p proxy.Pair
	err := fields(b, func(field, _ uint64, value []byte) error {
		switch field {
		case headerKey:
			p.Key = string(value)
		case headerValue:
			p.Value = string(value)
		case headerRaw:
			if len(value) > 0 {
				p.Value = string(value)
			}
		}
		return nil
	})
	if err == nil && p.Key != "" && p.Key[0] != ':' && !strings.EqualFold(p.Key, "host") {
		*all = append(*all, p)
	}
	return err
}

// answer is r for the proxy: of several limits the one that is over, for longest, or else the one
// with least left.
func (r *response) answer() proxy.Answer {
	a := proxy.Answer{OverLimit: r.code == codeOverLimit, ToClient: r.toClient, ToUpstream: r.toUpstream}
	known := false
	for _, s := range r.statuses {
		switch {
		case a.OverLimit:
			if s.code == codeOverLimit && (!known || s.reset > a.Reset) {
				a.Limit, a.Remaining, a.Reset, known = s.limit, 0, s.reset, true
			}
		case s.limited && (!known || s.remaining < a.Remaining):
			a.Limit, a.Remaining, a.Reset, known = s.limit, s.remaining, s.reset, true
		}
	}
	return a
}
