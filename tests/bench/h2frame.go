//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// This file is as much of HTTP/2's framing (RFC 9113) as the load and the origin
// need. It is of its own so that the proxies are measured, and judged, by something
// that shares no code with them; only HPACK is a library's.

// The frame types and flags that are understood.
const (
	frameData         = 0
	frameHeaders      = 1
	framePriority     = 2
	frameReset        = 3
	frameSettings     = 4
	framePing         = 6
	frameGoAway       = 7
	frameWindowUpdate = 8

	flagAck        = 1
	flagEndStream  = 1
	flagEndHeaders = 4
	flagPadded     = 8
	flagPriority   = 32

	settingTableSize  = 1
	settingMaxStreams = 3
	settingWindow     = 4

	frameHead     = 9
	frameLimit    = 16 << 10 // of a payload, RFC 9113's default
	defaultWindow = 64<<10 - 1

	// receiveWindow is what load and origin offer on each stream and connection: so
	// much that they never hold a proxy back. The connection's is refilled when half
	// of it is used.
	receiveWindow = 1 << 30
)

const h2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// frame is one frame; its payload is the reader's.
type frame struct {
	kind, flags byte
	stream      uint32
	payload     []byte
}

func (f *frame) has(flag byte) bool { return f.flags&flag != 0 }

// cutFrame takes the first frame off data; ok is false where it is incomplete.
func cutFrame(data []byte) (f frame, rest []byte, ok bool, err error) {
	if len(data) < frameHead {
		return f, data, false, nil
	}
	size := int(data[0])<<16 | int(data[1])<<8 | int(data[2])
	if string(data[:5]) == "HTTP/" {
		return f, data, false, errors.New("the peer speaks HTTP/1")
	}
	if size > frameLimit {
		return f, data, false, fmt.Errorf("a frame of %d bytes", size)
	}
	if len(data) < frameHead+size {
		return f, data, false, nil
	}
	f = frame{kind: data[3], flags: data[4], stream: binary.BigEndian.Uint32(data[5:]) &^ (1 << 31), payload: data[frameHead : frameHead+size]}
	if f.kind == frameData && f.has(flagPadded) || f.kind == frameHeaders && (f.has(flagPadded|flagPriority) || !f.has(flagEndHeaders)) {
		return f, data, false, fmt.Errorf("a frame of type %d with flags %#x, which this client does not read", f.kind, f.flags)
	}
	return f, data[frameHead+size:], true, nil
}

func appendFrameHead(dst []byte, kind, flags byte, stream uint32, size int) []byte {
	dst = append(dst, byte(size>>16), byte(size>>8), byte(size), kind, flags)
	return binary.BigEndian.AppendUint32(dst, stream)
}

func appendFrame(dst []byte, kind, flags byte, stream uint32, payload []byte) []byte {
	return append(appendFrameHead(dst, kind, flags, stream, len(payload)), payload...)
}

func appendWindowUpdate(dst []byte, stream, increment uint32) []byte {
	return binary.BigEndian.AppendUint32(appendFrameHead(dst, frameWindowUpdate, 0, stream, 4), increment)
}

// appendOpening is either side's first frames: large windows, and for the origin as many
// streams as nghttpd and most servers allow.
func appendOpening(dst []byte, maxStreams uint32) []byte {
	size := 6
	if maxStreams > 0 {
		size = 12
	}
	dst = appendFrameHead(dst, frameSettings, 0, 0, size)
	dst = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(dst, settingWindow), receiveWindow)
	if maxStreams > 0 {
		dst = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(dst, settingMaxStreams), maxStreams)
	}
	return appendWindowUpdate(dst, 0, receiveWindow-defaultWindow)
}

// settings calls set for each setting of a SETTINGS frame.
func (f *frame) settings(set func(id uint16, value uint32)) error {
	if len(f.payload)%6 != 0 {
		return errors.New("a broken SETTINGS frame")
	}
	for p := f.payload; len(p) > 0; p = p[6:] {
		set(binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:]))
	}
	return nil
}

// number is the payload of WINDOW_UPDATE and RST_STREAM.
func (f *frame) number() (uint32, error) {
	if len(f.payload) != 4 {
		return 0, fmt.Errorf("a frame of type %d with %d bytes", f.kind, len(f.payload))
	}
	return binary.BigEndian.Uint32(f.payload) &^ (1 << 31), nil
}

// grpcMessage frames a message of size bytes, uncompressed.
func grpcMessage(size int) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(size)), body(size)...)
}
