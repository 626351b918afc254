package http2

import (
	"bytes"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// TestLoans: views of the input that readers hold stay what they were, however much comes
// behind them; no more buffers are lent than may be; and all come back.
func TestLoans(t *testing.T) {
	for _, tc := range []struct {
		name     string
		size     int // of each DATA frame
		together bool
		atLeast  int // buffers lent while all views are held
		atMost   int
	}{
		{"small frames are copied", lentFrom - 1, false, 0, 0},
		{"large ones are lent", lentFrom, false, 2, loansAtMost},
		{"the largest", maxFrame, false, loansAtMost, loansAtMost},
		{"as many as the socket takes, cut between frames", 8<<10 - frameHeader, true, 2, loansAtMost},
		{"as many as the socket takes, cut anywhere", maxFrame, true, loansAtMost, loansAtMost},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const streams = 60
			var holders []*engine.Task
			held, kept := 0, 0
			network := sim.Options{SendBuffer: 256 << 10, ReceiveBuffer: 256 << 10} // several reads in a turn
			x := newRawServed(t, testOptions(), network, func(task *engine.Task, s *Stream) {
				var h message.Head
				s.ReadHead(&h)
				p, _, _ := s.ReadBody()
				held += len(p)
				holders = append(holders, task)
				task.Park("test")
				if bytes.Equal(p, pattern(tc.size, int(s.ID()))) {
					kept++
				}
				if rest, err := readAll(s); err != nil || !bytes.Equal(rest, pattern(tc.size, 1)) {
					t.Errorf("stream %d: %d bytes more, %v", s.ID(), len(rest), err)
				}
				reply(s, 200, nil)
			})
			x.out.WriteString(preface)
			x.WriteSettings()
			for id := uint32(1); id < 2*streams; id += 2 {
				x.post(id, "/")
			}
			x.send(time.Millisecond)
			for id := uint32(1); id < 2*streams; id += 2 {
				x.WriteData(id, false, pattern(tc.size, int(id)))
				if !tc.together {
					x.send(time.Millisecond)
				}
			}
			x.send(time.Millisecond)
			for id := uint32(1); id < 2*streams; id += 2 {
				x.WriteData(id, true, pattern(tc.size, 1))
				x.send(time.Millisecond)
			}
			if n := x.server.loans; n < tc.atLeast || n > tc.atMost || held != streams*tc.size {
				t.Errorf("%d buffers lent, want %d to %d; %d bytes held", n, tc.atLeast, tc.atMost, held)
			}
			x.on(func() {
				for _, task := range holders {
					task.Wake()
				}
			})
			x.frames(time.Millisecond)
			if kept != streams || x.server.loans != 0 || x.server.loan != nil || x.server.Streams() != 0 {
				t.Errorf("%d views were kept, %d buffers and %d streams are left", kept, x.server.loans, x.server.Streams())
			}
		})
	}
}
