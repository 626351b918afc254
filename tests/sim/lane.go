package sim

import (
	"slices"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// What a scripted end sends: heads, bodies as the windows allow, and windows.

// give lets the other end send n bytes more; l nil: on the connection.
func (x *multiplexed) give(l *lane, n int) {
	do := func() {
		switch {
		case x.over || n == 0 || l != nil && (x.gone[l.id] || l.came):
			return
		case l != nil && l.held:
			l.owed += n
			return
		case x.mesh.keepsWindow():
			return
		}
		id := uint32(0)
		if l == nil {
			x.granted += int64(n)
		} else {
			l.granted += int64(n)
			id = l.id
		}
		x.framer.WriteWindowUpdate(id, uint32(n))
		x.flush()
	}
	if x.slowness > 0 {
		x.mesh.world.After(x.slowness, do)
	} else {
		do()
	}
}

// hold gives nothing back for a while.
func (l *lane) hold(d time.Duration) {
	l.held = true
	l.end.mesh.world.After(d, func() {
		n := l.owed
		l.held, l.owed = false, 0
		l.end.give(l, n)
	})
}

func (x *multiplexed) open(id uint32) *lane {
	l := &lane{end: x, id: id, window: x.initial, granted: x.ours}
	x.lanes = append(x.lanes, l)
	return l
}

// ask opens a lane.
func (x *multiplexed) ask(fields []hpack.HeaderField, end bool) *lane {
	l := x.open(x.next)
	x.next += 2
	l.sent, l.finish = end, end
	x.headers(l, fields, end)
	return l
}

func (x *multiplexed) headers(l *lane, fields []hpack.HeaderField, end bool) {
	x.block.Reset()
	for _, f := range fields {
		x.encoder.WriteField(f)
	}
	x.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: l.id, BlockFragment: x.block.Bytes(), EndStream: end, EndHeaders: true})
	x.flush()
}

// answer sends a head on a lane.
func (l *lane) answer(fields []hpack.HeaderField, end bool) {
	if l.end.gone[l.id] || l.end.over || l.sent {
		return
	}
	l.sent = end
	l.end.headers(l, fields, end)
	l.end.retire(l)
}

// write queues a piece of the body, and its end with its trailers.
func (l *lane) write(s string, end bool, trailers ...hpack.HeaderField) {
	if l.end.gone[l.id] || l.end.over || l.sent {
		return
	}
	l.queue += s
	l.finish, l.trailers = end, trailers
	l.end.pump()
}

// pump sends what windows allow, a frame of each lane in turn.
func (x *multiplexed) pump() {
	for moved := true; moved && !x.over; {
		moved = false
		for _, l := range slices.Clone(x.lanes) {
			moved = x.piece(l) || moved
		}
	}
	x.flush()
}

func (x *multiplexed) piece(l *lane) bool {
	n := int(min(int64(len(l.queue)), l.window, x.window, 1+int64(l.id)*977%9000))
	if l.sent || n <= 0 && (len(l.queue) > 0 || !l.finish) {
		return false
	}
	p := l.queue[:max(n, 0)]
	l.queue = l.queue[len(p):]
	l.window -= int64(n)
	x.window -= int64(n)
	l.sent = l.queue == "" && l.finish
	if n > 0 || len(l.trailers) == 0 {
		x.framer.WriteData(l.id, l.sent && len(l.trailers) == 0, []byte(p))
	}
	if l.sent && len(l.trailers) > 0 {
		x.headers(l, l.trailers, true)
	}
	x.retire(l)
	return true
}

// retire takes out a lane that has ended both ways.
func (x *multiplexed) retire(l *lane) {
	if l.sent && l.came && !x.gone[l.id] {
		x.lanes = slices.DeleteFunc(x.lanes, func(o *lane) bool { return o == l })
		x.side.room()
	}
}
