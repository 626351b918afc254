package sidecar

import (
	"errors"
	"io/fs"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/proxy"
)

// Application is a process that runs below the proxy.
type Application interface {
	// End asks it to end and returns at once; any number of times.
	End()
	// Ended is closed once it has.
	Ended() <-chan struct{}
}

const (
	// quietFor is how long a workload whose port refuses connections must have left our
	// outbound listeners alone to count as gone: servers commonly close their listener
	// first and end their work, with the calls that it takes, afterwards.
	quietFor = time.Second
	// askWorkload is how often its port is tried.
	askWorkload = 200 * time.Millisecond
	// askWithin bounds a try.
	askWithin = 100 * time.Millisecond
)

// departure finds out when the workload has gone, so that outbound is not taken from
// under it: an application below us has gone when its process has ended; any other when
// nothing is open and nothing has come for quietFor at the outbound listeners, and its
// port refuses connections. The first of these is looked at first, so that a workload
// that is at work is not bothered. It belongs to the goroutine that drains.
type departure struct {
	sidecar *Sidecar
	address string // of the workload; empty: it cannot be told when it goes, or has nothing to lose

	quiet  time.Time // since then
	total  uint64    // connections that had come by then
	asked  time.Time
	absent bool
}

// departing begins to watch.
func (s *Sidecar) departing() *departure {
	d := &departure{sidecar: s, quiet: time.Now(), total: s.outboundTotal()}
	if c := s.current(); c.Drain.Outbound == config.UntilWorkload && s.servesOutbound() {
		d.address = c.Beside()
	}
	return d
}

// servesOutbound reports whether there are outbound listeners, which are not there before the
// first configuration is in force.
func (s *Sidecar) servesOutbound() bool {
	return slices.ContainsFunc(s.proxy.Listeners(), func(l *proxy.Listener) bool { return !l.Config().Inbound })
}

// inboundShare is how much of the time of a drain inbound may take before the
// application is asked to end, or outbound is looked at.
func (d *departure) inboundShare(within time.Duration) time.Duration {
	if d.sidecar.options.Application != nil {
		return within * 2 / 3
	}
	return within
}

// end asks an application below us to end.
func (d *departure) end() {
	if a := d.sidecar.options.Application; a != nil && !d.sidecar.applicationEnded() {
		d.sidecar.log.Info("asking the application to end", "inbound", d.sidecar.proxy.Active(true))
		a.End()
	}
}

// watch notes whether outbound is quiet.
func (d *departure) watch() {
	if total := d.sidecar.outboundTotal(); total != d.total || d.sidecar.proxy.Active(false) > 0 {
		d.total, d.quiet = total, time.Now()
	}
}

// gone reports whether the workload has gone, or that nobody can tell. It may block for
// askWithin.
func (d *departure) gone() bool {
	if d.sidecar.options.Application != nil {
		return d.sidecar.applicationEnded()
	}
	if d.address == "" || d.absent {
		return true
	}
	d.watch()
	now := time.Now()
	if now.Sub(d.quiet) < quietFor || now.Sub(d.asked) < askWorkload {
		return false
	}
	d.asked = now
	d.absent = refuses(d.address)
	return d.absent
}

// say tells of a workload that has not gone by the deadline.
func (d *departure) say(deadline time.Time) {
	if time.Now().After(deadline) && !d.gone() {
		d.sidecar.log.Warn("the workload has not gone: outbound ends before it", "workload", d.address)
	}
}

// refuses reports whether nobody listens at address.
func refuses(address string) bool {
	network := "tcp"
	if path, unix := strings.CutPrefix(address, "unix://"); unix {
		network, address = "unix", path
	}
	conn, err := net.DialTimeout(network, address, askWithin)
	if err == nil {
		conn.Close()
		return false
	}
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}

// outboundTotal is how many connections the outbound listeners have taken.
func (s *Sidecar) outboundTotal() (n uint64) {
	for _, l := range s.proxy.Listeners() {
		if c := l.Config(); !c.Inbound {
			_, total := s.metrics.ListenerConns(c.Name)
			n += total
		}
	}
	return n
}

// applicationEnd is closed once an application below us has ended; nil where there is none.
func (s *Sidecar) applicationEnd() <-chan struct{} {
	if s.options.Application == nil {
		return nil
	}
	return s.options.Application.Ended()
}

func (s *Sidecar) applicationEnded() bool {
	select {
	case <-s.applicationEnd():
		return true
	default:
		return false
	}
}
