package engine

import (
	"crypto/tls"
	"io"
	"net"
	"slices"
	"testing"
	"time"
)

// BenchmarkKeepAliveUnderHandshakes is an exchange each millisecond over one TLS connection
// while others open 1,200 a second, with handshakes on the loops and beside them. The
// clients share the CPUs with the engine, so only the ratio says something.
func BenchmarkKeepAliveUnderHandshakes(b *testing.B) {
	for name, mode := range map[string]HandshakeOffload{"on the loop": OffloadNever, "under overload": OffloadOverload} {
		b.Run(name, func(b *testing.B) {
			server, client := rsaPair(b)
			e := running(b, Options{HandshakeOffload: mode, Loops: 2})
			ln := serveTLS(b, e, server, echoTLS)
			quit, shaken := make(chan struct{}), make(chan int)
			go storm(ln, client, quit, shaken)
			x := tls.Client(dialTCP(b, ln), client)
			defer x.Close()
			var times []time.Duration
			message, began := make([]byte, 100), time.Now()
			for b.Loop() {
				at := time.Now()
				x.Write(message)
				if _, err := io.ReadFull(x, message); err != nil {
					b.Fatal(err)
				}
				times = append(times, time.Since(at))
				time.Sleep(time.Millisecond)
			}
			took := time.Since(began)
			close(quit)
			b.ReportMetric(float64(<-shaken)/took.Seconds(), "handshakes/s")
			b.ReportMetric(float64(e.Stats().Total().Beside), "beside")
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-us")
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-us")
		})
	}
}

// storm offers 1,200 connections a second and says how many shook hands.
func storm(ln *Listener, cfg *tls.Config, quit chan struct{}, shaken chan<- int) {
	tick, done, n := time.NewTicker(time.Second/1200), make(chan bool, 1<<20), 0
	defer tick.Stop()
	for open := 0; ; {
		select {
		case <-tick.C:
			open++
			go func() {
				c, err := net.Dial("tcp", ln.Addr().String())
				if err == nil {
					c.SetDeadline(time.Now().Add(5 * time.Second))
					err = tls.Client(c, cfg).Handshake()
					c.Close()
				}
				done <- err == nil
			}()
		case ok := <-done:
			open--
			if ok {
				n++
			}
		case <-quit:
			for ; open > 0; open-- {
				<-done
			}
			shaken <- n
			return
		}
	}
}
