package demo

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// screen shows the table of instances and tells the story. On a terminal the table
// stands below the story and is redrawn in place; elsewhere it follows each step.
type screen struct {
	out      io.Writer
	terminal bool

	mu    sync.Mutex
	d     *demo
	drawn int // lines of the table on the terminal
	ended chan struct{}
	done  sync.WaitGroup
	last  time.Time
}

const redraw = 500 * time.Millisecond

func newScreen(o Options) *screen {
	return &screen{out: o.Out, terminal: o.Terminal, ended: make(chan struct{}), last: time.Now()}
}

func (s *screen) start(d *demo) {
	s.d = d
	if !s.terminal {
		return
	}
	s.done.Go(func() {
		tick := time.NewTicker(redraw)
		defer tick.Stop()
		for {
			select {
			case <-s.ended:
				return
			case <-tick.C:
				s.mu.Lock()
				s.draw()
				s.mu.Unlock()
			}
		}
	})
}

func (s *screen) stop() {
	close(s.ended)
	s.done.Wait()
}

// say prints a line of the story above the table.
func (s *screen) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	fmt.Fprintf(s.out, format+"\n", args...)
	if s.terminal {
		s.draw()
	}
}

// told prints what a step did and what the clients saw.
func (s *screen) told(n int, title, seen string, ok bool, took time.Duration) {
	mark := "ok"
	if !ok {
		mark = "FAILED"
	}
	if s.terminal {
		color := "\x1b[32m"
		if !ok {
			color = "\x1b[31m"
		}
		mark = color + mark + "\x1b[0m"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	fmt.Fprintf(s.out, "%d. %s  [%s, %s]\n   %s\n", n, title, mark, took.Round(time.Millisecond), seen)
	if !s.terminal {
		fmt.Fprintln(s.out)
	}
	s.draw()
	if !s.terminal {
		fmt.Fprintln(s.out)
	}
}

// erase takes the table off a terminal.
func (s *screen) erase() {
	if s.drawn > 0 {
		fmt.Fprintf(s.out, "\x1b[%dA\x1b[J", s.drawn)
		s.drawn = 0
	}
}

func (s *screen) draw() {
	s.erase()
	table := s.table()
	io.WriteString(s.out, table)
	if s.terminal {
		s.drawn = strings.Count(table, "\n")
	}
}

// table is one line for each instance: what its sidecar has carried since the last
// table.
func (s *screen) table() string {
	now := time.Now()
	passed := now.Sub(s.last).Seconds()
	s.last = now
	var b strings.Builder
	c := s.d.load.read()
	indent := "   "
	if s.terminal {
		indent = ""
		fmt.Fprintf(&b, "\nrequests %d   failed %d\n", c.requests, c.failed)
	}
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, indent+"INSTANCE\tSTATE\tREQ/S\tSUCCESS\tP50\tP99\tIDENTITY")
	for _, n := range inOrder(s.d.mesh.all()) {
		fmt.Fprintln(w, indent+s.row(n, passed))
	}
	w.Flush()
	return b.String()
}

// inOrder sorts callers before those they call.
func inOrder(nodes []*node) []*node {
	rank := map[string]int{"web": 0, "api": 1, "stock": 2}
	slices.SortStableFunc(nodes, func(a, b *node) int {
		return cmp.Or(cmp.Compare(rank[a.service], rank[b.service]), cmp.Compare(a.name, b.name))
	})
	return nodes
}

func (s *screen) row(n *node, seconds float64) string {
	if n.killed {
		return n.name + "\tkilled\t-\t-\t-\t-\t-"
	}
	t := n.since()
	success := "-"
	if t.Requests > 0 {
		success = fmt.Sprintf("%.1f%%", 100*float64(t.Requests-t.Failures)/float64(t.Requests))
	}
	id := n.identity()
	return fmt.Sprintf("%s\t%s\t%.0f\t%s\t%s\t%s\t%s", n.name, s.state(n), float64(t.Requests)/seconds, success,
		milliseconds(t.P50), milliseconds(t.P99), strings.TrimPrefix(id.SPIFFEID, "spiffe://"))
}

// state is how the callers of n see it.
func (s *screen) state(n *node) string {
	if n.workload == nil {
		return "calling"
	}
	address := n.listener("inbound")
	for _, caller := range s.d.mesh.all() {
		if caller.killed {
			continue
		}
		for _, e := range caller.sidecar.Endpoints() {
			if e.Service == n.service && e.Address == address {
				return e.State
			}
		}
	}
	return "unknown"
}

func milliseconds(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1fms", float64(d)/float64(time.Millisecond))
}
