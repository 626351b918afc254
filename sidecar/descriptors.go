package sidecar

import (
	"fmt"

	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/probes"
)

// Each connection of a client takes two descriptors, its own and that to an endpoint.
// The rest of the process takes a reserve, which is counted generously: what is short
// at run time shows as accepting that pauses, and nobody plans for that.
const (
	perConnection = 2

	perLoop      = 2    // its epoll instance, and what wakes it
	perSource    = 2    // a watch of a service's endpoints, and its successor
	perCheck     = 4    // health checks of one service under way at once
	adminReserve = 32   // its sockets and clients
	otherReserve = 32   // logs, files while they are read, identity sources, the runtime
	perPipe      = 2    // of bulk transfers
	mostPipes    = 1024 // of each loop

	leastTurnedAway = 16 // clients of each loop that are told of a limit
	mostTurnedAway  = 1024
)

// Descriptors is the budget of file descriptors that a configuration comes to.
type Descriptors struct {
	// Limit is how many the process may have; 0: unknown.
	Limit uint64
	// Reserve is what the process needs beside its clients' connections.
	Reserve uint64
	// Pipes is how many of the reserve's pipes each loop may have; 0: as many as it likes.
	Pipes int
	// TurnedAway is how many clients each loop may be telling of a limit; 0: the
	// proxy's default.
	TurnedAway int
	// Connections is how many of those there may be: as configured, or as many as the
	// rest suffices for. 0: no limit.
	Connections int64
}

// descriptorReserve adds up what c needs on so many loops beside connections.
func descriptorReserve(c *config.Config, loops int, limit uint64) uint64 {
	n := adminReserve + otherReserve + probesReserve(c) + loops*(perLoop+turnedAway(loops, limit))
	for i := range c.Listeners {
		n += len(c.Listeners[i].Address) * loops
	}
	if o := c.Capture.Outbound; o != nil {
		n += len(o.Address) * loops
	}
	if i := c.Capture.Inbound; i != nil {
		n += len(i.Address) * loops
	}
	for i := range c.Services {
		s := &c.Services[i]
		if s.Discovery != nil {
			n += perSource
		}
		if s.Health != nil {
			n += max(perCheck, len(s.Endpoints))
		}
	}
	return uint64(n + loops*pipes(loops, limit)*perPipe)
}

// probesReserve is for those who probe and the checks that they cause.
func probesReserve(c *config.Config) int {
	if c.Probes == nil {
		return 0
	}
	return 1 + 2*probes.Connections
}

// pipes gives the pipes of a loop their share, of a 64th in all.
func pipes(loops int, limit uint64) int {
	if limit == 0 {
		return 0
	}
	return int(max(1, min(mostPipes, limit/64/perPipe/uint64(loops))))
}

// turnedAway gives the clients of a loop that are told of a limit another 64th.
func turnedAway(loops int, limit uint64) int {
	if limit == 0 {
		return 0
	}
	return int(max(leastTurnedAway, min(mostTurnedAway, limit/64/uint64(loops))))
}

// Budget works out what c, as it was loaded, comes to on so many loops where limit
// descriptors are allowed; 0: unknown, and nothing is refused. Its error is a
// config.Problems with the numbers and what to change.
func Budget(loaded *config.Config, loops int, limit uint64) (Descriptors, error) {
	c := config.Expand(loaded)
	b := Descriptors{Limit: limit, Reserve: descriptorReserve(c, loops, limit), Pipes: pipes(loops, limit),
		TurnedAway: turnedAway(loops, limit), Connections: int64(c.Limits.Connections)}
	if limit == 0 {
		return b, nil
	}
	room := int64(0)
	if limit > b.Reserve {
		room = int64(min((limit-b.Reserve)/perConnection, config.MaxConnections))
	}
	if b.Connections == 0 && room > 0 {
		b.Connections = room
		return b, nil
	}
	if b.Connections > 0 && b.Connections <= room {
		return b, nil
	}
	return b, config.Problems{loaded.ProblemAt("limits.connections", b.shortage(room))}
}

const raiseIt = "raise it (ulimit -n, LimitNOFILE= of systemd, --ulimit nofile= of a container)"

func (b Descriptors) shortage(room int64) string {
	has := fmt.Sprintf("and this process may have %d", b.Limit)
	if room == 0 {
		return fmt.Sprintf("no connection is possible: the rest of the proxy needs %d file descriptors, %s; %s", b.Reserve, has, raiseIt)
	}
	return fmt.Sprintf("%d connections need %d file descriptors (%d for each, %d for the rest of the proxy), %s; %s, or allow %d connections at most",
		b.Connections, uint64(b.Connections)*perConnection+b.Reserve, perConnection, b.Reserve, has, raiseIt, room)
}
