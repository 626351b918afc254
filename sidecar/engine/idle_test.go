package engine

import (
	"net"
	"testing"
	"time"
)

// keepAlive serves as a codec would: a task for what is there, then back to the record.
type keepAlive struct {
	t       *testing.T
	conn    *Conn
	wake    func()
	expired chan struct{}
	tasks   int
}

func (k *keepAlive) ready() {
	if k.conn.IdleExpired() {
		close(k.expired)
		k.conn.Close()
		return
	}
	k.tasks++
	k.conn.Loop().Go("request", k.serve)
}

func (k *keepAlive) serve(*Task) {
	b := k.conn.Loop().Buffer(1)
	defer k.conn.Loop().Release(b)
	n, err := k.conn.Read(b)
	if err != nil {
		k.conn.Close()
		return
	}
	k.conn.Write(b[:n])
	k.conn.OnReadable(k.wake)
}

func TestIdleConnectionHoldsNothingAndExpires(t *testing.T) {
	e := running(t, Options{})
	made := make(chan *keepAlive, 1)
	ln, err := e.Listen("tcp", "127.0.0.1:0", func(l *Loop, c *Conn) {
		k := &keepAlive{t: t, conn: c, expired: make(chan struct{})}
		k.wake = k.ready
		c.SetUser(k)
		c.SetReadDeadline(l.Now().Add(10 * time.Second))
		c.OnReadable(k.wake)
		made <- k
	})
	if err != nil {
		t.Fatal(err)
	}
	client := dialTCP(t, ln)
	k := <-made
	l := k.conn.Loop()
	b := make([]byte, 10)
	for i := range 3 {
		client.Write([]byte("x"))
		if _, err := client.Read(b); err != nil {
			t.Fatal(err)
		}
		on(t, l, func(*Task) {
			if k.tasks != i+1 || len(l.active) != 1 || l.buffers.used() != 0 {
				t.Errorf("%d tasks started, %d active, %d buffers", k.tasks, len(l.active), l.buffers.used())
			}
		})
	}
	on(t, l, func(*Task) { k.conn.SetReadDeadline(l.Now().Add(10 * time.Millisecond)) })
	select {
	case <-k.expired:
	case <-time.After(10 * time.Second):
		t.Fatal("did not expire")
	}
}

func TestOnReadableSeesWhatCameWhileBusy(t *testing.T) {
	called := make(chan struct{})
	accepted(t, func(task *Task, c *Conn) {
		c.watch() // the first bytes may have been there before anybody had to wait for them
		c.Read(make([]byte, 100))
		c.Write([]byte("got it")) // the client sends more while this task is busy
		for !c.Pending() {
			if task.Yield() != nil {
				return
			}
		}
		c.OnReadable(func() {
			if c.IdleExpired() {
				t.Error("expired")
			}
			close(called)
			task.Wake()
		})
		if received(called) {
			t.Error("called from inside OnReadable")
		}
		for !received(called) {
			task.Park("called")
		}
	}, func(c *net.TCPConn) {
		c.Write([]byte("one"))
		c.Read(make([]byte, 10))
		c.Write([]byte("two"))
	})
}

func TestOnReadableDroppedByClose(t *testing.T) {
	accepted(t, func(task *Task, c *Conn) {
		for !c.Pending() {
			task.Yield()
		}
		c.OnReadable(func() { t.Error("called after close") })
		c.Close()
		task.Yield()
		task.Yield()
	}, func(c *net.TCPConn) { c.Write([]byte("x")) })
}
