//go:build linux

package attack

import (
	"encoding/binary"
	"fmt"
	"io"

	"golang.org/x/net/http2"
)

// preface begins a client's connection (RFC 9113 section 3.4).
const preface = http2.ClientPreface

// headerSize is that of a frame's header (RFC 9113 section 4.1).
const headerSize = 9

// Flags by their meaning; some share a bit.
const (
	ack        = 0x1
	endStream  = 0x1
	endHeaders = 0x4
	padded     = 0x8
)

// frame appends one frame to dst, legal or not.
func frame(dst []byte, kind http2.FrameType, flags byte, id uint32, payload []byte) []byte {
	dst = append(dst, byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload)), byte(kind), flags)
	dst = binary.BigEndian.AppendUint32(dst, id)
	return append(dst, payload...)
}

// number is a payload of one 32-bit number: a window's increment, an error code.
func number(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// setting is the payload of a SETTINGS frame, or a part of it.
func setting(id http2.SettingID, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(nil, uint16(id)), value)
}

// goAway is the payload of a GOAWAY frame.
func goAway(last uint32, code http2.ErrCode) []byte {
	return append(number(last), number(uint32(code))...)
}

// priority is the payload of a PRIORITY frame.
func priority(on uint32, weight byte) []byte { return append(number(on), weight) }

// read is one frame as it came in.
type read struct {
	kind    http2.FrameType
	flags   byte
	id      uint32
	payload []byte // until the next one is read
}

func (f read) has(flag byte) bool { return f.flags&flag != 0 }

// reading takes frames off a connection.
type reading struct {
	from   io.Reader
	buffer []byte
}

// next returns the next frame; its payload lives until the one after it.
func (r *reading) next() (read, error) {
	var head [headerSize]byte
	if _, err := io.ReadFull(r.from, head[:]); err != nil {
		return read{}, err
	}
	size := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
	if size > cap(r.buffer) {
		r.buffer = make([]byte, size)
	}
	f := read{kind: http2.FrameType(head[3]), flags: head[4], id: binary.BigEndian.Uint32(head[5:]) & (1<<31 - 1), payload: r.buffer[:size]}
	_, err := io.ReadFull(r.from, f.payload)
	return f, err
}

// sort names a frame for counting: its type, and what an attack is about.
func (f read) sort() string {
	switch {
	case f.kind == http2.FrameSettings && f.has(ack):
		return "SETTINGS ack"
	case f.kind == http2.FramePing && f.has(ack):
		return "PING ack"
	case f.kind > http2.FrameContinuation:
		return "unknown"
	case f.kind == http2.FrameData && len(f.payload) == 0:
		return "DATA empty"
	case f.kind == http2.FrameContinuation && len(f.payload) <= 1:
		return fmt.Sprintf("CONTINUATION of %d", len(f.payload))
	case f.kind == http2.FrameWindowUpdate && len(f.payload) == 4:
		return fmt.Sprintf("WINDOW_UPDATE of %d", binary.BigEndian.Uint32(f.payload))
	}
	return f.kind.String()
}
