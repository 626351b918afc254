//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"
)

const (
	// grpcPath is the method of the unary calls; the answer's size follows.
	grpcPath = "/bench.Origin/"
	// originStreams is what the origin allows on a connection.
	originStreams = 128
)

// h2Origin is one HTTP/2 connection of the origin. All that a receive brings is
// answered with one send.
type h2Origin struct {
	contents contents
	greeted  bool // the client's preface was read
	decoder  *hpack.Decoder
	encoder  *hpack.Encoder
	block    bytes.Buffer // under encoder
	in, out  []byte       // an incomplete frame; answers of this receive
	streams  map[uint32]*h2Request
	spare    []*h2Request
	blocked  []*h2Request // answers that wait for a window, in order

	window  int // of the connection
	initial int // of each new stream
	taken   int // content bytes since the connection's window was refilled

	request *h2Request // whose head is being decoded
	checked bool       // the first head was looked at field by field
}

// h2Request is one stream.
type h2Request struct {
	stream         uint32
	path           string
	te, kind       string // of the first head on a connection
	body           int    // bytes received
	answer         []byte // content
	window         int
	grpc, answered bool
}

// contents are the answers, made once, by size.
type contents map[int]content

type content struct{ body, message []byte }

func (c contents) of(size int) content {
	if _, ok := c[size]; !ok {
		c[size] = content{body: body(size), message: grpcMessage(size)}
	}
	return c[size]
}

func newH2Origin(c contents) *h2Origin {
	h := &h2Origin{contents: c, streams: map[uint32]*h2Request{}, window: defaultWindow, initial: defaultWindow}
	h.decoder = hpack.NewDecoder(4096, h.field)
	h.encoder = hpack.NewEncoder(&h.block)
	h.out = appendOpening(nil, originStreams)
	return h
}

// field is the decoder's callback. After the first head on a connection nothing but
// the path is looked at, which spares the origin most of the decoding.
func (h *h2Origin) field(f hpack.HeaderField) {
	switch f.Name {
	case ":path":
		h.request.path = f.Value
		h.decoder.SetEmitEnabled(!h.checked)
	case "te":
		h.request.te = f.Value
	case "content-type":
		h.request.kind = f.Value
	}
}

// feed takes received bytes; out then holds what is to be sent. An error ends the
// connection.
func (h *h2Origin) feed(p []byte) error {
	if len(h.in) > 0 {
		p = append(h.in, p...)
	}
	if !h.greeted {
		if len(p) < len(h2Preface) {
			h.in = append(h.in[:0], p...)
			return nil
		}
		if string(p[:len(h2Preface)]) != h2Preface {
			return errors.New("no HTTP/2 preface")
		}
		h.greeted, p = true, p[len(h2Preface):]
	}
	for {
		f, rest, ok, err := cutFrame(p)
		if err != nil {
			return err
		}
		if !ok {
			h.in = append(h.in[:0], p...)
			return nil
		}
		p = rest
		if err := h.frame(&f); err != nil {
			return err
		}
	}
}

func (h *h2Origin) frame(f *frame) error {
	switch f.kind {
	case frameHeaders:
		return h.headers(f)
	case frameData:
		return h.data(f)
	case frameReset:
		if r := h.streams[f.stream]; r != nil {
			r.answered = true
			h.forget(r)
		}
	case frameSettings:
		return h.settings(f)
	case framePing:
		if !f.has(flagAck) {
			h.out = appendFrame(h.out, framePing, flagAck, 0, f.payload)
		}
	case frameWindowUpdate:
		return h.windowUpdate(f)
	}
	return nil
}

func (h *h2Origin) settings(f *frame) error {
	if f.has(flagAck) {
		return nil
	}
	h.out = appendFrame(h.out, frameSettings, flagAck, 0, nil)
	return f.settings(func(id uint16, value uint32) {
		switch id {
		case settingTableSize:
			h.encoder.SetMaxDynamicTableSizeLimit(value)
		case settingWindow:
			for _, r := range h.streams {
				r.window += int(value) - h.initial
			}
			h.initial = int(value)
		}
	})
}

func (h *h2Origin) windowUpdate(f *frame) error {
	n, err := f.number()
	if err != nil {
		return err
	}
	if f.stream == 0 {
		h.window += int(n)
	} else if r := h.streams[f.stream]; r != nil {
		r.window += int(n)
	}
	waiting := h.blocked
	h.blocked = h.blocked[:0]
	for _, r := range waiting {
		h.pour(r)
	}
	return nil
}

func (h *h2Origin) headers(f *frame) error {
	r := &h2Request{}
	if n := len(h.spare); n > 0 {
		r, h.spare = h.spare[n-1], h.spare[:n-1]
	}
	*r = h2Request{stream: f.stream, window: h.initial}
	h.request = r
	h.decoder.SetEmitEnabled(true)
	if _, err := h.decoder.Write(f.payload); err != nil {
		return err
	}
	if err := h.decoder.Close(); err != nil {
		return err
	}
	h.streams[r.stream] = r
	r.grpc = strings.HasPrefix(r.path, grpcPath)
	if !h.checked && r.grpc && (r.te != "trailers" || r.kind != "application/grpc") {
		return fmt.Errorf("a gRPC call with te %q and content type %q", r.te, r.kind)
	}
	h.checked = true
	if f.has(flagEndStream) {
		return h.answer(r)
	}
	return nil
}

func (h *h2Origin) data(f *frame) error {
	if h.taken += len(f.payload); h.taken > receiveWindow/2 {
		h.out = appendWindowUpdate(h.out, 0, uint32(h.taken))
		h.taken = 0
	}
	r := h.streams[f.stream]
	if r == nil {
		return nil
	}
	r.body += len(f.payload)
	if f.has(flagEndStream) {
		return h.answer(r)
	}
	return nil
}

// answer begins the answer to a complete request.
func (h *h2Origin) answer(r *h2Request) error {
	digits, kind := strings.TrimPrefix(r.path, "/"), "text/plain"
	if r.grpc {
		digits, kind = r.path[len(grpcPath):], "application/grpc"
		if want := len(grpcMessage(message)); r.body != want {
			return fmt.Errorf("a message of %d bytes, want %d", r.body, want)
		}
	}
	size, err := strconv.Atoi(digits)
	if err != nil || size < 1 || size > 1<<20 {
		return fmt.Errorf("path %q", r.path)
	}
	h.block.Reset()
	h.write(":status", "200")
	h.write("content-type", kind)
	if r.grpc {
		r.answer = h.contents.of(size).message
	} else {
		h.write("content-length", digits)
		r.answer = h.contents.of(size).body
	}
	h.out = appendFrame(h.out, frameHeaders, flagEndHeaders, r.stream, h.block.Bytes())
	h.pour(r)
	return nil
}

// write encodes one field of an answer.
func (h *h2Origin) write(name, value string) {
	h.encoder.WriteField(hpack.HeaderField{Name: name, Value: value}) // a bytes.Buffer takes all
}

// pour appends what the windows allow of an answer, and its end.
func (h *h2Origin) pour(r *h2Request) {
	if r.answered {
		return
	}
	for len(r.answer) > 0 {
		n := min(len(r.answer), h.window, r.window, frameLimit)
		if n <= 0 {
			h.blocked = append(h.blocked, r)
			return
		}
		var flags byte
		if n == len(r.answer) && !r.grpc {
			flags = flagEndStream
		}
		h.out = appendFrame(h.out, frameData, flags, r.stream, r.answer[:n])
		r.answer = r.answer[n:]
		h.window -= n
		r.window -= n
	}
	if r.grpc {
		h.block.Reset()
		h.write("grpc-status", "0")
		h.out = appendFrame(h.out, frameHeaders, flagEndHeaders|flagEndStream, r.stream, h.block.Bytes())
	}
	h.forget(r)
}

// forget ends a stream. One that waits for a window is left to the collector.
func (h *h2Origin) forget(r *h2Request) {
	delete(h.streams, r.stream)
	if !r.answered {
		h.spare = append(h.spare, r)
	}
}
