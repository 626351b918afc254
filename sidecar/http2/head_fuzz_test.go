package http2

import (
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/http2/hpack"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// sound reports what must hold of every head that is accepted, whatever wrote it.
func sound(t *testing.T, h *message.Head) {
	t.Helper()
	cookies := 0
	for _, f := range h.Fields() {
		name, value := h.Name(f), h.Value(f)
		switch {
		case f.Deleted():
			continue
		case f.ID.HopByHop() || f.ID == message.NameHost:
			t.Errorf("%s is among the fields", name)
		case f.ID != message.IDOf(name):
			t.Errorf("%s has the id of %s", name, f.ID)
		case f.ID == message.NameCookie:
			cookies++
		}
		if tag, bad := judgeName(name); bad != "" || isPseudo(tag) {
			t.Errorf("the name %q", name)
		}
		if bad := judgeText(value); bad != "" {
			t.Errorf("the value %q", value)
		}
	}
	if cookies > 1 {
		t.Errorf("%d Cookie fields", cookies)
	}
}

// plainly is shown without the marks of what is sensitive: the encoder adds some.
func plainly(h *message.Head) string { return strings.ReplaceAll(shown(h), " (sensitive)", "") }

// FuzzRequestHead: what is accepted is sound, and is the same after it was written and
// read again.
func FuzzRequestHead(f *testing.F) {
	for _, lines := range [][]string{
		grpcRequest(), withGet("cookie: a=1", "x: y", "cookie: b=2"), withGet("host: a", "te: trailers", "content-length: 0"),
		{":method: CONNECT", ":protocol: websocket", ":scheme: https", ":path: /chat", ":authority: a"},
		{":method: CONNECT", ":authority: a:1"}, {":method: OPTIONS", ":scheme: http", ":path: *", "host: [::1]:80"},
	} {
		f.Add(blockOf(f, lines...), true)
		f.Add(blockOf(f, lines...), false)
	}
	f.Fuzz(func(t *testing.T, block []byte, end bool) {
		d := newDecoder()
		d.rules.connect = true
		var h, again message.Head
		if f := d.request(block, end, &h); f.bad() {
			if f.text == "" || (f.kind == faultConnection) != (f.reason == policy.HTTP2Compression) {
				t.Errorf("%+v", f)
			}
			return
		}
		sound(t, &h)
		if host, _ := message.SplitAuthority(h.AuthorityBytes()); host == nil || !message.IsToken(h.MethodBytes()) ||
			!message.IsTarget(h.PathBytes()) {
			t.Errorf("%s", shown(&h))
		}
		written, bad := appendRequest(nil, newEncoder(), &h, target{}, true)
		if bad != "" {
			t.Fatalf("%s: %s", shown(&h), bad)
		}
		d = newDecoder()
		d.rules = &headRules{list: 1 << 20, fields: 1000, connect: true}
		if f := d.request(written, end, &again); f.bad() {
			t.Fatalf("%s: %+v", shown(&h), f)
		}
		h.Del(message.NameSecWebSocketKey) // made anew
		again.Del(message.NameSecWebSocketKey)
		if got, want := plainly(&again), plainly(&h); got != want {
			t.Errorf("%s\nwas  %s", got, want)
		}
	})
}

func FuzzResponseHead(f *testing.F) {
	f.Add(blockOf(f, ":status: 200", "content-type: x", "set-cookie: a=1"), true, uint8(0))
	f.Add(blockOf(f, ":status: 200", "content-length: 7"), true, uint8(1))
	f.Add(blockOf(f, ":status: 200"), false, uint8(2))
	f.Add(blockOf(f, ":status: 200", "sec-websocket-protocol: p"), false, uint8(3))
	f.Add(blockOf(f, ":status: 103", "link: x"), false, uint8(0))
	f.Fuzz(func(t *testing.T, block []byte, end bool, to uint8) {
		a := [...]asked{{}, {head: true}, {connect: true}, {tunnel: acceptOf(nil)}}[to&3]
		var h, again message.Head
		if f := newDecoder().response(block, end, a, &h); f.bad() {
			return
		}
		sound(t, &h)
		written, bad := appendResponse(nil, newEncoder(), &h, a)
		if bad != "" {
			t.Fatalf("%s: %s", shown(&h), bad)
		}
		d := newDecoder()
		d.rules = &headRules{list: 1 << 20, fields: 1000}
		if f := d.response(written, end, a, &again); f.bad() {
			t.Fatalf("%s: %+v", shown(&h), f)
		}
		if got, want := plainly(&again), plainly(&h); got != want && !(h.Framing.Kind == message.NoBody && h.Framing.Length >= 0) {
			t.Errorf("%s\nwas  %s", got, want)
		}
	})
}

func FuzzTrailers(f *testing.F) {
	f.Add(blockOf(f, "grpc-status: 0", "grpc-message: ok", "x: y"))
	f.Fuzz(func(t *testing.T, block []byte) {
		var h message.Head
		if f := newDecoder().trailers(block, &h); f.bad() {
			return
		}
		sound(t, &h)
		for _, f := range h.Fields() {
			if !f.ID.Trailing() {
				t.Errorf("%s in a trailer section", h.Name(f))
			}
		}
		appendTrailers(nil, newEncoder(), &h)
	})
}

// TestHeadsAllocateNothing in steady state, in either direction.
func TestHeadsAllocateNothing(t *testing.T) {
	var scratch hpack.Scratch
	var d, back headDecoder
	d.init(testRules(), &scratch)
	back.init(testRules(), &scratch)
	_, coded := steady(grpcRequest(), true)
	answer := blockOf(t, ":status: 200", "content-type: application/grpc", "x-odd: 1")
	last := blockOf(t, "grpc-status: 0", "grpc-message: ")
	e, r := newEncoder(), newEncoder()
	var h, again message.Head
	var block []byte
	once := func() {
		if f := d.request(coded, false, &h); f.bad() {
			t.Fatal(f)
		}
		block, _ = appendRequest(block[:0], e, &h, target{}, true)
		if f := back.request(block, false, &again); f.bad() {
			t.Fatal(f)
		}
		if a := askedBy(&again); a != (asked{}) {
			t.Fatal(a)
		}
		d.response(answer, false, asked{}, &h)
		block, _ = appendResponse(block[:0], r, &h, asked{})
		d.trailers(last, &h)
		block = appendTrailers(block, r, &h)
	}
	for range 3 {
		once()
	}
	if allocs := testing.AllocsPerRun(200, once); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}
