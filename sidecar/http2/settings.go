package http2

import (
	"encoding/binary"

	"github.com/larboard-proxy/larboard/policy"
)

// SETTINGS and PING (RFC 9113 sections 6.5 and 6.7).

// settingsState is how far the exchange of settings has come.
type settingsState struct {
	received bool // the peer's first
	acked    bool // ours
	connect  bool // the peer takes extended CONNECT (RFC 8441)
}

// greet appends our SETTINGS, and the window of the connection where it is not the default.
func (c *conn) greet() {
	o := c.o
	c.reserve(len(preface) + frameHeader + 6*settingSize + windowFrame)
	if c.client {
		c.out = append(c.out, preface...)
	}
	start := len(c.out)
	c.out = appendFrame(c.out, 0, frameSettings, 0, 0)
	if c.client {
		c.out = appendSetting(c.out, settingPush, 0)
	} else {
		c.out = appendSetting(c.out, settingMaxStreams, o.MaxStreams)
		c.out = appendSetting(c.out, settingConnect, 1)
	}
	c.out = appendSetting(c.out, settingWindow, o.StreamWindow)
	c.out = appendSetting(c.out, settingHeaderList, uint32(o.Head))
	c.out[start+2] = byte(len(c.out) - start - frameHeader)
	if extra := c.recvWindow - defaultWindow; extra > 0 {
		c.out = appendWindow(c.out, 0, uint32(extra))
	}
	c.times.settings = c.now() + int64(settingsWithin)
	c.arm(c.times.settings)
}

func (c *conn) onSettings(f *frame) {
	switch {
	case f.stream != 0:
		c.broken("SETTINGS of a stream")
		return
	case f.has(flagAck) && len(f.payload) != 0, len(f.payload)%settingSize != 0:
		c.fatal(codeFrameSize, c.reason(policy.HTTP2Protocol, policy.UpstreamProtocol), "SETTINGS of a wrong size")
		return
	}
	if c.control(1 + len(f.payload)/settingSize/settingsEach); c.end.dead {
		return
	}
	if f.has(flagAck) {
		c.settings.acked = true
		c.times.settings = 0
		return
	}
	if c.apply(f.payload); c.end.dead {
		return
	}
	c.reserve(frameHeader)
	c.out = appendFrame(c.out, 0, frameSettings, flagAck, 0)
	c.settings.received = true
	if c.phase == wantSettings {
		c.phase = wantFrames
		c.times.head = 0
	}
	if c.client {
		c.greeted()
	}
}

// apply takes the peer's settings. Of several values for the window only the last one reaches
// the streams: the ones before it were never to be seen.
func (c *conn) apply(p []byte) {
	window := c.peerWindow
	if !c.settings.received {
		c.peerMost = maxWindow // no limit, unless one is named
	}
	for ; len(p) > 0 && !c.end.dead; p = p[settingSize:] {
		id, v := settingID(binary.BigEndian.Uint16(p)), binary.BigEndian.Uint32(p[2:])
		switch id {
		case settingTableSize:
			c.encoder.SetLimit(v)
		case settingPush:
			if v > 1 || c.client && v != 0 {
				c.broken("an impossible SETTINGS_ENABLE_PUSH")
			}
		case settingMaxStreams:
			c.peerMost = v
		case settingWindow:
			if v > maxWindow {
				c.fatal(codeFlowControl, c.reason(policy.HTTP2FlowControl, policy.UpstreamProtocol), "an impossible SETTINGS_INITIAL_WINDOW_SIZE")
			}
			window = int64(v)
		case settingMaxFrame:
			if v < maxFrame || v > 1<<24-1 {
				c.broken("an impossible SETTINGS_MAX_FRAME_SIZE")
			}
		case settingConnect:
			if v > 1 || v == 0 && c.settings.connect {
				c.broken("an impossible SETTINGS_ENABLE_CONNECT_PROTOCOL")
			}
			c.settings.connect = v == 1
		}
	}
	if window != c.peerWindow && !c.end.dead {
		c.shiftWindows(window)
	}
}

// shiftWindows makes the initial window that of all streams (section 6.9.2); a stream's may
// become negative.
func (c *conn) shiftWindows(window int64) {
	delta := window - c.peerWindow
	c.peerWindow = window
	for _, s := range c.streams.slots {
		if s == nil || s.is(streamOver) {
			continue
		}
		if s.window+delta > maxWindow {
			c.fatal(codeFlowControl, c.reason(policy.HTTP2FlowControl, policy.UpstreamProtocol), "SETTINGS open a window too far")
			return
		}
		s.openWindow(delta)
	}
}

// greeted lets a client use what the endpoint's settings allow.
func (c *conn) greeted() {
	c.news = true
	for c.forSettings.first != nil {
		c.forSettings.wake()
	}
	c.hook()
}

// Payloads of our PINGs.
const pingAlive, pingDrain = "alive...", "drain..."

func (c *conn) onPing(f *frame) {
	switch {
	case f.stream != 0:
		c.broken("PING of a stream")
		return
	case len(f.payload) != 8:
		c.fatal(codeFrameSize, c.reason(policy.HTTP2Protocol, policy.UpstreamProtocol), "PING of a wrong size")
		return
	}
	if c.control(1); c.end.dead {
		return
	}
	if !f.has(flagAck) {
		c.reserve(frameHeader + 8)
		c.out = append(appendFrame(c.out, 8, framePing, flagAck, 0), f.payload...)
		return
	}
	switch string(f.payload) {
	case pingAlive:
		c.times.pong = 0
	case pingDrain:
		c.drainAnswered()
	}
}

// ping asks the peer for a sign of life.
func (c *conn) ping(data string) {
	c.reserve(frameHeader + 8)
	c.out = append(appendFrame(c.out, 8, framePing, 0, 0), data...)
}
