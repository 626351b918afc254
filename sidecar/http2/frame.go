package http2

import "encoding/binary"

// Frames (RFC 9113 section 4.1): nine bytes of header, then the payload.

const (
	frameHeader = 9
	// maxFrame is the largest payload taken, which is the protocol's default; nothing is gained
	// by larger ones, since a socket's reads are not larger either.
	maxFrame = 16 << 10
	// maxWindow is the largest flow-control window (section 6.9.1).
	maxWindow = 1<<31 - 1
)

// preface is what a client sends first (section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

type frameType uint8

// The frame types (section 6).
const (
	frameData frameType = iota
	frameHeaders
	framePriority
	frameReset
	frameSettings
	framePush
	framePing
	frameGoAway
	frameWindow
	frameContinuation
)

// frameFlags are the flags of all types.
type frameFlags uint8

const (
	flagEndStream  frameFlags = 0x1 // DATA, HEADERS
	flagAck        frameFlags = 0x1 // SETTINGS, PING
	flagEndHeaders frameFlags = 0x4
	flagPadded     frameFlags = 0x8
	flagPriority   frameFlags = 0x20
)

// errorCode is the code of RST_STREAM and GOAWAY (section 7).
type errorCode uint32

const (
	codeNone errorCode = iota
	codeProtocol
	codeInternal
	codeFlowControl
	codeSettingsTimeout
	codeStreamClosed
	codeFrameSize
	codeRefused
	codeCancel
	codeCompression
	codeConnect
	codeCalm
	codeInsecure
	codeHTTP11
)

var codeNames = [...]string{"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT",
	"STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR",
	"ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"}

// String is the code's name; an unknown one is treated like INTERNAL_ERROR (section 7).
func (c errorCode) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return "an unknown error code"
}

// frame is a frame in the read buffer; payload is a view of it.
type frame struct {
	payload []byte
	length  int // of the payload as it was sent, padding included
	stream  uint32
	kind    frameType
	flags   frameFlags
}

func (f *frame) has(x frameFlags) bool { return f.flags&x != 0 }

// next cuts the first frame off b. n is its size on the wire, 0 while it is not complete. A
// payload that is larger than allowed is refused by its header alone.
func (f *frame) next(b []byte) (n int, ok bool) {
	if len(b) < frameHeader {
		return 0, true
	}
	f.length = int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	f.kind, f.flags = frameType(b[3]), frameFlags(b[4])
	f.stream = binary.BigEndian.Uint32(b[5:]) &^ (1 << 31)
	if f.length > maxFrame {
		return 0, false
	}
	n = frameHeader + f.length
	if len(b) < n {
		return 0, true
	}
	f.payload = b[frameHeader:n:n]
	return n, true
}

// unpad takes the padding off the payload of DATA and HEADERS; false if it is longer than that
// (sections 6.1 and 6.2).
func (f *frame) unpad() bool {
	if !f.has(flagPadded) {
		return true
	}
	if len(f.payload) == 0 || int(f.payload[0]) >= len(f.payload) {
		return false
	}
	f.payload = f.payload[1 : len(f.payload)-int(f.payload[0])]
	return true
}

// appendFrame appends a frame's header, for a payload of length bytes.
func appendFrame(b []byte, length int, kind frameType, flags frameFlags, stream uint32) []byte {
	return append(b, byte(length>>16), byte(length>>8), byte(length), byte(kind), byte(flags),
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

func appendReset(b []byte, stream uint32, code errorCode) []byte {
	return binary.BigEndian.AppendUint32(appendFrame(b, 4, frameReset, 0, stream), uint32(code))
}

func appendWindow(b []byte, stream uint32, n uint32) []byte {
	return binary.BigEndian.AppendUint32(appendFrame(b, 4, frameWindow, 0, stream), n)
}

func appendGoAway(b []byte, last uint32, code errorCode, debug string) []byte {
	b = appendFrame(b, 8+len(debug), frameGoAway, 0, 0)
	b = binary.BigEndian.AppendUint32(b, last)
	b = binary.BigEndian.AppendUint32(b, uint32(code))
	return append(b, debug...)
}

// settingID names a setting (section 6.5.2, RFC 8441 section 3).
type settingID uint16

const (
	settingTableSize    settingID = 1
	settingPush         settingID = 2
	settingMaxStreams   settingID = 3
	settingWindow       settingID = 4
	settingMaxFrame     settingID = 5
	settingHeaderList   settingID = 6
	settingConnect      settingID = 8
	settingSize                   = 6
	defaultWindow                 = 65535
	defaultHeaderTable            = 4096
	assumedStreams                = 100 // before the peer's SETTINGS: what section 6.5.2 recommends as the least
	settingsFrameAtMost           = frameHeader + 5*settingSize
	windowFrame                   = frameHeader + 4
)

func appendSetting(b []byte, id settingID, v uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, uint16(id)), v)
}
