package engine

import (
	"net"
	"net/netip"
	"syscall"
	"time"
)

// Conn is a non-blocking stream socket of one loop, registered once, edge-triggered, for
// both directions; an accepted one not before it first has to wait (see watch). All methods are for its loop and the loop's tasks. Reading and writing
// are two directions that may belong to two tasks, one each.
//
// Size: 160 bytes (TestConnSize), and 8 in the loop's table; an idle connection holds
// nothing else here. Hence no closures, no net.Addr, no buffer and no timer of its own.
type Conn struct {
	node       // in the wheel, for the earlier of both deadlines; must be first
	loop       *Loop
	onReadable func() // of an idle connection; nil while busy
	user       any
	reader     *Task // parked in a read
	writer     *Task // parked in a write
	out        *outQueue
	watcher    *Task // cancelled when the peer resets
	watcherGen uint32
	flags      connFlags
	readBy     int64 // deadlines in the loop's nanoseconds; 0 for none
	writeBy    int64
	in, outB   uint64 // bytes moved
	fd         int32
	gen        uint32
	peer       [16]byte
	peerZone   uint32
	peerPort   uint16
}

type connFlags uint16

const (
	flagReadable connFlags = 1 << iota // a read may find something; unset: it would not
	flagWritable                       // a write may find room
	flagEnding                         // an event carried RDHUP, HUP, ERR or PRI: a short read proves nothing
	flagReset                          // the connection is dead in both directions by the peer's doing
	flagClosed                         // closed here
	flagQueued                         // in loop.idle
	flagShut                           // outgoing direction ended here
	flagEOF                            // a read returned the end of the stream
	flagExpired                        // OnReadable's function is called for the deadline
	flagDialling                       // connect is under way
	flagDrainOut                       // what is left of the out queue goes out by itself
	flagWatched                        // registered with the poller
	flagUntried                        // accepted, and nobody has looked yet what it holds
	flagUnix                           // a Unix socket, whose peers have no address
	flagNoted                          // in the engine's dialled
)

// adopt makes a connection of fd, not yet registered.
func (l *Loop) adopt(fd int, peer netip.AddrPort) *Conn {
	l.serial = (l.serial + 1) &^ listenerBit
	c := &Conn{loop: l, fd: int32(fd), gen: l.serial, peer: peer.Addr().As16(), peerPort: peer.Port()}
	c.peerZone = zoneID(peer.Addr().Zone())
	for fd >= len(l.table) {
		l.table = append(l.table, make([]*Conn, max(64, len(l.table)))...)
	}
	l.table[fd] = c
	l.counts.conns++
	l.load.open.Store(int64(l.counts.conns))
	return c
}

// watch registers the connection, if that has not been done. An accepted connection is
// tried first and registered when it has to wait: a request that came with the connection
// is read, answered and closed without the poller ever knowing. No edge is lost by that,
// for registering reports what is already so.
func (c *Conn) watch() error {
	if c.flags&(flagWatched|flagClosed) != 0 {
		return nil
	}
	c.flags |= flagWatched
	return c.loop.poller.Add(int(c.fd), uint64(uint32(c.fd))|uint64(c.gen)<<32)
}

// watchDelay is how long a connection that is not registered may go without being watched
// for a reset by the peer.
const watchDelay = 50 * time.Millisecond

// watchSoon registers the connection if it is still open after watchDelay.
func (l *Loop) watchSoon(c *Conn) {
	l.unwatched = append(l.unwatched, c)
	if len(l.unwatched) > 1 {
		return
	}
	if l.watchTimer == nil {
		l.watchTimer = l.NewTimer()
	}
	l.watchTimer.Arm(watchDelay, l.watchAll)
}

func (l *Loop) watchAll() {
	for i, c := range l.unwatched {
		if c.watcher != nil && c.watch() != nil {
			c.flags |= flagReset
			c.tellWatcher()
		}
		l.unwatched[i] = nil
	}
	l.unwatched = l.unwatched[:0]
}

// event takes what the poller reported: flags first, then whoever waits. Edges that arrive
// while the connection is busy stay in the flags.
func (c *Conn) event(r Ready) {
	if r&(HalfClosed|HungUp|Failed|Urgent) != 0 {
		c.flags |= flagEnding | flagReadable
	}
	if r&Readable != 0 {
		c.flags |= flagReadable
	}
	if r&(Writable|HungUp|Failed) != 0 {
		c.flags |= flagWritable
	}
	if r&Failed != 0 || r&HungUp != 0 && c.flags&(flagShut|flagDialling) == 0 {
		c.flags |= flagReset
		c.tellWatcher()
	}
	if c.flags&flagReadable != 0 {
		if c.reader != nil {
			c.reader.Wake()
		} else if c.onReadable != nil {
			c.queue()
		}
	}
	if c.flags&flagWritable != 0 {
		if c.writer != nil {
			c.writer.Wake()
		} else if c.flags&flagDrainOut != 0 {
			c.flushNow()
		}
	}
}

// Close ends both directions: tasks parked in them wake with ErrClosed, and a function set
// with OnReadable is dropped. What was not flushed is tried once. Closing again is nothing.
func (c *Conn) Close() error {
	if c.flags&flagClosed == 0 && c.out != nil {
		c.out.drained = nil
		c.flushNow()
	}
	return c.close(false)
}

// Abort is Close with a RST: the peer knows that what it got is not all.
func (c *Conn) Abort() error { return c.close(true) }

func (c *Conn) close(reset bool) error {
	if c.flags&flagClosed != 0 {
		return nil
	}
	l := c.loop
	c.flags |= flagClosed
	c.unlink()
	c.onReadable, c.watcher = nil, nil
	c.dropOut()
	if c.reader != nil {
		c.reader.Wake()
	}
	if c.writer != nil {
		c.writer.Wake()
	}
	if c.flags&flagNoted != 0 {
		l.engine.dialled.forget(c)
	}
	l.table[c.fd] = nil
	l.counts.conns--
	l.load.open.Store(int64(l.counts.conns))
	return l.poller.CloseSocket(int(c.fd), reset)
}

// Closed reports whether Close or Abort was called.
func (c *Conn) Closed() bool { return c.flags&flagClosed != 0 }

// Reset reports whether an event said that the peer (or the network) broke the connection.
func (c *Conn) Reset() bool { return c.flags&flagReset != 0 }

// Conn returns c: a plain connection is its own Transport.
func (c *Conn) Conn() *Conn { return c }

// Pending reports whether the socket is not known to be drained: a read may find bytes or
// the end of the stream without waiting. Of an accepted connection that has never waited it
// says so before the first read, and does not see what comes after it (see watch).
func (c *Conn) Pending() bool { return c.flags&(flagReadable|flagUntried) != 0 }

// Loop returns the loop that owns the connection. Any goroutine.
func (c *Conn) Loop() *Loop { return c.loop }

// SetUser stores the owner's record; User returns it.
func (c *Conn) SetUser(v any) { c.user = v }

// User returns what SetUser stored, nil by default.
func (c *Conn) User() any { return c.user }

// BytesIn counts what was read from the socket.
func (c *Conn) BytesIn() uint64 { return c.in }

// BytesOut counts what was written to the socket.
func (c *Conn) BytesOut() uint64 { return c.outB }

// Remote is the peer's address, also after Close. That of a Unix socket's peer is not valid.
func (c *Conn) Remote() netip.AddrPort {
	if c.flags&flagUnix != 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(withZone(netip.AddrFrom16(c.peer).Unmap(), c.peerZone), c.peerPort)
}

// Unix reports whether the connection runs over a Unix socket.
func (c *Conn) Unix() bool { return c.flags&flagUnix != 0 }

// RemoteName is the peer's address for logs: "unix" where it has none.
func (c *Conn) RemoteName() string {
	if c.Unix() {
		return "unix"
	}
	return c.Remote().String()
}

// Local is the socket's own address, asked from the kernel; zero after Close.
func (c *Conn) Local() netip.AddrPort {
	if c.flags&flagClosed != 0 {
		return netip.AddrPort{}
	}
	a, err := c.loop.poller.LocalAddr(int(c.fd))
	if err != nil {
		return netip.AddrPort{}
	}
	return a
}

// RemoteAddr is Remote for interfaces that want a net.Addr; it allocates.
func (c *Conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.Remote()) }

// LocalAddr is Local for interfaces that want a net.Addr; it allocates.
func (c *Conn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.Local()) }

// WatchAbort makes a reset by the peer (not its half-close) cancel t with ErrPeerReset; at
// once if it has already been seen. nil ends that. A task that has ended is not cancelled.
func (c *Conn) WatchAbort(t *Task) {
	c.watcher = t
	if t == nil {
		return
	}
	c.watcherGen = t.gen
	if c.flags&flagReset != 0 {
		c.tellWatcher()
	} else if c.flags&(flagWatched|flagClosed) == 0 {
		c.loop.watchSoon(c)
	}
}

func (c *Conn) tellWatcher() {
	TaskRef{c.watcher, c.watcherGen}.Cancel(ErrPeerReset)
}

// retry reports whether a system call is to be made again.
func retry(err error) bool { return err == syscall.EINTR }

// blocked reports whether a system call would have to wait.
func blocked(err error) bool { return err == syscall.EAGAIN }
