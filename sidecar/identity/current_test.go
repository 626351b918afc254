package identity

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larboard-proxy/larboard/policy"

	"github.com/larboard-proxy/larboard/tests/pki"
)

// scripted is a source that hands on what the test sends.
type scripted struct {
	ch  chan Material
	err error
}

func (s *scripted) LastError() string { return "the agent is away" }

func (s *scripted) Run(ctx context.Context, out func(Material)) error {
	for {
		select {
		case m, ok := <-s.ch:
			if !ok {
				return s.err
			}
			out(m)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestCurrentFollowsItsSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authority := newCA(t, "mesh")
		current := NewCurrent(quietLog())
		if st := current.Status(); current.Snapshot() != nil || st.Ready || st.LastError != "" {
			t.Fatal("an identity out of nothing")
		}
		src := &scripted{ch: make(chan Material)}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- current.Run(ctx, src) }()

		got := make(chan *Snapshot)
		go func() {
			s, _ := current.Wait(ctx)
			got <- s
		}()
		synctest.Wait()
		if st := current.Status(); st.LastError != "the agent is away" {
			t.Errorf("the source's error is missing: %+v", st)
		}
		first := authority.material(apiID, nil)
		src.ch <- first
		if s := <-got; s == nil || s.ID().String() != apiID || s.Generation() != 1 {
			t.Fatalf("waited for %v", s)
		}
		changed := current.Changed()
		src.ch <- authority.material(apiID, nil)
		<-changed
		synctest.Wait()
		if st := current.Status(); st.Generation != 2 || st.Rotations != 1 || st.Serial == "" || !st.Ready || st.Expired {
			t.Errorf("after a rotation: %+v", st)
		}
		again := first
		again.ID = authority.material(webID, nil).ID
		src.ch <- again // refused: not its own certificate
		synctest.Wait()
		if st := current.Status(); st.Generation != 2 || !strings.Contains(st.LastError, "not "+webID) {
			t.Errorf("after a refused material: %+v", st)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
		if current.Snapshot() == nil {
			t.Error("the end of the source withdrew the identity")
		}
	})
}

func TestCurrentReturnsAPermanentError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &scripted{ch: make(chan Material), err: errors.New("gone for good")}
		close(src.ch)
		if err := NewCurrent(quietLog()).Run(t.Context(), src); !errors.Is(err, src.err) {
			t.Errorf("got %v", err)
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if s, err := NewCurrent(quietLog()).Wait(ctx); s != nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, %v", s, err)
		}
	})
}

func TestStalledRotationIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authority := &ca{pki.NewWith(t, "mesh", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(1000 * time.Hour) }), t}
		var log lockedBuffer
		current := NewCurrent(slog.New(slog.NewTextHandler(&log, nil)))
		src := &scripted{ch: make(chan Material)}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- current.Run(ctx, src) }()
		count := func(text string) int {
			synctest.Wait()
			return strings.Count(log.String(), text)
		}
		src.ch <- authority.material(apiID, nil) // lives an hour and a minute
		time.Sleep(39 * time.Minute)
		if count("rotation is late") != 0 {
			t.Error("warned too early")
		}
		src.ch <- authority.material(apiID, nil)
		time.Sleep(39 * time.Minute)
		if count("rotation is late") != 0 {
			t.Error("warned about a certificate that was replaced")
		}
		time.Sleep(5 * time.Minute)
		if count("rotation is late") != 1 || count("identity expired") != 0 || current.Status().Expired {
			t.Errorf("after two thirds:\n%s", log.String())
		}
		time.Sleep(10 * time.Hour)
		if count("rotation is late") != 1 || count("identity expired") != 1 || !current.Status().Expired {
			t.Errorf("after the end:\n%s", log.String())
		}
		if !strings.Contains(log.String(), "the agent is away") {
			t.Error("the cause is missing in the log")
		}
		cancel()
		<-ended
	})
}

// TestCertificatesAreJudgedByTheClockGiven: an hour's certificate is good now and expired
// under a clock two hours ahead.
func TestCertificatesAreJudgedByTheClockGiven(t *testing.T) {
	authority := newCA(t, "mesh")
	peer := snapshotOf(t, authority.material(webID, nil))
	for _, ahead := range []time.Duration{0, 48 * time.Hour} {
		current := NewCurrentAt(quietLog(), func() time.Time { return time.Now().Add(ahead) })
		current.Set(authority.material(apiID, nil))
		r := handshake(peer.ClientConfig(AnyTrusted()), current.Snapshot().ServerConfig(AnyTrusted()))
		want := policy.None
		if ahead > 0 {
			want = policy.TLSExpired
		}
		if got := policy.ReasonOf(r.server); got != want {
			t.Errorf("%s ahead: %v (%v), want %v", ahead, got, r.server, want)
		}
		if current.Status().Expired != (ahead > 0) {
			t.Errorf("%s ahead: expired %v", ahead, current.Status().Expired)
		}
	}
}
