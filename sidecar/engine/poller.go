package engine

import (
	"net/netip"
	"time"
)

// Ready is what an event says about a descriptor.
type Ready uint8

// The bits of Ready. HalfClosed, HungUp and Failed stay set on later events of the same
// descriptor, as with epoll.
const (
	Readable   Ready = 1 << iota // bytes or end of stream can be read, or a connection accepted
	Writable                     // bytes can be written
	HalfClosed                   // the peer ended its direction (RDHUP)
	HungUp                       // both directions have ended (HUP)
	Failed                       // the socket holds an error (ERR)
	Urgent                       // among the bytes is an urgent one (PRI), where a read stops short
)

// maxEvents is how many events a loop takes at once.
const maxEvents = 256

// Event is one report of a Poller: the token given to Add and what became ready.
type Event struct {
	Token uint64
	Ready Ready
}

// Poller is the network as one loop sees it: readiness, and the socket calls. Epoll is one,
// the simulated network another. Except for Wake, Listen and CloseSocket every method is called
// from the loop only. Descriptors are numbered by the whole network, small and dense: loops index tables with
// them, and a connection accepted by one loop's poller may be added to another's.
//
// Errors of the socket calls are syscall.Errno values: EAGAIN for "would block", EINPROGRESS
// for a connect under way, EMFILE and ENFILE when descriptors have run out.
type Poller interface {
	// Add registers fd, edge-triggered, for both directions until it is closed. What is
	// already ready counts as an edge.
	Add(fd int, token uint64) error
	// Wait fills events and returns their number. timeout 0 polls, negative waits until an
	// event or Wake. It may return 0 events early.
	Wait(events []Event, timeout time.Duration) (int, error)
	// Wake makes the current or next Wait return. Any goroutine.
	Wake()
	// Close frees the poller, not the sockets.
	Close() error

	Sockets
}

// Sockets are the calls on non-blocking stream sockets.
type Sockets interface {
	// Listen opens a listening socket that shares its address with those of other loops.
	// It returns the address with port 0 resolved. Any goroutine.
	Listen(addr netip.AddrPort) (fd int, bound netip.AddrPort, err error)
	// Accept returns a connection with delays (Nagle) off, and its peer's address.
	Accept(fd int) (conn int, peer netip.AddrPort, err error)
	// Connect opens a socket and starts to connect it; it returns EINPROGRESS together with
	// the descriptor when the outcome comes as an event, to be asked from SocketError.
	Connect(addr netip.AddrPort) (fd int, err error)
	// SocketError returns and clears the pending error, nil if there is none.
	SocketError(fd int) error
	// Read returns 0 and nil at the end of the stream.
	Read(fd int, p []byte) (int, error)
	Write(fd int, p []byte) (int, error)
	// WriteBuffers writes head and then body with one call where possible.
	WriteBuffers(fd int, head, body []byte) (int, error)
	// ShutdownWrite ends the outgoing direction.
	ShutdownWrite(fd int) error
	// CloseSocket closes the descriptor; with reset the peer gets a RST. Any goroutine.
	CloseSocket(fd int, reset bool) error
	LocalAddr(fd int) (netip.AddrPort, error)
}
