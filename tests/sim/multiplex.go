package sim

import (
	"bytes"
	"slices"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	network "github.com/larboard-proxy/larboard/sidecar/engine/sim"
)

// Scripted ends of HTTP/2 connections. Frames and header blocks are golang.org/x/net's; the
// windows and the order of things are kept and judged here, so that the product does not
// judge itself.

// multiplexed is one end.
type multiplexed struct {
	mesh   *mesh
	who    string
	peer   *network.Peer
	side   muxSide
	client bool

	rest    string // received and not taken yet
	greeted bool   // the preface has come (server)
	in, out bytes.Buffer
	framer  *http2.Framer
	block   bytes.Buffer
	encoder *hpack.Encoder

	lanes    []*lane         // in the order of their ids
	gone     map[uint32]bool // lanes that we have reset or passed over
	next     uint32          // id of the next lane (client)
	last     uint32          // highest id that was opened (server)
	window   int64           // what we may send
	granted  int64           // what the other end may send
	initial  int64           // its streams' window, for what we send
	most     int             // lanes that it takes
	settled  bool            // its SETTINGS have come
	leaving  bool            // it has sent GOAWAY
	final    bool            // we have sent the last GOAWAY: lanes above last are passed over
	pings    int             // of a GOAWAY in two steps
	over     bool
	own      int64         // our streams' window,
	ours     int64         // and as long as the other end has not acknowledged it
	slowness time.Duration // until what was received is given back
}

// muxSide is what a client and a workload do differently.
type muxSide interface {
	opened(*lane, *head) // a request (server)
	head(*lane, *head)   // interim and final answers (client)
	data(*lane, string)
	ended(*lane)
	reset(*lane, http2.ErrCode)
	refused(*lane) // it was not looked at
	room()         // there may be room for another lane
	closed()
}

// lane is a stream.
type lane struct {
	end      *multiplexed
	id       uint32
	owner    any
	queue    string // to be sent
	window   int64
	granted  int64
	trailers []hpack.HeaderField // to be sent at the end
	finish   bool                // the end is to be sent behind the queue
	sent     bool                // it was
	began    bool                // the other end's final head has come
	came     bool                // its end has come
	got      map[string]string   // its trailers
	held     bool                // nothing is given back for now
	owed     int
}

// multiplex begins to speak on p.
func (m *mesh) multiplex(who string, p *network.Peer, client bool, side muxSide) *multiplexed {
	x := &multiplexed{mesh: m, who: who, peer: p, side: side, client: client, next: 1, window: 65535, granted: 65535,
		initial: 65535, ours: 65535, most: 100, gone: map[uint32]bool{}}
	x.framer = http2.NewFramer(&x.out, &x.in)
	x.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	x.encoder = hpack.NewEncoder(&x.block)
	r := m.random
	x.own = []int64{4000, 20_000, 65535, 1 << 20}[r.IntN(4)]
	if r.IntN(3) == 0 {
		x.slowness = time.Duration(r.IntN(5)) * time.Millisecond
	}
	if client {
		x.out.WriteString(http2.ClientPreface)
	}
	settings := []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: uint32(x.own)}}
	if r.IntN(4) == 0 {
		settings = append(settings, http2.Setting{ID: http2.SettingHeaderTableSize, Val: uint32(r.IntN(3) * 200)})
	}
	if !client && r.IntN(3) == 0 {
		settings = append(settings, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(2 + r.IntN(20))})
	}
	x.framer.WriteSettings(settings...)
	if r.IntN(2) == 0 {
		x.framer.WriteWindowUpdate(0, 1<<20)
		x.granted += 1 << 20
	}
	x.flush()
	return x
}

func (x *multiplexed) flush() {
	if x.out.Len() > 0 {
		x.peer.Send(x.out.String())
		x.out.Reset()
	}
}

// react takes what has come.
func (x *multiplexed) react() {
	if x.over {
		return
	}
	x.rest += x.peer.Take()
	if !x.client && !x.greeted && len(x.rest) >= len(http2.ClientPreface) {
		x.rest, x.greeted = x.rest[len(http2.ClientPreface):], true
	}
	for (x.client || x.greeted) && !x.over && len(x.rest) >= 9 {
		n := 9 + int(x.rest[0])<<16 + int(x.rest[1])<<8 + int(x.rest[2])
		if len(x.rest) < n {
			break
		}
		x.in.WriteString(x.rest[:n])
		x.rest = x.rest[n:]
		f, err := x.framer.ReadFrame()
		if err != nil {
			x.mesh.violate("%s got a frame that breaks the protocol: %v (%v)", x.who, err, x.framer.ErrorDetail())
			break
		}
		x.frame(f)
	}
	x.pump()
	if x.peer.Over() && !x.over {
		x.over = true
		x.side.closed()
		x.peer.Close()
	}
}

func (x *multiplexed) frame(f http2.Frame) {
	l := x.lane(f.Header().StreamID)
	switch f := f.(type) {
	case *http2.SettingsFrame:
		x.onSettings(f)
	case *http2.WindowUpdateFrame:
		switch {
		case x.mesh.losesUpdate():
		case f.StreamID == 0:
			x.window += int64(f.Increment)
		case l != nil:
			l.window += int64(f.Increment)
		}
	case *http2.PingFrame:
		x.onPing(f)
	case *http2.GoAwayFrame:
		x.onGoAway(f)
	case *http2.RSTStreamFrame:
		if l != nil {
			x.onReset(l, f.ErrCode)
		}
	case *http2.MetaHeadersFrame:
		x.onHead(l, f)
	case *http2.DataFrame:
		x.onData(l, f)
	}
}

func (x *multiplexed) lane(id uint32) *lane {
	for _, l := range x.lanes {
		if l.id == id {
			return l
		}
	}
	return nil
}

func (x *multiplexed) onSettings(f *http2.SettingsFrame) {
	if f.IsAck() {
		for _, l := range x.lanes {
			l.granted += x.own - x.ours
		}
		x.ours = x.own
		return
	}
	if !x.settled {
		x.settled, x.most = true, 1<<30
	}
	f.ForeachSetting(func(s http2.Setting) error {
		switch s.ID {
		case http2.SettingInitialWindowSize:
			for _, l := range x.lanes {
				l.window += int64(s.Val) - x.initial
			}
			x.initial = int64(s.Val)
		case http2.SettingMaxConcurrentStreams:
			x.most = int(s.Val)
		case http2.SettingHeaderTableSize:
			x.encoder.SetMaxDynamicTableSize(s.Val)
		}
		return nil
	})
	x.framer.WriteSettingsAck()
	x.flush()
	x.side.room()
}

func (x *multiplexed) onPing(f *http2.PingFrame) {
	if !f.IsAck() {
		x.framer.WritePing(true, f.Data)
		x.flush()
	} else if x.pings > 0 {
		x.pings--
		x.goAway()
	}
}

// goAway is the last GOAWAY.
func (x *multiplexed) goAway() {
	x.final = true
	x.framer.WriteGoAway(x.last, http2.ErrCodeNo, nil)
	x.flush()
}

// goAwaySoftly is the first of two steps (RFC 9113 section 6.8).
func (x *multiplexed) goAwaySoftly() {
	if x.final || x.pings > 0 {
		return
	}
	x.pings++
	x.framer.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil)
	x.framer.WritePing(false, [8]byte{1})
	x.flush()
}

func (x *multiplexed) onGoAway(f *http2.GoAwayFrame) {
	if f.ErrCode != http2.ErrCodeNo {
		x.mesh.violate("%s was told to go: %v %q", x.who, f.ErrCode, f.DebugData())
	}
	x.leaving = true
	last := x.mesh.forgets(x, f.LastStreamID)
	for _, l := range slices.Clone(x.lanes) {
		if x.client && l.id > last {
			x.drop(l)
			x.side.refused(l)
		}
	}
	x.side.room()
}

func (x *multiplexed) onReset(l *lane, code http2.ErrCode) {
	switch code {
	case http2.ErrCodeNo, http2.ErrCodeCancel, http2.ErrCodeInternal, http2.ErrCodeRefusedStream:
	default:
		if !x.deserves(l) {
			x.mesh.violate("%s: stream %d was reset for %v", x.who, l.id, code)
		}
	}
	x.drop(l)
	if code == http2.ErrCodeRefusedStream && x.client && !l.began {
		x.side.refused(l)
	} else {
		x.side.reset(l, code)
	}
}

// deserves reports whether we have broken the protocol on l, on purpose.
func (x *multiplexed) deserves(l *lane) bool {
	s, ok := l.owner.(*serving2)
	return ok && s.call.mishap == garbage
}

// drop forgets a lane.
func (x *multiplexed) drop(l *lane) {
	x.lanes = slices.DeleteFunc(x.lanes, func(o *lane) bool { return o == l })
	x.gone[l.id] = true
}

// reset ends a lane from our side.
func (x *multiplexed) reset(l *lane, code http2.ErrCode) {
	if x.gone[l.id] || x.over {
		return
	}
	x.framer.WriteRSTStream(l.id, code)
	x.flush()
	x.drop(l)
}

func (x *multiplexed) onHead(l *lane, f *http2.MetaHeadersFrame) {
	h := headOf(f)
	switch {
	case l == nil && !x.client && f.StreamID > x.last:
		if x.final {
			x.gone[f.StreamID] = true
			return
		}
		x.last = f.StreamID
		l = x.open(f.StreamID)
		l.began, l.came = true, f.StreamEnded()
		x.side.opened(l, h)
		if l.came {
			x.side.ended(l)
		}
	case l == nil:
		if !x.gone[f.StreamID] {
			x.mesh.violate("%s: HEADERS of stream %d, which has ended or never was", x.who, f.StreamID)
		}
		return
	case l.began || !x.client:
		if l.came || !f.StreamEnded() {
			x.mesh.violate("%s: stream %d: trailers at the wrong time", x.who, l.id)
		}
		l.got, l.came = h.fields, true
		x.side.ended(l)
	default:
		if h.status() >= 200 {
			l.began, l.came = true, f.StreamEnded()
		}
		x.side.head(l, h)
		if l.came {
			x.side.ended(l)
		}
	}
	x.retire(l)
}

func headOf(f *http2.MetaHeadersFrame) *head {
	h := &head{fields: map[string]string{}}
	for _, field := range f.Fields {
		switch field.Name {
		case ":method":
			h.first = field.Value
		case ":path", ":status":
			h.second = field.Value
		default:
			if was := h.fields[field.Name]; was != "" {
				field.Value = was + "," + field.Value
			}
			h.fields[field.Name] = field.Value
		}
	}
	return h
}

func (x *multiplexed) onData(l *lane, f *http2.DataFrame) {
	n := int(f.Length)
	if x.granted -= int64(n); x.granted < 0 {
		x.mesh.violate("%s: %d bytes beyond the connection's window", x.who, -x.granted)
	}
	if l == nil || l.came {
		if !x.gone[f.StreamID] {
			x.mesh.violate("%s: DATA of stream %d, which has ended or never was", x.who, f.StreamID)
		}
		x.give(nil, n)
		return
	}
	if l.granted -= int64(n); l.granted < 0 {
		x.mesh.violate("%s: stream %d: %d bytes beyond its window", x.who, l.id, -l.granted)
	}
	x.give(nil, n)
	l.came = f.StreamEnded()
	if !l.came {
		x.give(l, n)
	}
	x.side.data(l, string(f.Data()))
	if l.came {
		x.side.ended(l)
	}
	x.retire(l)
}
