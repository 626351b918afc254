package engine

import (
	"bytes"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// plainSockets cannot splice; brokenSplice refuses one way or the other with EINVAL.
type plainSockets struct{ Poller }

type brokenSplice struct {
	*epoll
	in, out bool // refused
	pipes   map[int]bool
}

func (b *brokenSplice) OpenPipe(size int) (int, int, error) {
	r, w, err := b.epoll.OpenPipe(size)
	b.pipes[r], b.pipes[w] = true, true
	return r, w, err
}

func (b *brokenSplice) Splice(from, to, n int) (int, error) {
	if b.in && b.pipes[to] || b.out && b.pipes[from] {
		return 0, syscall.EINVAL
	}
	return b.epoll.Splice(from, to, n)
}

// Where splicing is refused, before or behind the pipe, copying takes over and no byte is
// lost.
func TestSpliceFallsBackToCopying(t *testing.T) {
	pollers := map[string]func(*epoll) Poller{
		"no splice":           func(p *epoll) Poller { return plainSockets{p} },
		"source refuses":      func(p *epoll) Poller { return &brokenSplice{p, true, false, map[int]bool{}} },
		"destination refuses": func(p *epoll) Poller { return &brokenSplice{p, false, true, map[int]bool{}} },
	}
	for name, wrap := range pollers {
		t.Run(name, func(t *testing.T) {
			e := running(t, Options{Loops: 1, Poller: func(int) (Poller, error) {
				p, err := newPoller()
				return wrap(p.(*epoll)), err
			}})
			want := stream(7, 1<<20)
			source := listenTCP(t, func(c *net.TCPConn) { c.Write(want) })
			got := make(chan []byte, 1)
			sink := listenTCP(t, func(c *net.TCPConn) { all, _ := io.ReadAll(c); got <- all })
			on(t, e.Loops()[0], func(task *Task) {
				l := task.Loop()
				src, _ := l.Dial(source.AddrPort(), time.Second)
				dst, err := l.Dial(sink.AddrPort(), time.Second)
				if err != nil {
					t.Error(err)
					return
				}
				defer src.Close()
				defer dst.Close()
				err = spliceAll(dst, src)
				if err == ErrNoSplice {
					err = copyAll(dst, src)
				} else {
					t.Errorf("spliced: %v", err)
				}
				if err != nil {
					t.Error(err)
				}
			})
			if all := <-got; !bytes.Equal(all, want) {
				t.Errorf("%d bytes of %d", len(all), len(want))
			}
		})
	}
}
