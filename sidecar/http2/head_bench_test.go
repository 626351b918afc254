package http2

import (
	"bytes"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"

	ours "github.com/larboard-proxy/larboard/sidecar/http2/hpack"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// grpcRequest is what grpc-go sends, with what a proxy and tracing add.
func grpcRequest() []string {
	return []string{":method: POST", ":scheme: http", ":path: /warehouse.v1.Stock/Reserve", ":authority: stock.example.internal:8080",
		"content-type: application/grpc", "user-agent: grpc-go/1.85.0", "te: trailers", "grpc-timeout: 4999821u",
		"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "x-request-id: 0af7651916cd43dd8448eb211c80319c",
		"x-forwarded-for: 10.1.2.3", "x-forwarded-proto: http"}
}

// steady returns the second of two equal blocks of an encoder: its fields are in the
// table then.
func steady(lines []string, plain bool) (first, second []byte) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	if plain {
		e.SetMaxDynamicTableSizeLimit(0)
	}
	var blocks [2][]byte
	for i := range blocks {
		b.Reset()
		for _, line := range lines {
			name, value, _ := strings.Cut(line[1:], ": ")
			_ = e.WriteField(hpack.HeaderField{Name: line[:1] + name, Value: value})
		}
		blocks[i] = bytes.Clone(b.Bytes())
	}
	return blocks[0], blocks[1]
}

func BenchmarkRequestHead(b *testing.B) {
	first, again := steady(grpcRequest(), false)
	_, coded := steady(grpcRequest(), true)
	h := requestOf(b, grpcRequest())
	literals, _ := appendRequest(nil, newEncoder(), h, target{}, true)
	e := newEncoder()
	seen, _ := appendRequest(nil, e, h, target{}, true)
	stored, _ := appendRequest(nil, e, h, target{}, true)
	adaptive, _ := appendRequest(nil, e, h, target{}, true)
	for _, bc := range []struct {
		name   string
		before [][]byte
		block  []byte
	}{{"indexed", [][]byte{first}, again}, {"huffman", nil, coded}, {"literals", nil, literals}, {"ours", [][]byte{seen, stored}, adaptive}} {
		b.Run(bc.name, func(b *testing.B) {
			d := newDecoder()
			var h message.Head
			for _, block := range bc.before {
				d.request(block, false, &h)
			}
			b.ReportAllocs()
			b.SetBytes(int64(len(bc.block)))
			for b.Loop() {
				if f := d.request(bc.block, false, &h); f.bad() {
					b.Fatal(f)
				}
			}
		})
		b.Run(bc.name+"/hpack alone", func(b *testing.B) {
			var d ours.Decoder
			d.Init(4096, nil)
			var f ours.Field
			all := func(block []byte) {
				for d.Begin(block); ; {
					if ok, err := d.Next(&f); err != nil {
						b.Fatal(err)
					} else if !ok {
						return
					}
				}
			}
			for _, block := range bc.before {
				all(block)
			}
			b.ReportAllocs()
			for b.Loop() {
				all(bc.block)
			}
		})
		b.Run(bc.name+"/x-net hpack alone", func(b *testing.B) {
			n := 0
			d := hpack.NewDecoder(4096, func(f hpack.HeaderField) { n += len(f.Name) })
			for _, block := range bc.before {
				_, _ = d.Write(block)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Write(bc.block); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// requestOf reads lines into a head, as if they had come from a peer.
func requestOf(t testing.TB, lines []string) *message.Head {
	t.Helper()
	var h message.Head
	if f := newDecoder().request(blockOf(t, lines...), false, &h); f.bad() {
		t.Fatal(f)
	}
	return &h
}

func BenchmarkAppendRequest(b *testing.B) {
	h := requestOf(b, grpcRequest())
	for _, table := range []bool{true, false} {
		benchmarkAppend(b, h, table)
	}
	b.Run("x-net", func(b *testing.B) {
		var out bytes.Buffer
		e := hpack.NewEncoder(&out)
		var fields []hpack.HeaderField
		for _, line := range grpcRequest() {
			name, value, _ := strings.Cut(line[1:], ": ")
			fields = append(fields, hpack.HeaderField{Name: line[:1] + name, Value: value})
		}
		b.ReportAllocs()
		for b.Loop() {
			out.Reset()
			for _, f := range fields {
				_ = e.WriteField(f)
			}
		}
		b.ReportMetric(float64(out.Len()), "bytes/head")
	})
}

func benchmarkAppend(b *testing.B, h *message.Head, table bool) {
	name := "ours"
	if !table {
		name = "ours, without table"
	}
	b.Run(name, func(b *testing.B) {
		e := newEncoder()
		if !table {
			e.WithoutTable()
		}
		var block []byte
		b.ReportAllocs()
		for b.Loop() {
			block, _ = appendRequest(block[:0], e, h, target{}, true)
		}
		b.ReportMetric(float64(len(block)), "bytes/head")
	})
}
