package http1

import (
	"testing"

	"github.com/larboard-proxy/larboard/sidecar/message"
)

const (
	plainRequest = "GET /api/v1/items?limit=10 HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: wrk/4.2.0\r\n" +
		"Accept: */*\r\nAccept-Encoding: gzip\r\nX-Request-ID: 0123456789abcdef\r\n\r\n"
	plainAnswer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Sat, 01 Jan 2028 00:00:00 GMT\r\n" +
		"Server: x\r\nContent-Length: 13\r\n\r\n{\"items\":[]}\n"
	chunkedAnswer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n{\"item\r\n7\r\ns\":[]}\n\r\n0\r\n\r\n"
)

// relay is one exchange between a client and an endpoint in memory, as a proxy
// would run it, over and over without an allocation.
type relay struct {
	down, up          wire
	downIn, upIn      [1][]byte
	server            *Server
	client            *Client
	request, response message.Head
}

func newRelay() *relay {
	r := &relay{}
	b := &pooled{}
	r.server = NewServer(&r.down, b, &ServerOptions{Limits: DefaultLimits()})
	r.client = NewClient(&r.up, b, &ClientOptions{Limits: DefaultLimits()})
	return r
}

func (r *relay) run(request, response []byte) error {
	r.downIn[0], r.upIn[0] = request, response
	r.down.in, r.up.in = r.downIn[:], r.upIn[:]
	r.down.out, r.up.out = r.down.out[:0], r.up.out[:0]
	if err := r.server.ReadHead(&r.request); err != nil {
		return err
	}
	if err := r.client.WriteHead(&r.request); err != nil {
		return err
	}
	if err := r.client.Flush(); err != nil {
		return err
	}
	if err := r.client.ReadHead(&r.response); err != nil {
		return err
	}
	if err := r.server.WriteHead(&r.response); err != nil {
		return err
	}
	for {
		p, end, err := r.client.ReadBody()
		if err == nil {
			err = r.server.WriteBody(p, end)
		}
		if err != nil {
			return err
		}
		if end {
			break
		}
	}
	if !r.server.KeepAlive() || !r.server.Idle() || !r.server.Release() ||
		!r.client.Reusable() || !r.client.Release() {
		return violation("not kept")
	}
	return nil
}

func TestPlainPathAllocatesNothing(t *testing.T) {
	for name, response := range map[string]string{"length": plainAnswer, "chunked": chunkedAnswer} {
		r := newRelay()
		request, response := []byte(plainRequest), []byte(response)
		allocs := testing.AllocsPerRun(100, func() {
			if err := r.run(request, response); err != nil {
				t.Fatal(err)
			}
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations an exchange", name, allocs)
		}
		if sends := r.down.sends; sends != 101 {
			t.Errorf("%s: %d sends for 101 answers", name, sends)
		}
	}
}

func BenchmarkParseRequest(b *testing.B) {
	benchmarkParse(b, true, plainRequest)
}

func BenchmarkParseResponse(b *testing.B) {
	benchmarkParse(b, false, plainAnswer[:len(plainAnswer)-13])
}

func benchmarkParse(b *testing.B, request bool, text string) {
	raw := []byte(text)
	limits := DefaultLimits()
	var h message.Head
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		h.Reset()
		p := parser{h: &h, limits: &limits, request: request}
		n, f := p.next(raw)
		h.Load(raw[:n])
		switch {
		case f.bad() || n != len(raw):
		case request:
			f = p.finishRequest()
		default:
			f = p.finishResponse(0)
		}
		if f.bad() || n != len(raw) {
			b.Fatal(f)
		}
	}
}

// BenchmarkExchange is all that the codec does for a request and its answer, both
// sides, in memory; system calls are not in it.
func BenchmarkExchange(b *testing.B) {
	r := newRelay()
	request, response := []byte(plainRequest), []byte(plainAnswer)
	b.ReportAllocs()
	for b.Loop() {
		if err := r.run(request, response); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkChunked16KiB(b *testing.B) {
	r := newRelay()
	var chunks []byte
	for range 16 {
		chunks = append(append(append(chunks, "400\r\n"...), make([]byte, 1024)...), "\r\n"...)
	}
	request := []byte(plainRequest)
	response := []byte(ok("Transfer-Encoding: chunked", string(chunks)+"0\r\n\r\n"))
	b.ReportAllocs()
	b.SetBytes(16 << 10)
	for b.Loop() {
		if err := r.run(request, response); err != nil {
			b.Fatal(err)
		}
	}
}
