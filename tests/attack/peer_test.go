//go:build linux

package attack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// patience is what a write may take before the victim counts as not reading, and what
// an end that was announced may take to come.
const patience = 2 * time.Second

// peer is one end of a connection that an attack holds, as a client or as a server.
type peer struct {
	c net.Conn
	// Of the sender: its next stream, HPACK state, and what is not yet sent.
	stream  uint32
	encoder *hpack.Encoder
	block   bytes.Buffer
	n       int // steps so far, for attacks whose steps differ
	// done is closed by the reader when nothing more comes.
	done chan struct{}

	mu     sync.Mutex
	out    []byte
	frames int // sent
	bytes  int
	broken error
	// quiet leaves SETTINGS and PING unanswered.
	quiet bool
	// Of the reader.
	told     string // "GOAWAY CODE" where there was one that is not NO_ERROR, or what the reader met
	resets   map[http2.ErrCode]int
	statuses map[string]int
	got      map[string]int // frames by sort
	debug    string
}

func newPeer(c net.Conn) *peer {
	p := &peer{c: c, stream: 1, done: make(chan struct{}), resets: map[http2.ErrCode]int{}, statuses: map[string]int{}, got: map[string]int{}}
	p.encoder = hpack.NewEncoder(&p.block)
	return p
}

// add queues one frame.
func (p *peer) add(kind http2.FrameType, flags byte, id uint32, payload []byte) {
	p.mu.Lock()
	p.out = frame(p.out, kind, flags, id, payload)
	p.frames++
	p.mu.Unlock()
}

// raw queues bytes that are no frame, or a part of one.
func (p *peer) raw(b string) {
	p.mu.Lock()
	p.out = append(p.out, b...)
	p.mu.Unlock()
}

// flush sends what is queued.
func (p *peer) flush() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil || len(p.out) == 0 {
		return p.broken
	}
	_ = p.c.SetWriteDeadline(time.Now().Add(patience))
	n, err := p.c.Write(p.out)
	p.bytes += n
	p.out = p.out[:0]
	p.broken = err
	return err
}

// fields encodes names and values in turn with the connection's own table.
func (p *peer) fields(pairs ...string) []byte {
	p.block.Reset()
	for i := 0; i < len(pairs); i += 2 {
		_ = p.encoder.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}) // into memory
	}
	return bytes.Clone(p.block.Bytes())
}

// head encodes a request for a path of the service.
func (p *peer) head(method, path string, more ...string) []byte {
	return p.fields(append([]string{":method", method, ":scheme", "http", ":authority", "app", ":path", path}, more...)...)
}

// open queues a request on a new stream and returns its id.
func (p *peer) open(method, path string, flags byte, more ...string) uint32 {
	id := p.stream
	p.stream += 2
	p.add(http2.FrameHeaders, flags|endHeaders, id, p.head(method, path, more...))
	return id
}

// request is a GET that is complete.
func (p *peer) request(path string) uint32 { return p.open("GET", path, endStream) }

// receive reads until the connection is over, answers what has to be answered and
// calls each, which may be nil, with every frame.
func (p *peer) receive(from io.Reader, each func(read)) {
	defer close(p.done)
	in, heads := reading{from: from}, hpack.NewDecoder(4096, nil)
	for {
		f, err := in.next()
		if err != nil {
			p.mu.Lock()
			if p.told == "" {
				p.told = ending(err)
			}
			p.mu.Unlock()
			return
		}
		p.note(f, heads)
		if each != nil {
			each(f)
		}
	}
}

// note counts a frame and answers it.
func (p *peer) note(f read, heads *hpack.Decoder) {
	p.mu.Lock()
	p.got[f.sort()]++
	answer := false
	switch {
	case f.kind == http2.FrameGoAway && len(f.payload) >= 8:
		if code := http2.ErrCode(binary.BigEndian.Uint32(f.payload[4:])); code != http2.ErrCodeNo {
			p.told, p.debug = "GOAWAY "+code.String(), string(f.payload[8:])
		}
	case f.kind == http2.FrameRSTStream && len(f.payload) == 4:
		p.resets[http2.ErrCode(binary.BigEndian.Uint32(f.payload))]++
	case f.kind == http2.FrameHeaders && f.has(endHeaders):
		if all, err := heads.DecodeFull(f.payload); err == nil && len(all) > 0 && all[0].Name == ":status" {
			p.statuses[all[0].Value]++
		}
	case p.quiet || f.has(ack):
	case f.kind == http2.FrameSettings:
		p.out, answer = frame(p.out, http2.FrameSettings, ack, 0, nil), true
	case f.kind == http2.FramePing:
		p.out, answer = frame(p.out, http2.FramePing, ack, 0, f.payload), true
	}
	p.mu.Unlock()
	if answer {
		_ = p.flush() // the sender meets it too
	}
}

// ending says how a connection ended that told nothing.
func ending(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "stuck"
	case errors.Is(err, net.ErrClosed):
		return "lives"
	}
	return err.Error()
}

// account is what became of an attack.
type account struct {
	conns, steps, frames, bytes int
	ends                        map[string]int // connections by how they ended
	resets                      map[http2.ErrCode]int
	statuses                    map[string]int
	debug                       string
}

func newAccount() *account {
	return &account{ends: map[string]int{}, resets: map[http2.ErrCode]int{}, statuses: map[string]int{}}
}

// add takes in a connection that is over.
func (a *account) add(p *peer, steps int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a.conns++
	a.steps, a.frames, a.bytes = a.steps+steps, a.frames+p.frames, a.bytes+p.bytes
	a.ends[p.told]++
	for code, n := range p.resets {
		a.resets[code] += n
	}
	for status, n := range p.statuses {
		a.statuses[status] += n
	}
	if p.debug != "" {
		a.debug = p.debug
	}
}

// merge adds what another has.
func (a *account) merge(b *account) {
	a.conns, a.steps, a.frames, a.bytes = a.conns+b.conns, a.steps+b.steps, a.frames+b.frames, a.bytes+b.bytes
	for end, n := range b.ends {
		a.ends[end] += n
	}
	for code, n := range b.resets {
		a.resets[code] += n
	}
	for status, n := range b.statuses {
		a.statuses[status] += n
	}
	if b.debug != "" {
		a.debug = b.debug
	}
}

func (a *account) String() string {
	parts := []string{fmt.Sprintf("%d connections, %d steps, %d frames, %d KiB; ended: %s", a.conns, a.steps, a.frames, a.bytes>>10, counts(a.ends))}
	if len(a.resets) > 0 {
		parts = append(parts, "resets: "+counts(a.resets))
	}
	if len(a.statuses) > 0 {
		parts = append(parts, "answers: "+counts(a.statuses))
	}
	if a.debug != "" {
		parts = append(parts, strconv.Quote(a.debug))
	}
	return strings.Join(parts, "; ")
}
