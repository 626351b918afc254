package proxy

import (
	"net/netip"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// TestSilentEndpointOfManyStreams: streams that wait for one connection to be made share its fate.
// Nobody waits for longer than a connection may take, and none of them hears of a limit.
func TestSilentEndpointOfManyStreams(t *testing.T) {
	s := newStage(t, calm(), HTTP, overStreams(true), "10.0.2.1:80")
	s.w.Blackhole(netip.MustParseAddrPort("10.0.2.1:80"))
	f := s.dialStreams()
	const streams = 5
	for range streams {
		f.get("/")
	}
	s.w.RunFor(1100 * time.Millisecond) // 1 s is what connecting may take
	for i := range streams {
		if r := s.reason(i + 1); r != policy.ConnectTimeout {
			t.Errorf("stream %d: %v", i, r)
		}
		if took := s.records.all[i].Total; took > 1100*time.Millisecond {
			t.Errorf("stream %d took %v", i, took)
		}
	}
	f.p.Close()
}

// TestFullEndpointIsNoFailingOne: an endpoint all of whose streams are in use is neither suspected
// nor passed over.
func TestFullEndpointIsNoFailingOne(t *testing.T) {
	s := newStage(t, calm(), HTTP, overStreams(true, func(_ *ListenerConfig, s *upstream.Settings) {
		s.MaxConnections, s.HTTP2.MaxStreams = 1, 1
		s.Timeouts.Connect = 100 * time.Millisecond
	}), "10.0.2.1:80")
	s.streamOrigin("10.0.2.1:80", func(q *framedStream) {
		s.w.After(time.Second, func() { q.headers(true, ":status", "200") })
	})
	f := s.dialStreams()
	f.get("/")
	s.w.RunFor(50 * time.Millisecond)
	f.get("/")
	s.w.RunFor(300 * time.Millisecond)
	if r := s.reason(1); r != policy.EndpointLimit {
		t.Errorf("the second: %v", r)
	}
	if n := s.service.Set().Members[0].Suspicion().Failures; n != 0 {
		t.Errorf("%d failures", n)
	}
	s.reason(2)
	f.p.Close()
}

// TestEndpointThatTakesNoStreams says so in its SETTINGS, which come after the first request. Its
// connections do not pile up.
func TestEndpointThatTakesNoStreams(t *testing.T) {
	s := newStage(t, calm(), HTTP, overStreams(true), "10.0.2.1:80")
	all := s.streamOrigin("10.0.2.1:80", func(q *framedStream) { q.headers(true, ":status", "200") },
		xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 0})
	f := s.dialStreams()
	const requests = 20
	for range requests {
		q := f.get("/")
		s.until(time.Second, "an answer", q.Ended)
		s.w.RunFor(10 * time.Millisecond)
	}
	open := 0
	for _, c := range *all {
		if !c.p.Over() {
			open++
		}
	}
	if open > 2 {
		t.Errorf("%d of %d connections are open", open, len(*all))
	}
	f.p.Close()
}
