package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestNoPOSTIsCarriedOutTwice: whatever an endpoint does to the connection, and in whatever
// phase, a request that is not idempotent is carried out once at most, by a policy that
// repeats whatever it may. What the client was told is true: an answer of success is that of
// a request that was carried out.
func TestNoPOSTIsCarriedOutTwice(t *testing.T) {
	each := 400
	if long() {
		each = 25_000
	}
	s := startSaboteur(t, 1, 4*each)
	p := start(t, "proxy", fmt.Sprintf(`
listeners:
- {name: one, address: 127.0.0.1:0, service: one}
- {name: two, address: 127.0.0.1:0, service: two}
services:
- name: one
  protocol: http1
  endpoints: &all [%s, %s]
  retries: &eager
    {attempts: 5, on: [connect_failure, refused_stream, reset, timeout, 5xx], per_try_timeout: 200ms,
     backoff: {base: 1ms, max: 5ms}, budget: {percent: 1000, min: 1000000}}
- {name: two, protocol: http2, endpoints: *all, retries: *eager}
`, strings.Join(s.addresses, ", "), closedAddress(t)))
	var next, answered, failed atomic.Int64
	told := make([]atomic.Bool, 4*each)
	var all sync.WaitGroup
	for _, listener := range []string{"one", "two"} {
		for _, version := range []int{1, 2} {
			left := new(atomic.Int64)
			left.Store(int64(each))
			for range 8 {
				post := poster(t, p.address(listener), version)
				all.Go(func() {
					for left.Add(-1) >= 0 {
						id := next.Add(1) - 1
						if ok, err := post(fmt.Sprint(id), bodyOf(int(id))); err != nil {
							t.Errorf("request %d: %v", id, err)
						} else if ok {
							told[id].Store(true)
							answered.Add(1)
						} else {
							failed.Add(1)
						}
					}
				})
			}
		}
	}
	all.Wait()
	committed, twice := s.account()
	for id := range told {
		if told[id].Load() && s.commits[id].Load() == 0 {
			t.Errorf("request %d was answered and not carried out", id)
		}
	}
	m := p.scrape()
	made := m.sum("larboard_retries_total", `result="made"`)
	unsafe := m.sum("larboard_retries_total", `result="unsafe"`)
	t.Logf("%d POSTs: %d answered, %d failed, %d carried out, %d twice; %v repeats made, %v left for safety\n%v",
		4*each, answered.Load(), failed.Load(), committed, twice, made, unsafe, s)
	for version := range s.seen {
		for at := afterAccept; at < phases; at++ {
			if s.seen[version][at].Load() == 0 && (version == 1 || at < refusedStream) && (long() || at != silence) {
				t.Errorf("nothing was broken off %v over HTTP/%d", at, version+1)
			}
		}
	}
	if connect := m.sum("larboard_retries_total", `cause="connect_failure"`, `result="made"`); connect == 0 {
		t.Error("nothing was broken off before it was accepted")
	}
	if int(answered.Load()) < each || made == 0 || unsafe == 0 {
		t.Error("the test does not show what it claims")
	}
}

// bodyOf is a request's body: mostly little, sometimes in several pieces, seldom more than
// is kept.
func bodyOf(id int) []byte {
	size := []int{5, 5, 5, 3000, 20_000, 100_000}[id%6]
	return bytes.Repeat([]byte("x"), size)
}

// closedAddress is one where nobody listens.
func closedAddress(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// poster sends POSTs one after the other and never one a second time. It tells whether one
// succeeded; an error is a breach of the protocol.
func poster(t testing.TB, address string, version int) func(id string, body []byte) (bool, error) {
	if version == 2 {
		client := http2Client(t)
		return func(id string, body []byte) (bool, error) {
			// Without GetBody, so that the client sends it once.
			q, err := http.NewRequest("POST", "http://"+address+"/", io.MultiReader(bytes.NewReader(body)))
			if err != nil {
				return false, err
			}
			q.ContentLength = int64(len(body))
			q.Header.Set("X-Id", id)
			resp, err := client.Do(q)
			if err != nil {
				return false, nil // the stream was reset behind the head of the answer
			}
			return judge(resp, id)
		}
	}
	var conn net.Conn
	var r *bufio.Reader
	t.Cleanup(func() {
		if conn != nil {
			conn.Close()
		}
	})
	return func(id string, body []byte) (ok bool, err error) {
		if conn == nil {
			if conn, err = net.Dial("tcp", address); err != nil {
				return false, err
			}
			r = bufio.NewReader(conn)
		}
		head := fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nX-Id: %s\r\nContent-Length: %d\r\n\r\n", id, len(body))
		sent := make(chan struct{})
		go func(c net.Conn) {
			defer close(sent)
			_, _ = io.WriteString(c, head+string(body[:len(body)/2]))
			_, _ = c.Write(body[len(body)/2:])
		}(conn)
		resp, err := http.ReadResponse(r, &http.Request{Method: "POST"})
		if err == nil {
			ok, err = judge(resp, id)
		}
		if err != nil || resp.Close {
			conn.Close()
			conn = nil
		}
		<-sent
		if errors.Is(err, errMistaken) {
			return false, err
		}
		return ok, nil
	}
}

var errMistaken = errors.New("somebody else's answer")

func judge(resp *http.Response, id string) (bool, error) {
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK {
		return false, nil
	}
	if string(text) != id {
		return false, fmt.Errorf("%w: %q for %s", errMistaken, text, id)
	}
	return true, nil
}
