//go:build linux

package attack

import (
	"golang.org/x/net/http2"
)

// stalls are attacks that hold something and then do nothing, or next to it.
func stalls() []attack {
	stalled := []string{"http2_stalled"}
	ask := func(path string, n int) func(*peer) {
		return func(p *peer) {
			p.add(http2.FrameWindowUpdate, 0, 0, number(hugeWindow-65535))
			for range n {
				p.request(path)
			}
		}
	}
	huge := setting(http2.SettingInitialWindowSize, hugeWindow)
	none := setting(http2.SettingInitialWindowSize, 0)
	ping := func(p *peer) { p.add(http2.FramePing, 0, 0, make([]byte, 8)) }
	return []attack{
		{name: "stalled-windows", what: "100 large answers asked for, no window opened", conns: 8, settings: none, begin: ask("/big", 100),
			sends: map[string]int{}, reasons: stalled},
		{name: "stalled-socket", what: "100 large answers asked for under huge windows, nothing read", rate: 16, conns: 8, drain: -1,
			settings: huge, begin: ask("/big", 100), step: ping, sends: map[string]int{"PING": 1}, reasons: stalled},
		{name: "slow-reader", what: "100 large answers under huge windows, read at 4 KiB a second", conns: 8, drain: 4 << 10,
			settings: huge, begin: ask("/big", 100)},
		{name: "dripping-windows", what: "100 large answers, their windows opened by a byte in turn", rate: 160, conns: 8, settings: none,
			begin: ask("/big", 100),
			step: func(p *peer) {
				p.add(http2.FrameWindowUpdate, 0, uint32(p.n%100*2+1), number(1))
				p.n++
			},
			sends: map[string]int{"WINDOW_UPDATE of 1": 1}},
		{name: "stream-limit", what: "requests beyond the limit of streams, which are never over", rate: 2000, conns: 4,
			step: func(p *peer) { p.request("/wait") }, sends: map[string]int{"HEADERS": 1},
			reasons: []string{"http2_stream_limit"}, ends: []string{calm}},
		{name: "unread-uploads", what: "uploads that fill every window, and that the endpoint does not take", rate: 800, conns: 8,
			step: func(p *peer) {
				if p.n++; p.n > 60 {
					return
				}
				p.add(http2.FrameData, 0, p.open("POST", "/hold", 0), make([]byte, 1000))
			}},
		{name: "slow-preface", what: "the preface, a byte every 200 ms", rate: 160, conns: 32, bare: true,
			step: func(p *peer) {
				p.raw(preface[p.n%len(preface):][:1])
				p.n++
			},
			ends: []string{"closed", "reset", calm, protocol}},
		{name: "slow-head", what: "a head, a CONTINUATION of a byte every 200 ms", rate: 160, conns: 32, quiet: true,
			begin: func(p *peer) { p.add(http2.FrameHeaders, endStream, 1, p.head("GET", "/")) },
			step:  func(p *peer) { p.add(http2.FrameContinuation, 0, 1, []byte{0x82}) },
			sends: map[string]int{"CONTINUATION of 1": 1}, ends: []string{"closed", "reset", calm, protocol}},
		{name: "slow-frame", what: "a HEADERS frame of 16 KiB, a byte every 200 ms", rate: 160, conns: 32,
			begin: func(p *peer) {
				p.raw(string(frame(nil, http2.FrameHeaders, endStream|endHeaders, 1, make([]byte, 16<<10))[:headerSize]))
			},
			step: func(p *peer) { p.raw("\x10") }, ends: []string{"closed", "reset", calm, protocol}},
		{name: "slow-data", what: "100 uploads, a byte for one of them every 10 ms", rate: 800, conns: 8,
			begin: func(p *peer) {
				for range 100 {
					p.open("POST", "/", 0)
				}
			},
			step: func(p *peer) {
				p.add(http2.FrameData, 0, uint32(p.n%100*2+1), []byte("x"))
				p.n++
			},
			sends: map[string]int{"DATA": 1}},
		{name: "idle", what: "connections that say nothing after their SETTINGS", conns: 64, quiet: true, ends: []string{"closed", "reset", "GOAWAY SETTINGS_TIMEOUT"}},
	}
}
