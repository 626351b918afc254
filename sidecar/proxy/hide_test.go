package proxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/route"
	"github.com/larboard-proxy/larboard/sidecar/message"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// TestHiddenReason: what the answer says of a failure is what its status says; the record
// has the reason all the same.
func TestHiddenReason(t *testing.T) {
	hide := func(c *ListenerConfig, _ *upstream.Settings) {
		c.HideReason = true
		c.Routes[0].Steps = append(c.Routes[0].Steps, HideReason{})
		c.Table = route.Compile([]route.Rule{{PathPrefix: "/here"}})
	}
	r := newRig(t, HTTP, hide, closedPort(t))
	for n, c := range []struct {
		path, body string
		status     int
		reason     policy.Reason
	}{
		{"/here", "the service is not available\n", 503, policy.ConnectFailed},
		{"/nowhere", "there is nothing here\n", 404, policy.NoRoute},
	} {
		status, body, header := get(t, client(t), "http://"+r.addr+c.path)
		if status != c.status || body != c.body || header.Get(ReasonHeader) != "" {
			t.Errorf("%s: %d %q %v", c.path, status, body, header)
		}
		if rec := r.records.last(t, n+1); rec.Reason != c.reason {
			t.Errorf("%s: recorded as %s", c.path, rec.Reason)
		}
	}
}

// An endpoint that nobody vouches for keeps its body and loses the field.
func TestHiddenReasonOfAnEndpoint(t *testing.T) {
	o := origin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(ReasonHeader, "no_route")
		http.Error(w, "mine", 404)
	})
	r := newRig(t, HTTP, func(c *ListenerConfig, _ *upstream.Settings) {
		c.HideReason = true
		c.Routes[0].Steps = append(c.Routes[0].Steps, HideReason{})
	}, o)
	status, body, header := get(t, client(t), "http://"+r.addr+"/")
	if status != 404 || body != "mine\n" || header.Get(ReasonHeader) != "" {
		t.Errorf("%d %q %v", status, body, header)
	}
}

// No plain sentence tells more than its status: none is that of the table, and reasons of
// one status share it.
func TestPlainSentences(t *testing.T) {
	of := map[int]string{}
	for _, r := range policy.Reasons()[1:] {
		i := r.Info()
		plain := i.Plain()
		if was, ok := of[i.Status]; ok && was != plain {
			t.Errorf("status %d: %q and %q", i.Status, was, plain)
		}
		of[i.Status] = plain
		if plain == i.Sentence || strings.Contains(plain, i.Code) {
			t.Errorf("%s is told: %q", r, plain)
		}
		if i.Status != 0 && i.Status != 500 && plain == new(policy.ReasonInfo).Plain() {
			t.Errorf("status %d has no sentence", i.Status)
		}
	}
}

// The end of a call that a peer's proxy has ended early says no more than its head would.
func TestHiddenTrailers(t *testing.T) {
	var h message.Head
	h.AddString(message.NameGRPCStatus, "", "14")
	h.AddString(message.NameGRPCMessage, "", "upstream_reset: the endpoint reset the connection")
	h.AddString(message.NameOther, ReasonHeader, "upstream_reset")
	x := &Exchange{conf: &ListenerConfig{}, up: &upstream.Conn{PeerID: "spiffe://mesh.test/api"}}
	if x.hideTrailers(&h); said(&h, ReasonHeader) != "upstream_reset" {
		t.Error("where nothing is hidden they are changed")
	}
	x.conf.HideReason = true
	if x.hideTrailers(&h); said(&h, ReasonHeader) != "" || said(&h, "grpc-message") != "the service is not available" || said(&h, "grpc-status") != "14" {
		t.Errorf("%q %q %q", said(&h, ReasonHeader), said(&h, "grpc-message"), said(&h, "grpc-status"))
	}
	x.hideTrailers(nil)
}

// A peer's answer stays one whatever it says of reasons that no answer has: those end connections.
func TestHiddenReasonWithoutStatus(t *testing.T) {
	for _, reason := range policy.Reasons()[1:] {
		x := &Exchange{conf: &ListenerConfig{HideReason: true}, up: &upstream.Conn{PeerID: "spiffe://mesh.test/api"}}
		x.Resp.SetStatus(404)
		x.Resp.AddString(message.NameOther, ReasonHeader, reason.String())
		err := HideReason{}.Response(x)
		if status := reason.Info().Status; (err == nil) != (status == 0) || status == 0 && said(&x.Resp, ReasonHeader) != "" {
			t.Errorf("%s: %v, %q", reason, err, said(&x.Resp, ReasonHeader))
		}
	}
}

func said(h *message.Head, name string) string {
	v, _ := h.Lookup(name)
	return string(v)
}
