// Package proxy holds the cases of rules 2 and 3.
package proxy

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"sidecar/upstream"
)

type exchange struct {
	mu   sync.Mutex
	pool *upstream.Pool
	ch   chan int
	wg   sync.WaitGroup
}

func (x *exchange) acrossPackages() { // want acrossPackages:"parks"
	x.mu.Lock()
	defer x.mu.Unlock()
	x.pool.Len()
	x.pool.Get() // want `rule 1: Get may park \(it calls dial\) while x.mu is locked`
}

func (x *exchange) channels() {
	x.ch <- 1        // want `rule 2: a channel send on a task`
	<-x.ch           // want `rule 2: a channel receive on a task`
	for range x.ch { // want `rule 2: a range over a channel`
	}
	for range []int{1} {
	}
	select { // want `rule 2: a select without default`
	case <-x.ch:
	}
	select {
	case x.ch <- 1:
		time.Sleep(1) // want `rule 2: time.Sleep on a task`
	default:
	}
}

func (x *exchange) calls() {
	x.wg.Wait()         // want `rule 2: sync.WaitGroup.Wait on a task`
	net.Dial("tcp", "") // want `rule 2: net.Dial on a task`
	net.ParseIP("127.0.0.1")
	os.ReadFile("x")          // want `rule 2: os.ReadFile on a task`
	os.Stdout.WriteString("") // want `rule 2: os.File.WriteString on a task`
	fmt.Println()             // want `rule 2: fmt.Println on a task`
	_ = fmt.Sprint()
	_ = os.Getenv("x")
	go func() {}() // want `rule 2: a go statement on a task`
}

//engine:goroutine called by the control plane when the configuration changes
func (x *exchange) control() {
	<-x.ch
	go func() { time.Sleep(1) }()
}

func (x *exchange) marked() {
	//engine:goroutine closes what the loops left, after they have ended
	go func() { <-x.ch }()
	<-x.ch //engine:goroutine never reached on a task
	<-x.ch // want `rule 2: a channel receive`
}

//engine:goroutine // want `without a reason`
func (x *exchange) noReason() { <-x.ch }

func (x *exchange) threads(c net.Conn, t *tls.Conn) {
	runtime.LockOSThread() // want `rule 3: runtime.LockOSThread stops the loop`
	defer runtime.Goexit() // want `rule 3: runtime.Goexit stops the loop`
	_ = tls.Client(c, nil) // want `rule 3: crypto/tls.Client: TLS on a task goes through engine.TLS`
	t.Handshake()          // want `rule 3: crypto/tls.Conn.Handshake`
	_ = t.ConnectionState()
	c.Read(nil) // want `rule 2: net.Conn.Read on a task`
}
