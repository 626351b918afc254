//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
)

// answer makes the frames of a proxy's answers.
type answer struct {
	bytes   []byte
	block   bytes.Buffer
	encoder *hpack.Encoder
}

func (a *answer) head(flags byte, fields ...string) *answer {
	if a.encoder == nil {
		a.encoder = hpack.NewEncoder(&a.block)
	}
	a.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		a.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	a.bytes = appendFrame(a.bytes, frameHeaders, flags|flagEndHeaders, 1, a.block.Bytes())
	return a
}

func (a *answer) frame(kind, flags byte, stream uint32, payload string) *answer {
	a.bytes = appendFrame(a.bytes, kind, flags, stream, []byte(payload))
	return a
}

func TestH2ClientJudgesAnswers(t *testing.T) {
	plain := []string{":status", "200", "content-length", "4"}
	call := []string{":status", "200", "content-type", "application/grpc"}
	message := string(grpcMessage(4))
	cases := []struct {
		name    string
		grpc    bool
		answer  *answer
		problem string
	}{
		{"good", false, new(answer).frame(frameSettings, 0, 0, "").head(0, plain...).frame(frameData, 0, 1, "ab").frame(frameData, flagEndStream, 1, "cd"), ""},
		{"status", false, new(answer).head(0, ":status", "503"), `status "503"`},
		{"length", false, new(answer).head(0, ":status", "200", "content-length", "5"), `content length "5"`},
		{"no content", false, new(answer).head(flagEndStream, plain...), "without content"},
		{"wrong content", false, new(answer).head(0, plain...).frame(frameData, flagEndStream, 1, "abxd"), "at byte 0"},
		{"excess", false, new(answer).head(0, plain...).frame(frameData, flagEndStream, 1, "abcde"), "at byte 0"},
		{"short", false, new(answer).head(0, plain...).frame(frameData, flagEndStream, 1, "abc"), "after 3 bytes of 4"},
		{"content first", false, new(answer).frame(frameData, 0, 1, "ab"), "expects none"},
		{"twice", false, new(answer).head(0, plain...).head(0, plain...), "second head"},
		{"another stream", false, new(answer).frame(frameData, 0, 3, "ab"), "stream 3"},
		{"reset", false, new(answer).frame(frameReset, 0, 1, "\x00\x00\x00\x07"), "code 7"},
		{"going away", false, new(answer).frame(frameGoAway, 0, 0, "\x00\x00\x00\x01\x00\x00\x00\x0b"), "GOAWAY with code 11"},
		{"few streams", false, new(answer).frame(frameSettings, 0, 0, "\x00\x03\x00\x00\x00\x01"), "allows 1 streams"},
		{"broken settings", false, new(answer).frame(frameSettings, 0, 0, "\x00"), "broken SETTINGS"},
		{"broken block", false, new(answer).frame(frameHeaders, flagEndHeaders, 1, "\xff"), "header"},
		{"another version", false, &answer{bytes: []byte("HTTP/1.1 400 Bad Request\r\n\r\n")}, "HTTP/1"},
		{"continued", false, new(answer).frame(frameHeaders, 0, 1, "\x88"), "does not read"},
		{"a good call", true, new(answer).head(0, call...).frame(frameData, 0, 1, message).head(flagEndStream, "grpc-status", "0"), ""},
		{"a failed call", true, new(answer).head(0, call...).frame(frameData, 0, 1, message).head(flagEndStream, "grpc-status", "14"), `gRPC status "14"`},
		{"a call without trailers", true, new(answer).head(0, call...).frame(frameData, flagEndStream, 1, message), "the stream ended"},
		{"a call without its message", true, new(answer).head(0, call...).head(flagEndStream, "grpc-status", "0"), "after 0 bytes"},
		{"a call answered as a page", true, new(answer).head(0, plain...), "content type"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, step := range []int{1, 10, len(c.answer.bytes)} {
				completed, err := feedH2(c.grpc, c.answer.bytes, step)
				if c.problem == "" && (err != nil || completed != 1) {
					t.Errorf("by %d bytes: %d completed, %v", step, completed, err)
				}
				// A stream's own error shows at one byte more exactly where it was.
				if c.problem != "" && (err == nil || step == len(c.answer.bytes) && !strings.Contains(err.Error(), c.problem)) {
					t.Errorf("by %d bytes: got error %v, want %q", step, err, c.problem)
				}
			}
		})
	}
}

// feedH2 gives a client with two streams open, of which the first counts, an answer.
func feedH2(grpc bool, answer []byte, step int) (completed int, err error) {
	spec := &loadSpec{Size: 4, Streams: 2, GRPC: grpc}
	c := newH2Client(&client{}, spec)
	c.finished = func(_ time.Time, failure error) {
		if failure != nil {
			err = failure
			return
		}
		completed++
	}
	c.start(time.Now())
	for len(answer) > 0 && err == nil {
		n := min(step, len(answer))
		if fatal := c.feed(answer[:n]); fatal != nil {
			err = fatal
		}
		answer = answer[n:]
	}
	return completed, err
}

func TestH2OriginRefusesWhatIsNoCall(t *testing.T) {
	head := func(fields ...string) *answer {
		a := &answer{bytes: []byte(h2Preface)}
		return a.head(0, append([]string{":method", "POST", ":scheme", "http", ":path", grpcPath + "5", ":authority", serverName}, fields...)...)
	}
	whole := []string{"te", "trailers", "content-type", "application/grpc"}
	cases := []struct {
		name    string
		request *answer
		problem string
	}{
		{"good", head(whole...).frame(frameData, flagEndStream, 1, string(grpcMessage(message))), ""},
		{"no te", head("content-type", "application/grpc"), `te ""`},
		{"no type", head("te", "trailers"), `content type ""`},
		{"short message", head(whole...).frame(frameData, flagEndStream, 1, "abc"), "3 bytes"},
		{"no preface", &answer{bytes: []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")}, "preface"},
		{"path", (&answer{bytes: []byte(h2Preface)}).head(flagEndStream, ":method", "GET", ":path", "/x"), `path "/x"`},
	}
	for _, c := range cases {
		err := newH2Origin(contents{}).feed(c.request.bytes)
		if c.problem == "" && err != nil || c.problem != "" && (err == nil || !strings.Contains(err.Error(), c.problem)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.problem)
		}
	}
}

func TestH2OriginKeepsToWindows(t *testing.T) {
	a := &answer{bytes: []byte(h2Preface)}
	a.frame(frameSettings, 0, 0, "\x00\x04\x00\x00\x00\x0a") // 10 bytes for each stream
	a.head(flagEndStream, ":method", "GET", ":path", "/25")
	o := newH2Origin(contents{})
	content := func() (n int, ended bool) {
		for out := o.out; len(out) > 0; {
			f, rest, ok, err := cutFrame(out)
			if !ok || err != nil {
				t.Fatalf("broken frames: %v", err)
			}
			if f.kind == frameData {
				n, ended = n+len(f.payload), f.has(flagEndStream)
			}
			out = rest
		}
		o.out = o.out[:0]
		return n, ended
	}
	if err := o.feed(a.bytes); err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		n     int
		ended bool
	}{{10, false}, {14, false}, {1, true}} {
		if n, ended := content(); n != want.n || ended != want.ended {
			t.Errorf("turn %d: %d bytes, ended %v; want %+v", i, n, ended, want)
		}
		if err := o.feed(appendWindowUpdate(nil, 1, 14)); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.feed(binary.BigEndian.AppendUint32(appendFrameHead(nil, frameWindowUpdate, 0, 1, 5), 0)); err != nil {
		t.Fatal(err) // incomplete: it waits for a byte
	}
	if err := o.feed([]byte{0}); err == nil {
		t.Error("a WINDOW_UPDATE of five bytes was taken")
	}
}

func TestIdleH2ConnectionsAreHeld(t *testing.T) {
	origin, err := startProcess(firstCPU(t), "origin", os.Args[0], roleOrigin)
	if err != nil {
		t.Fatal(err)
	}
	var addrs originAddrs
	if err := origin.decode(t.Context(), 10*time.Second, &addrs); err != nil {
		t.Fatal(err)
	}
	sa, err := sockaddr(addrs.H2)
	if err != nil {
		t.Fatal(err)
	}
	c, err := hold(sa, nil, &loadSpec{Size: smallBody, Streams: 1}, make([]byte, 4<<10))
	if err != nil || !c.alive() || !c.alive() {
		t.Fatalf("not held: %v", err)
	}
	origin.stop()
	if c.alive() {
		t.Error("held by a process that is gone")
	}
}

// TestNetHTTPContender goes through the proxy made of net/http, over both versions.
func TestNetHTTPContender(t *testing.T) {
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Join([]string{r.Proto, r.Host, r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Proto")}, " "))
		if len(r.Header.Get("X-Request-Id")) != 36 {
			t.Errorf("request id %q", r.Header.Get("X-Request-Id"))
		}
	}))
	defer endpoint.Close()
	s := site{Origin: originAddrs{HTTP: strings.TrimPrefix(endpoint.URL, "http://")}}
	free, err := freeAddrs(1)
	if err != nil {
		t.Fatal(err)
	}
	s.HTTP = free[0]
	file, err := netHTTP("").parts[0].writeConfig(t.TempDir(), &s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- runNetHTTP(ctx, file) }()
	if err := waitForAnswer(ctx, s.HTTP, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	client := http.Client{Transport: &http.Transport{Protocols: &protocols}}
	resp, err := client.Get("http://" + s.HTTP + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if want := "HTTP/1.1 " + s.HTTP + " 127.0.0.1 http"; err != nil || resp.ProtoMajor != 2 || string(got) != want {
		t.Errorf("HTTP/%d: got %q, %v; want %q", resp.ProtoMajor, got, err, want)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := runNetHTTP(t.Context(), filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("served without a configuration")
	}
}
