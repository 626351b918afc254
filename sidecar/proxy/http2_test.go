package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/http2"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

func http2Options() *http2.Options {
	return &http2.Options{
		MaxStreams: 128, StreamWindow: 64 << 10, ConnectionWindow: 1 << 20, Head: 64 << 10, Fields: 100, Trailers: 8 << 10,
		PingTimeout: 5 * time.Second, HeadTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second, StallTimeout: 5 * time.Second,
	}
}

// withHTTP2 lets a rig speak it on both sides; the endpoints are spoken to in version.
func withHTTP2(version upstream.Version, more ...func(*ListenerConfig, *upstream.Settings)) func(*ListenerConfig, *upstream.Settings) {
	return func(c *ListenerConfig, s *upstream.Settings) {
		c.HTTP2, s.HTTP2, s.Version = http2Options(), http2Options(), version
		for _, f := range more {
			f(c, s)
		}
	}
}

// versionedOrigin speaks both versions in plain text.
func versionedOrigin(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// versionedClient speaks HTTP/2 with prior knowledge, or HTTP/1.
func versionedClient(t *testing.T, second bool) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP1(!second)
	tr.Protocols.SetUnencryptedHTTP2(second)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// everyVersion runs f for each pair of versions of the client and the endpoint.
func everyVersion(t *testing.T, h http.HandlerFunc, f func(*testing.T, *http.Client, *rig)) {
	for _, down := range []int{1, 2} {
		for _, up := range []int{1, 2} {
			t.Run(fmt.Sprintf("%d to %d", down, up), func(t *testing.T) {
				version := upstream.OnlyHTTP1
				if up == 2 {
					version = upstream.OnlyHTTP2
				}
				arrived := make(chan int, 1024)
				addr := versionedOrigin(t, func(w http.ResponseWriter, r *http.Request) {
					arrived <- r.ProtoMajor
					h(w, r)
				})
				f(t, versionedClient(t, down == 2), newRig(t, HTTP, withHTTP2(version), addr))
				if v := <-arrived; v != up {
					t.Errorf("the endpoint was spoken to in HTTP/%d", v)
				}
			})
		}
	}
}

func TestEveryVersionCarriesAnExchange(t *testing.T) {
	everyVersion(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
		w.Header().Set("X-Saw", fmt.Sprint(r.Host, " ", r.Method, " ", r.URL, " ", r.Header.Get("Cookie"), " ", r.Header.Get("X-Forwarded-For")))
		if r.Method == "HEAD" {
			w.Header().Set("Content-Length", "77")
			return
		}
		body, err := io.ReadAll(r.Body)
		w.(http.Flusher).Flush() // no length is announced: over HTTP/1 trailers need that
		w.Write(body)
		w.Header().Set("X-Sum", fmt.Sprintf("%d %v %s", len(body), err, r.Trailer.Get("X-Asked")))
	}, func(t *testing.T, c *http.Client, r *rig) {
		for _, size := range []int{0, 10_000, 100_000, 3_000_000} {
			body := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
			q, _ := http.NewRequest("POST", "http://"+r.addr+"/echo?x=y", struct{ io.Reader }{bytes.NewReader(body)})
			q.Header.Set("Cookie", "one=1; two=2")
			q.Trailer = http.Header{"X-Asked": {"yes"}}
			a, err := c.Do(q)
			if err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
			got, err := io.ReadAll(a.Body)
			a.Body.Close()
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("%d bytes: got %d, %v", size, len(got), err)
			}
			if want := fmt.Sprintf("%d <nil> yes", size); a.Trailer.Get("X-Sum") != want {
				t.Errorf("%d bytes: trailer %q", size, a.Trailer)
			}
			if want := r.addr + " POST /echo?x=y one=1; two=2 127.0.0.1"; a.Header.Get("X-Saw") != want || len(a.Header["Set-Cookie"]) != 2 {
				t.Errorf("%q, want %q", a.Header, want)
			}
		}
		a, err := c.Head("http://" + r.addr + "/")
		if err != nil || a.ContentLength != 77 || a.StatusCode != 200 {
			t.Errorf("HEAD: %v, %v", a, err)
		}
	})
}

func TestManyStreamsAtOnce(t *testing.T) {
	everyVersion(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Repeat(r.URL.Path, 5000))
	}, func(t *testing.T, c *http.Client, r *rig) {
		var all sync.WaitGroup
		for i := range 300 {
			all.Go(func() {
				path := fmt.Sprintf("/%d", i)
				a, err := c.Get("http://" + r.addr + path)
				if err != nil {
					t.Error(err)
					return
				}
				defer a.Body.Close()
				if got, err := io.ReadAll(a.Body); err != nil || string(got) != strings.Repeat(path, 5000) {
					t.Errorf("%s: %d bytes, %v", path, len(got), err)
				}
			})
		}
		all.Wait()
	})
}

// A client that gives up frees the endpoint, whatever is spoken there. Over HTTP/1 its
// end of the connection says nothing of the kind.
func TestAbortReachesTheEndpoint(t *testing.T) {
	gone := make(chan struct{}, 4)
	everyVersion(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/short" {
			return
		}
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		gone <- struct{}{}
	}, func(t *testing.T, c *http.Client, r *rig) {
		if !c.Transport.(*http.Transport).Protocols.UnencryptedHTTP2() {
			get(t, c, "http://"+r.addr+"/short")
			return
		}
		ctx, cancel := context.WithCancel(context.Background())
		q, _ := http.NewRequestWithContext(ctx, "GET", "http://"+r.addr+"/", nil)
		a, err := c.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := io.ReadAll(a.Body); err == nil {
			t.Error("the answer has an end")
		}
		select {
		case <-gone:
		case <-time.After(10 * time.Second):
			t.Fatal("the endpoint was not told")
		}
		if rec := r.records.last(t, 1); rec.Reason != policy.ClientAborted {
			t.Errorf("recorded as %s", rec.Reason)
		}
	})
}

// An endpoint that breaks off shows as a broken answer, never as a whole one.
func TestBrokenAnswerIsBrokenInEveryVersion(t *testing.T) {
	everyVersion(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "part")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}, func(t *testing.T, c *http.Client, r *rig) {
		a, err := c.Get("http://" + r.addr + "/")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(a.Body); err == nil {
			t.Errorf("%q is whole", got)
		}
		if rec := r.records.last(t, 1); rec.Reason != policy.UpstreamTruncated && rec.Reason != policy.UpstreamReset {
			t.Errorf("recorded as %s", rec.Reason)
		}
	})
}

// An early answer goes out while the request still comes.
func TestEarlyAnswer(t *testing.T) {
	everyVersion(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(403)
		io.WriteString(w, "no")
	}, func(t *testing.T, c *http.Client, r *rig) {
		upload, feed := io.Pipe()
		go func() {
			for {
				if _, err := feed.Write(make([]byte, 1000)); err != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		defer upload.CloseWithError(errors.New("enough"))
		a, err := c.Post("http://"+r.addr+"/", "text/plain", upload)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		if got, _ := io.ReadAll(a.Body); a.StatusCode != 403 || string(got) != "no" {
			t.Errorf("%d %q", a.StatusCode, got)
		}
	})
}

// With one connection of one stream to the endpoint, exchanges of a loop wait their turn.
func TestStreamsWaitForRoom(t *testing.T) {
	addr := versionedOrigin(t, func(w http.ResponseWriter, r *http.Request) { time.Sleep(2 * time.Millisecond) })
	r := newRig(t, HTTP, withHTTP2(upstream.OnlyHTTP2, func(_ *ListenerConfig, s *upstream.Settings) {
		s.HTTP2.MaxStreams, s.MaxConnections = 1, 1
		s.Timeouts.Connect = 20 * time.Second
	}), addr)
	c := versionedClient(t, true)
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			if a, err := c.Get("http://" + r.addr + "/"); err != nil || a.StatusCode != 200 {
				t.Error(a, err)
			} else {
				a.Body.Close()
			}
		})
	}
	all.Wait()
}
