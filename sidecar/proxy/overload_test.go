package proxy

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
)

// lockedBuffer is a log that is read while others may write to it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// TestRefusedHandshakesAreCounted: handshakes beyond what a loop lets wait are refused, each
// counted with its reason, and the log is told once in a while.
func TestRefusedHandshakesAreCounted(t *testing.T) {
	var log lockedBuffer
	m := newMesh(t)
	r := newRigOn(t, engine.Options{Loops: 1, HandshakeQueue: 1, HandshakeOffload: engine.OffloadNever,
		Log: slog.New(slog.NewTextHandler(&log, nil))}, HTTP, m.listener)
	const callers = 20
	// burst lets the callers come while the loop is held, and returns how many were refused.
	burst := func() (refused int) {
		held, release := make(chan struct{}), make(chan struct{})
		r.engine.Loops()[0].Post(func() { close(held); <-release })
		<-held
		done := make(chan error, callers)
		for range callers {
			c, err := net.Dial("tcp", r.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(20 * time.Second))
			go func() {
				done <- tls.Client(c, &tls.Config{InsecureSkipVerify: true,
					Certificates: []tls.Certificate{issue(t, m.friend, "/web").Certificate}}).Handshake()
			}()
		}
		close(release)
		for range callers {
			if err := <-done; err != nil {
				refused++
			}
		}
		return refused
	}
	refused := burst()
	// Where connections are accepted one by one (goroutines), a burst may arrive spread out.
	for range 200 {
		if refused > 0 {
			break
		}
		refused = burst()
	}
	counted := func() (n int) {
		r.records.mu.Lock()
		defer r.records.mu.Unlock()
		for _, reason := range r.records.refused {
			if reason == policy.Overloaded {
				n++
			}
		}
		return n
	}
	if refused == 0 || refused == callers {
		t.Errorf("%d of %d were refused", refused, callers)
	}
	eventually(t, "all refusals are counted", func() bool { return counted() == refused })
	flushed := make(chan struct{})
	r.engine.Loops()[0].Post(func() { close(flushed) })
	<-flushed
	lines := slices.DeleteFunc(strings.Split(log.String(), "\n"), func(line string) bool {
		return !strings.Contains(line, "connection refused")
	})
	if len(lines) != 1 || !strings.Contains(lines[0], "reason="+policy.Overloaded.String()) {
		t.Errorf("log: %q", lines)
	}
}
