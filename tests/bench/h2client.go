//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"
)

// h2Client is one HTTP/2 connection of the load with its exchanges. All that an
// event brings is answered with one send.
type h2Client struct {
	*client // the transport
	spec    *loadSpec
	want    []byte // the content of each answer
	content []byte // of each request; nil: none
	request []byte // header block of every request but the first
	decoder *hpack.Decoder
	next    uint32 // stream
	open    map[uint32]*h2Exchange
	spare   []*h2Exchange

	in, out  []byte                         // an incomplete frame; not sent yet
	received int                            // content bytes since the window was refilled
	window   int                            // of the connection, towards the proxy
	fields   h2Fields                       // of the head being decoded
	finished func(due time.Time, err error) // called for each exchange; err: of this one alone
}

// h2Exchange is one request and what came of its answer.
type h2Exchange struct {
	due    time.Time
	headed bool
	got    int
}

// h2Fields is what counts of a head or of trailers.
type h2Fields struct {
	status, length, kind, grpc string
}

func openH2(sa *unix.SockaddrInet4, config *tls.Config, spec *loadSpec) (*h2Client, error) {
	transport, err := open(sa, config)
	if err != nil {
		return nil, err
	}
	if config != nil {
		if got := transport.secure.ConnectionState().NegotiatedProtocol; got != "h2" {
			transport.close()
			return nil, fmt.Errorf("ALPN chose %q, want h2", got)
		}
	}
	return newH2Client(transport, spec), nil
}

func newH2Client(transport *client, spec *loadSpec) *h2Client {
	c := &h2Client{client: transport, spec: spec, want: body(spec.Size), next: 1, window: defaultWindow, open: map[uint32]*h2Exchange{}}
	if spec.GRPC {
		c.want, c.content = grpcMessage(spec.Size), grpcMessage(message)
	}
	c.decoder = hpack.NewDecoder(4096, c.field)
	c.out = appendOpening(append(c.out, h2Preface...), 0)
	return c
}

// head is the header block of a request. Its fields enter the dynamic table with the
// first request, as any client's do, so that all later blocks are alike and short.
func (c *h2Client) head() []byte {
	if c.next > 3 {
		return c.request
	}
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	scheme := "http"
	if c.secure != nil {
		scheme = "https"
	}
	fields := []string{":method", "GET", ":scheme", scheme, ":path", "/" + strconv.Itoa(c.spec.Size), ":authority", serverName,
		"user-agent", "larboard-bench", "accept", "*/*"}
	if c.spec.GRPC {
		fields = []string{":method", "POST", ":scheme", scheme, ":path", grpcPath + strconv.Itoa(c.spec.Size), ":authority", serverName,
			"content-type", "application/grpc", "user-agent", "larboard-bench", "te", "trailers"}
	}
	for range c.next/2 + 1 {
		block.Reset()
		for i := 0; i < len(fields); i += 2 {
			encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}) // a bytes.Buffer takes all
		}
	}
	c.request = block.Bytes()
	return c.request
}

// start appends a request; flush sends it.
func (c *h2Client) start(due time.Time) {
	x := &h2Exchange{}
	if n := len(c.spare); n > 0 {
		x, c.spare = c.spare[n-1], c.spare[:n-1]
	}
	*x = h2Exchange{due: due}
	head, flags := c.head(), byte(flagEndHeaders)
	if c.content == nil {
		flags |= flagEndStream
	}
	c.out = appendFrame(c.out, frameHeaders, flags, c.next, head)
	if c.content != nil {
		c.out = appendFrame(c.out, frameData, flagEndStream, c.next, c.content)
		c.window -= len(c.content)
	}
	c.open[c.next] = x
	c.next += 2
}

// flush sends what was started. So little is under way that a socket takes it at once.
func (c *h2Client) flush() error {
	if c.window < 0 {
		return errors.New("the proxy's window for the connection ran dry")
	}
	if len(c.out) == 0 {
		return nil
	}
	err := c.client.send(c.out, nil, time.Time{})
	c.out = c.out[:0]
	return err
}

// receive reads what is there and calls finished for each exchange that it ends; the
// caller flushes.
func (c *h2Client) receive(buf []byte) error {
	for {
		n, err := c.read(buf)
		if errors.Is(err, errAgain) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.feed(buf[:n]); err != nil {
			return err
		}
		// A TLS connection may hold further records that epoll does not show.
		if c.secure == nil && n < len(buf) {
			return nil
		}
	}
}

func (c *h2Client) feed(p []byte) error {
	if len(c.in) > 0 {
		p = append(c.in, p...)
	}
	for {
		f, rest, ok, err := cutFrame(p)
		if err != nil {
			return err
		}
		if !ok {
			c.in = append(c.in[:0], p...)
			return nil
		}
		p = rest
		if err := c.frame(&f); err != nil {
			return err
		}
	}
}

func (c *h2Client) frame(f *frame) error {
	switch f.kind {
	case frameHeaders:
		return c.headers(f)
	case frameData:
		return c.data(f)
	case frameReset:
		code, err := f.number()
		if err == nil {
			c.end(f.stream, fmt.Errorf("stream reset with code %d", code))
		}
		return err
	case frameSettings:
		return c.settings(f)
	case framePing:
		if !f.has(flagAck) {
			c.out = appendFrame(c.out, framePing, flagAck, 0, f.payload)
		}
	case frameGoAway:
		if len(f.payload) >= 8 {
			return fmt.Errorf("GOAWAY with code %d", f.payload[7])
		}
		return errors.New("a broken GOAWAY frame")
	case frameWindowUpdate:
		n, err := f.number()
		if f.stream == 0 {
			c.window += int(n)
		}
		return err
	}
	return nil
}

func (c *h2Client) settings(f *frame) (err error) {
	if f.has(flagAck) {
		return nil
	}
	c.out = appendFrame(c.out, frameSettings, flagAck, 0, nil)
	bad := f.settings(func(id uint16, value uint32) {
		if id == settingMaxStreams && int(value) < c.spec.Streams {
			err = fmt.Errorf("the proxy allows %d streams on a connection, the scenario wants %d", value, c.spec.Streams)
		}
	})
	return errors.Join(bad, err)
}

// field is the decoder's callback.
func (c *h2Client) field(h hpack.HeaderField) {
	switch h.Name {
	case ":status":
		c.fields.status = h.Value
	case "content-length":
		c.fields.length = h.Value
	case "content-type":
		c.fields.kind = h.Value
	case "grpc-status":
		c.fields.grpc = h.Value
	}
}

func (c *h2Client) headers(f *frame) error {
	c.fields = h2Fields{}
	if _, err := c.decoder.Write(f.payload); err != nil {
		return err
	}
	if err := c.decoder.Close(); err != nil {
		return err
	}
	x := c.open[f.stream]
	if x == nil {
		return fmt.Errorf("a head for stream %d, which is not open", f.stream)
	}
	ends := f.has(flagEndStream)
	if err := c.judge(x, ends); err != nil || ends {
		c.end(f.stream, err)
		return nil
	}
	x.headed = true
	return nil
}

// judge looks at a head or, of gRPC, at the trailers that end an answer.
func (c *h2Client) judge(x *h2Exchange, ends bool) error {
	switch {
	case !x.headed && c.fields.status != "200":
		return fmt.Errorf("status %q", c.fields.status)
	case !x.headed && ends:
		return errors.New("an answer without content")
	case !x.headed && c.spec.GRPC && c.fields.kind != "application/grpc":
		return fmt.Errorf("content type %q", c.fields.kind)
	case !x.headed && !c.spec.GRPC && c.fields.length != strconv.Itoa(c.spec.Size):
		return fmt.Errorf("content length %q, want %d", c.fields.length, c.spec.Size)
	case x.headed && !(ends && c.spec.GRPC):
		return errors.New("a second head")
	case x.headed && c.fields.grpc != "0":
		return fmt.Errorf("gRPC status %q", c.fields.grpc)
	case x.headed && x.got != len(c.want):
		return fmt.Errorf("trailers after %d bytes of %d", x.got, len(c.want))
	}
	return nil
}

func (c *h2Client) data(f *frame) error {
	if c.received += len(f.payload); c.received > receiveWindow/2 {
		c.out = appendWindowUpdate(c.out, 0, uint32(c.received))
		c.received = 0
	}
	x := c.open[f.stream]
	switch {
	case x == nil || !x.headed:
		return fmt.Errorf("content for stream %d, which expects none", f.stream)
	case len(f.payload) > len(c.want)-x.got || !bytes.Equal(f.payload, c.want[x.got:x.got+len(f.payload)]):
		return fmt.Errorf("wrong content at byte %d", x.got)
	}
	x.got += len(f.payload)
	if !f.has(flagEndStream) {
		return nil
	}
	var err error
	if c.spec.GRPC || x.got != len(c.want) {
		err = fmt.Errorf("the stream ended after %d bytes of %d", x.got, len(c.want))
	}
	c.end(f.stream, err)
	return nil
}

func (c *h2Client) end(stream uint32, err error) {
	x := c.open[stream]
	if x == nil {
		return
	}
	delete(c.open, stream)
	c.spare = append(c.spare, x)
	c.finished(x.due, err)
}

// exchange does one request and waits for its answer.
func (c *h2Client) exchange(buf []byte) error {
	done, failure := false, error(nil)
	c.finished = func(_ time.Time, err error) { done, failure = true, err }
	since := time.Now()
	c.start(since)
	for !done {
		if err := c.flush(); err != nil {
			return err
		}
		if err := awaitReadable(c.fd, since); err != nil {
			return err
		}
		if err := c.receive(buf); err != nil {
			return err
		}
	}
	return errors.Join(failure, c.flush())
}

// alive reports whether the peer has kept the connection open. It may well have sent
// a frame meanwhile, but not GOAWAY.
func (c *h2Client) alive() bool {
	return c.receive(make([]byte, 4<<10)) == nil
}
