package engine

import (
	"bytes"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func TestEchoOnTwoLoops(t *testing.T) {
	e := running(t, Options{})
	ln := serve(t, e, echo)
	var clients sync.WaitGroup
	for range 16 {
		c := dialTCP(t, ln)
		clients.Go(func() {
			out := make([]byte, 200<<10)
			for i := range out {
				out[i] = byte(rand.Uint32())
			}
			go c.Write(out)
			in := make([]byte, len(out))
			if _, err := io.ReadFull(c, in); err != nil {
				t.Error(err)
			} else if !bytes.Equal(in, out) {
				t.Error("echo differs")
			}
			c.Close()
		})
	}
	clients.Wait()
	eventually(t, "connections to close", func() bool { return e.Stats().Total().Conns == 0 })
}

func TestDialEcho(t *testing.T) {
	e := running(t, Options{})
	ln := serve(t, e, echo)
	for _, l := range e.Loops() {
		on(t, l, func(task *Task) {
			c, err := l.Dial(ln.Addr(), time.Second)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for range 10 {
				if _, err := c.WriteBuffers([]byte("hello "), []byte("world")); err != nil {
					t.Error(err)
					return
				}
				var b [64]byte
				n := 0
				for n < 11 {
					m, err := c.Read(b[n:])
					if err != nil {
						t.Error(err)
						return
					}
					n += m
				}
				if got := string(b[:n]); got != "hello world" {
					t.Errorf("echo %q", got)
				}
			}
		})
	}
}
