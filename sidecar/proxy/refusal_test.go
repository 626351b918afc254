package proxy

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/policy"
)

// Who only looks whether a port is open, as Consul's TCP check does, is no news; who is
// not let in is.
func TestRefusalsWorthALine(t *testing.T) {
	for reason, want := range map[policy.Reason]string{
		policy.ClientAborted:    "level=DEBUG",
		policy.TLSUnknownDomain: "level=WARN",
		policy.NoIdentity:       "level=WARN",
	} {
		var out bytes.Buffer
		var l refusalLog
		l.init(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
		for range 3 {
			l.log("connection refused", "inbound", &policy.Error{Reason: reason, Err: errors.New("EOF")})
		}
		if got := out.String(); !strings.Contains(got, want) || strings.Count(got, "\n") != 1 {
			t.Errorf("%v: %q, want one line with %s", reason, got, want)
		}
	}
}
