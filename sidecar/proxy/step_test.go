package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/message"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// hooks is a Step made of functions.
type hooks struct{ request, response func(*Exchange) error }

func (h hooks) Request(x *Exchange) error {
	if h.request == nil {
		return nil
	}
	return h.request(x)
}

func (h hooks) Response(x *Exchange) error {
	if h.response == nil {
		return nil
	}
	return h.response(x)
}

// talk sends one request after the other over one connection until it closes, and
// returns the answers as "status reason body".
func talk(t *testing.T, addr string, requests ...string) (all []string, open bool) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	br := bufio.NewReader(conn)
	for _, q := range requests {
		if _, err := io.WriteString(conn, q); err != nil {
			return all, false
		}
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			return all, false
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			return append(all, "broken off"), false
		}
		code, _, _ := strings.Cut(string(b), ":")
		all = append(all, fmt.Sprint(resp.StatusCode, " ", resp.Header.Get(ReasonHeader), " ", code))
		if resp.Close {
			_, err := br.ReadByte()
			if err != io.EOF {
				t.Errorf("after the announced close: %v", err)
			}
			return all, false
		}
	}
	return all, true
}

func TestSteps(t *testing.T) {
	overloaded := &policy.Error{Reason: policy.Overloaded, Phase: policy.PhaseRoute}
	const getIt, post = "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
	fine := "200  ok"
	for _, c := range []struct {
		name    string
		step    hooks
		ask     []string
		want    []string
		open    bool
		reason  policy.Reason
		reaches int32
	}{
		{"passes", hooks{}, []string{getIt, post}, []string{fine, fine}, true, policy.None, 2},
		{"request refused", hooks{request: func(*Exchange) error { return overloaded }},
			[]string{getIt, getIt}, []string{"503 overloaded overloaded", "503 overloaded overloaded"}, true, policy.Overloaded, 0},
		{"request refused, with a body", hooks{request: func(*Exchange) error { return overloaded }},
			[]string{post, post}, []string{"503 overloaded overloaded"}, false, policy.Overloaded, 0},
		{"any error is ours", hooks{request: func(*Exchange) error { return errors.New("what") }},
			[]string{getIt}, []string{"500 internal internal"}, true, policy.Internal, 0},
		{"response refused", hooks{response: func(*Exchange) error { return overloaded }},
			[]string{getIt, getIt}, []string{"503 overloaded overloaded", "503 overloaded overloaded"}, true, policy.Overloaded, 2},
		{"panic at the request", hooks{request: func(*Exchange) error { panic("oh") }},
			[]string{getIt, getIt}, []string{"500 internal internal"}, false, policy.Internal, 0},
		{"panic at the response", hooks{response: func(*Exchange) error { panic("oh") }},
			[]string{post, getIt}, []string{"500 internal internal"}, false, policy.Internal, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var mu sync.Mutex
			var reached int32
			r := newRig(t, HTTP, func(l *ListenerConfig, _ *upstream.Settings) { l.Routes[0].Steps = []Step{c.step} },
				origin(t, func(w http.ResponseWriter, q *http.Request) {
					mu.Lock()
					reached++
					mu.Unlock()
					io.Copy(io.Discard, q.Body)
					io.WriteString(w, "ok")
				}))
			got, open := talk(t, r.addr, c.ask...)
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") || open != c.open {
				t.Errorf("got %q, open %v; want %q, open %v", got, open, c.want, c.open)
			}
			if rec := r.records.last(t, len(c.want)); rec.Reason != c.reason {
				t.Errorf("recorded %v, want %v", rec.Reason, c.reason)
			}
			mu.Lock()
			defer mu.Unlock()
			if reached != c.reaches {
				t.Errorf("%d requests reached the endpoint, want %d", reached, c.reaches)
			}
			r.quiet()
		})
	}
}

// quiet waits until nothing is in flight and no task runs.
func (r *rig) quiet() {
	r.t.Helper()
	eventually(r.t, "all choices to be given back", func() bool {
		for _, m := range r.service.Set().Members {
			if m.Inflight() != 0 {
				return false
			}
		}
		return r.engine.Stats().Total().Tasks == 0
	})
}

// The response hook sees the final head, once, whatever came before it; what it
// changes is what the client gets.
func TestStepsSeeTheFinalHead(t *testing.T) {
	var seen []int
	var mu sync.Mutex
	step := hooks{response: func(x *Exchange) error {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, x.Resp.Status)
		x.Resp.AddString(message.NameOther, "x-step", "was here")
		return nil
	}}
	r := newRig(t, HTTP, func(l *ListenerConfig, _ *upstream.Settings) { l.Routes[0].Steps = []Step{step} },
		closedPort(t), closedPort(t), origin(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusTeapot)
		}))
	code, _, h := get(t, client(t), "http://"+r.addr+"/")
	mu.Lock()
	defer mu.Unlock()
	if code != 418 || h.Get("X-Step") != "was here" || fmt.Sprint(seen) != "[418]" {
		t.Errorf("%d %v, the step saw %v", code, h, seen)
	}
}

func TestATunnelThatCannotBeMadeIsRecorded(t *testing.T) {
	r := newRig(t, TCP, nil, closedPort(t))
	for range 3 {
		conn, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		if b, err := io.ReadAll(conn); len(b) != 0 {
			t.Errorf("%q %v", b, err)
		}
		conn.Close()
	}
	if rec := r.records.last(t, 3); rec.Reason != policy.ConnectFailed || rec.Side != policy.Upstream || rec.Attempts != 3 {
		t.Errorf("%+v", rec)
	}
	r.quiet()
}

// Thousands of exchanges of all fates: each is recorded once, each choice is given
// back, nothing of them stays, and the proxy serves on.
func TestEveryFateGivesItsChoiceBack(t *testing.T) {
	good := origin(t, func(w http.ResponseWriter, q *http.Request) {
		io.Copy(io.Discard, q.Body)
		if q.URL.Path == "/slow" {
			time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
		}
		io.WriteString(w, strings.Repeat("x", 10000))
	})
	rude := origin(t, func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		if rand.IntN(2) == 0 {
			io.WriteString(c, []string{"nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"}[rand.IntN(2)])
		}
		c.Close()
	})
	refuses := closedPort(t)
	step := hooks{
		request: func(x *Exchange) error {
			switch string(x.Req.PathBytes()) {
			case "/panic":
				panic("request")
			case "/refused":
				return &policy.Error{Reason: policy.Overloaded}
			}
			return nil
		},
		response: func(x *Exchange) error {
			if string(x.Req.PathBytes()) == "/late-panic" {
				panic("response")
			}
			return nil
		},
	}
	r := newRig(t, HTTP, func(l *ListenerConfig, _ *upstream.Settings) { l.Routes[0].Steps = []Step{step} }, good, rude, refuses)
	var known []upstream.Member
	note := func() { known = append(known, r.service.Set().Members...) }
	note()
	requests := []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /panic HTTP/1.1\r\nHost: x\r\n\r\n", "GET /late-panic HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /refused HTTP/1.1\r\nHost: x\r\n\r\n", "bad request\r\n\r\n",
		"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n" + strings.Repeat("y", 70000),
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
	}
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for range 150 {
				conn, err := net.Dial("tcp", r.addr)
				if err != nil {
					t.Error(err)
					return
				}
				conn.SetDeadline(time.Now().Add(20 * time.Second))
				for range 1 + rand.IntN(3) {
					io.WriteString(conn, requests[rand.IntN(len(requests))])
				}
				switch rand.IntN(4) {
				case 0:
					conn.(*net.TCPConn).SetLinger(0) // resets
				case 1:
					conn.(*net.TCPConn).CloseWrite()
					io.Copy(io.Discard, conn)
				case 2:
					conn.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
					io.CopyN(io.Discard, conn, int64(rand.IntN(20000)))
				}
				conn.Close()
			}
		})
	}
	for i := range 60 {
		all := []string{good, rude, refuses}
		rand.Shuffle(3, func(i, j int) { all[i], all[j] = all[j], all[i] })
		r.endpoints(all[:1+i%3]...)
		note()
		time.Sleep(2 * time.Millisecond) // spread over the exchanges
	}
	clients.Wait()
	r.endpoints(good)
	note()
	for _, m := range known {
		eventually(t, m.Address+" to have its choices back", func() bool { return m.Inflight() == 0 })
	}
	r.quiet()
	eventually(t, "the clients' connections to go", func() bool { return r.proxy.Active(true) == 0 })
	if code, _, _ := get(t, client(t), "http://"+r.addr+"/"); code != 200 {
		t.Errorf("afterwards: %d", code)
	}
	if n := r.engine.Stats().Total().Panics; n != 0 {
		t.Errorf("%d panics reached the engine", n)
	}
}
