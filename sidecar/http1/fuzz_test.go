package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/sidecar/message"
)

// What the fuzz targets hold of any input: the verdict does not depend on how the
// bytes arrive; what is accepted, written anew and read again is the same; and
// what is accepted is framed by net/http in the same way, or refused by it.

func sameVerdict(t *testing.T, data string, run func([][]byte) (string, string)) (text string) {
	text, _ = run(whole(data))
	cuts := [][][]byte{bytewise(data)}
	for _, at := range []int{1, len(data) / 3, len(data) / 2, len(data) - 1} {
		if at > 0 && at < len(data) {
			cuts = append(cuts, split(data, at))
		}
	}
	for _, in := range cuts {
		if got, _ := run(in); got != text {
			t.Fatalf("the same bytes in %d pieces\n%s\nwhole\n%s", len(in), got, text)
		}
	}
	return text
}

func FuzzRequest(f *testing.F) {
	for _, tc := range requestCases {
		f.Add([]byte(tc.data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		sameVerdict(t, string(data), serve)
		s, _, _ := newTestServer(whole(string(data)))
		var h message.Head
		if s.ReadHead(&h) != nil {
			return
		}
		first := h.Clone()
		body, err := readAll(s)
		if err != nil || string(h.MethodBytes()) == "CONNECT" {
			return
		}
		requestAgain(t, first, body, s.Trailers())
		agreeOnRequest(t, data, first, body)
	})
}

// requestAgain writes what was read and reads it once more.
func requestAgain(t *testing.T, h *message.Head, body []byte, trailers *message.Head) {
	if len(h.AuthorityBytes()) == 0 {
		return // HTTP/1.0 without Host: the writer needs a name from elsewhere
	}
	c, w, _ := newTestClient(nil)
	writeMessage(t, c, h, body, trailers)
	s, _, _ := newTestServer(whole(string(w.out)))
	s.limits = roomy()
	var again message.Head
	if err := s.ReadHead(&again); err != nil {
		t.Fatalf("what was accepted is refused when written anew: %v\n%q", err, w.out)
	}
	got, err := readAll(s)
	if err != nil || !bytes.Equal(got, body) {
		t.Fatalf("the body changed: %v\n%q\n%q", err, body, got)
	}
	// The version and the wish to close belong to the other connection.
	h.Framing.Minor, h.Framing.Close = 1, false
	sameMessage(t, h, &again, trailers, s.Trailers())
}

// roomy leaves room for the fields that the writer adds.
func roomy() *Limits {
	return &Limits{Head: 1 << 20, Fields: 200, RequestLine: 1 << 20, Trailers: 1 << 20}
}

func writeMessage(t *testing.T, s message.Stream, h *message.Head, body []byte, trailers *message.Head) {
	err := s.WriteHead(h)
	if err == nil && len(body) > 0 {
		err = s.WriteBody(body, false)
	}
	if err == nil {
		err = s.WriteTrailers(trailers)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func sameMessage(t *testing.T, a, b, at, bt *message.Head) {
	text := func(h, trailers *message.Head) string {
		var s strings.Builder
		describe(&s, h)
		if trailers != nil {
			describeFields(&s, trailers)
		}
		return s.String()
	}
	if was, is := text(a, at), text(b, bt); was != is {
		t.Fatalf("was %s\nis  %s", was, is)
	}
}

func agreeOnRequest(t *testing.T, data []byte, h *message.Head, body []byte) {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(data)))
	if err != nil {
		return
	}
	got, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if r.Method != string(h.MethodBytes()) || !bytes.Equal(got, body) {
		t.Fatalf("net/http reads %s with %q, we %s with %q", r.Method, got, h.MethodBytes(), body)
	}
	if !strings.EqualFold(r.Host, string(h.AuthorityBytes())) {
		t.Fatalf("net/http reads host %q, we %q", r.Host, h.AuthorityBytes())
	}
	if h.Framing.Kind == message.Length && r.ContentLength != h.Framing.Length {
		t.Fatalf("net/http reads length %d, we %d", r.ContentLength, h.Framing.Length)
	}
}

func FuzzResponse(f *testing.F) {
	for _, tc := range responseCases {
		f.Add(uint8(strings.Index("GHCU", tc.method[:1])), []byte(tc.data))
	}
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		method := [...]string{"GET", "HEAD", "CONNECT", "UPGRADE"}[kind%4]
		run := func(in [][]byte) (string, string) { return call(requestFor(method), in) }
		text := sameVerdict(t, string(data), func(in [][]byte) (string, string) {
			text, _ := run(in)
			// Whether bytes in excess were seen depends on the reads.
			return strings.TrimSuffix(strings.TrimSuffix(text, "ok"), "reusable"), ""
		})
		if strings.HasPrefix(text, "1") || kind%4 > 1 {
			return
		}
		c, _, _ := newTestClient(whole(string(data)))
		writeMessage(t, c, requestFor(method), nil, nil)
		var h message.Head
		if c.ReadHead(&h) != nil {
			return
		}
		first := h.Clone()
		body, err := readAll(c)
		if err != nil {
			return
		}
		responseAgain(t, method, first, body, c.Trailers())
		agreeOnResponse(t, method, data, first, body)
	})
}

func responseAgain(t *testing.T, method string, h *message.Head, body []byte, trailers *message.Head) {
	s, w, _ := newTestServer(whole(method + " / HTTP/1.1" + hosted + "\r\n"))
	if err := s.ReadHead(&message.Head{}); err != nil {
		t.Fatal(err)
	}
	writeMessage(t, s, h, body, trailers)
	c, _, _ := newTestClient(whole(string(w.out)))
	c.limits = roomy()
	writeMessage(t, c, requestFor(method), nil, nil)
	var again message.Head
	if err := c.ReadHead(&again); err != nil {
		t.Fatalf("what was accepted is refused when written anew: %v\n%q", err, w.out)
	}
	got, err := readAll(c)
	if err != nil || !bytes.Equal(got, body) || !c.Reusable() {
		t.Fatalf("the body changed: %v\n%q\n%q", err, body, got)
	}
	// Version, close, and the way to end a body of unknown length are this
	// connection's; a missing phrase is supplied.
	h.Framing.Minor, h.Framing.Close, h.Framing.Kind = 1, false, again.Framing.Kind
	if len(h.PhraseBytes()) == 0 {
		h.Phrase = h.Keep(again.PhraseBytes())
	}
	if h.Status == 304 && h.Framing.Length == 0 {
		h.Framing.Length = -1 // not announced, being no use
	}
	sameMessage(t, h, &again, trailers, c.Trailers())
}

func agreeOnResponse(t *testing.T, method string, data []byte, h *message.Head, body []byte) {
	r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(data)), &http.Request{Method: method})
	if err != nil {
		return
	}
	got, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if r.StatusCode != h.Status || !bytes.Equal(got, body) {
		t.Fatalf("net/http reads %d with %q, we %d with %q", r.StatusCode, got, h.Status, body)
	}
}

func FuzzChunked(f *testing.F) {
	for _, tc := range requestCases {
		if _, body, found := strings.Cut(tc.data, "chunked\r\n\r\n"); found {
			f.Add([]byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		request := chunked(string(data))
		sameVerdict(t, request, serve)
		s, _, _ := newTestServer(whole(request))
		var h message.Head
		if err := s.ReadHead(&h); err != nil {
			t.Fatal(err)
		}
		body, err := readAll(s)
		if err != nil {
			return
		}
		requestAgain(t, h.Clone(), body, s.Trailers())
		got, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(data)))
		if err == nil && !bytes.Equal(got, body) {
			t.Fatalf("net/http decodes %q, we %q", got, body)
		}
	})
}
