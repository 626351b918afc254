//go:build linux

package attack

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// attack is what hostile clients do. Each of conns connections takes its share of rate
// steps a second; one that the victim ends is replaced, at most replace times a second
// for all of them.
type attack struct {
	name string
	// what a step is, for the table.
	what string
	// rate is steps per second over all connections. The pace keeps the attacker from
	// being what is measured on a machine that it shares with its victim.
	rate, conns int
	// settings are the payload of the client's SETTINGS.
	settings []byte
	// begin follows the preface; step is repeated. Both queue frames.
	begin, step func(p *peer)
	// bare leaves out preface and SETTINGS: begin and step write all there is.
	bare bool
	// drain reads at this many bytes a second: 0 is all that comes, negative none.
	drain int
	// quiet does not acknowledge SETTINGS and PING.
	quiet bool
	// sends is what a recorder counts for each step at the least, by sort of frame.
	sends map[string]int

	// reasons of which one must be counted; none where the peer keeps to the rules.
	reasons []string
	// ends of which at least one connection must have met one; none where the
	// connection may live on.
	ends []string
}

// replace bounds how many connections a second an attack opens.
const replace = 50

// tick is the time between two batches of frames.
const tick = 5 * time.Millisecond

// run attacks until ctx is done, and returns the account of it.
func (a *attack) run(ctx context.Context, address string) *account {
	all, mu := newAccount(), sync.Mutex{}
	var slots sync.WaitGroup
	for i := range a.conns {
		slots.Go(func() {
			pause := time.NewTimer(time.Duration(i) * time.Second / replace)
			defer pause.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-pause.C:
				}
				began := time.Now()
				one, err := a.connection(ctx, address)
				if err != nil && ctx.Err() == nil {
					one.ends["dial: "+err.Error()]++
				}
				mu.Lock()
				all.merge(one)
				mu.Unlock()
				pause.Reset(max(0, time.Duration(a.conns)*time.Second/replace-time.Since(began)))
			}
		})
	}
	slots.Wait()
	return all
}

// connection is one connection of the attack from beginning to end.
func (a *attack) connection(ctx context.Context, address string) (*account, error) {
	one := newAccount()
	c, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", address)
	if err != nil {
		return one, err
	}
	defer c.Close()
	if a.drain != 0 {
		// What the kernel takes counts as read. With less than this it drops what comes,
		// acknowledgements included, and the attack no longer gets through itself.
		_ = c.(*net.TCPConn).SetReadBuffer(64 << 10)
	}
	p := newPeer(c)
	p.quiet = a.quiet
	if !a.bare {
		p.raw(preface)
		p.add(http2.FrameSettings, 0, 0, a.settings)
	}
	if a.begin != nil {
		a.begin(p)
	}
	switch { // after the preface, which answers must not come before
	case a.drain < 0:
		// Nobody reads; the end shows itself at a write.
	case a.drain > 0:
		go p.receive(&slowly{c: c, rate: a.drain, done: ctx.Done()}, nil)
	default:
		go p.receive(c, nil)
	}
	steps, err := a.steps(ctx, p)
	a.finish(p, err)
	one.add(p, steps)
	return one, nil
}

// steps sends at the connection's share of the rate until the victim has had enough.
func (a *attack) steps(ctx context.Context, p *peer) (n int, err error) {
	began := time.Now()
	beat := time.NewTicker(tick)
	defer beat.Stop()
	for {
		if err := p.flush(); err != nil {
			return n, err
		}
		select {
		case <-ctx.Done():
			return n, nil
		case <-p.done:
			return n, nil
		case <-beat.C:
		}
		due := int(time.Since(began).Seconds() * float64(a.rate) / float64(a.conns))
		for ; n < due && a.step != nil; n++ {
			a.step(p)
		}
	}
}

// finish finds out how a connection ended whose writes failed, and closes one that the
// victim lets live.
func (a *attack) finish(p *peer, err error) {
	if err != nil && a.drain >= 0 {
		select { // a GOAWAY may have come before the reset
		case <-p.done:
		case <-time.After(patience):
		}
	}
	p.c.Close()
	if a.drain >= 0 {
		<-p.done
	}
	if p.told == "" {
		p.told = "lives"
		if err != nil {
			p.told = ending(err)
		}
	}
}

// slowly reads a few bytes at a time.
type slowly struct {
	c    net.Conn
	rate int
	done <-chan struct{}
}

func (s *slowly) Read(b []byte) (int, error) {
	select {
	case <-s.done:
		return 0, net.ErrClosed
	case <-time.After(100 * time.Millisecond):
	}
	return s.c.Read(b[:min(len(b), max(1, s.rate/10))])
}

var _ io.Reader = (*slowly)(nil)

// counts writes a map in the order of its numbers.
func counts[K cmp.Ordered](m map[K]int) string {
	keys := slices.SortedFunc(maps.Keys(m), func(a, b K) int { return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b)) })
	var parts []string
	for _, k := range keys {
		parts = append(parts, fmt.Sprintf("%d %v", m[k], k))
	}
	return strings.Join(parts, ", ")
}
