// Package probes serves those who ask from outside the host whether the proxy and its
// workload are well, without being of the mesh: the kubelet. It exists apart from the admin
// interface because it is reachable from outside and therefore tells next to nothing and
// changes nothing, and apart from the data plane because the kubelet has no certificate.
// It must not know the proxy: what is ready is told it by a function, and the workload is
// asked on this host only.
package probes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The limits of the server. Whoever reaches the address may ask, so that each costs little.
const (
	headTimeout = 5 * time.Second
	headLimit   = 16 << 10
	stopTimeout = time.Second
	// Connections is how many there may be at once; with one more, the oldest of the host that
	// has most of them is closed.
	Connections = 64
	// answerTime is what an answer gets beyond the longest check.
	answerTime = 5 * time.Second
)

// The paths that are answered without asking the workload.
const (
	readyPath = "/ready"
	livePath  = "/live"
)

// Check is what is done when Path is asked for; exactly one of HTTP, TCP and GRPC is set.
type Check struct {
	Path    string
	HTTP    *HTTP
	TCP     *TCP
	GRPC    *GRPC
	Timeout time.Duration
}

// HTTP asks the workload over HTTP; a status from 200 to 399 is good.
type HTTP struct {
	Port    int
	Path    string // with its query
	Secure  bool   // over TLS, see ask
	Host    string // empty: the address of this host that was asked
	Headers map[string]string
}

// TCP connects to the workload.
type TCP struct{ Port int }

// GRPC asks the workload's health service; empty Service: the server as a whole.
type GRPC struct {
	Port    int
	Service string
}

// Options say where to serve what.
type Options struct {
	Address string // host:port
	Checks  []Check
	// Ready reports whether traffic should be sent here and, if not, why. Called from
	// several goroutines at once.
	Ready  func() (bool, []string)
	Logger *slog.Logger
}

// Server is a bound listener for probes.
type Server struct {
	// immutable after New
	listener net.Listener
	http     *http.Server
	ready    func() (bool, []string)
	checks   map[string]Check // by path
}

// New binds; Run serves.
func New(o Options) (*Server, error) {
	l, err := net.Listen("tcp", o.Address)
	if port, ok := strings.CutPrefix(o.Address, "[::]"); ok && errors.Is(err, syscall.EAFNOSUPPORT) {
		l, err = net.Listen("tcp", "0.0.0.0"+port) // as other listeners do where the kernel has no IPv6
	}
	if err != nil {
		return nil, fmt.Errorf("probes: %w", err)
	}
	s := &Server{listener: limited(l, Connections), ready: o.Ready, checks: map[string]Check{}}
	longest := time.Duration(0)
	for _, c := range o.Checks {
		s.checks[c.Path] = c
		longest = max(longest, c.Timeout)
	}
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		ReadHeaderTimeout: headTimeout,
		ReadTimeout:       headTimeout,
		WriteTimeout:      longest + answerTime,
		IdleTimeout:       headTimeout,
		MaxHeaderBytes:    headLimit,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Addr is the bound address.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run serves until ctx ends, and waits a moment for what is under way. It returns nil
// after ctx has ended, and the error otherwise.
func (s *Server) Run(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(s.listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("probes: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if s.http.Shutdown(stop) != nil {
		s.http.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("probes: %w", err)
	}
	return nil
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		answer(w, http.StatusMethodNotAllowed, "ask with GET")
		return
	}
	switch path := r.URL.EscapedPath(); path {
	case livePath:
		answer(w, http.StatusOK, "alive")
	case readyPath:
		if ready, reasons := s.ready(); !ready {
			answer(w, http.StatusServiceUnavailable, strings.Join(reasons, ", "))
			return
		}
		answer(w, http.StatusOK, "ready")
	default:
		c, known := s.checks[path]
		if !known {
			answer(w, http.StatusNotFound, "nothing is checked at this path")
			return
		}
		said, ok := c.run(r.Context())
		if !ok {
			answer(w, http.StatusServiceUnavailable, said)
			return
		}
		answer(w, http.StatusOK, said)
	}
}

func answer(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	fmt.Fprintln(w, text)
}

// limited is l with so many connections at once. A further one is accepted: whoever holds many
// must not keep the kubelet waiting, which takes that for a workload that is not well.
func limited(l net.Listener, most int) net.Listener { return &limitedListener{Listener: l, most: most} }

type limitedListener struct {
	net.Listener
	most int

	mu   sync.Mutex // guards open; held for moments
	open []*limitedConn
}

// limitedConn is one of a listener's open, the oldest of which is the first.
type limitedConn struct {
	net.Conn
	of   *limitedListener
	host string
}

func (l *limitedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &limitedConn{Conn: conn, of: l}
	c.host, _, _ = net.SplitHostPort(conn.RemoteAddr().String())
	if last := l.add(c); last != nil {
		last.Close()
	}
	return c, nil
}

// add returns the one that has to go.
func (l *limitedListener) add(c *limitedConn) (last *limitedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = append(l.open, c)
	if len(l.open) <= l.most {
		return nil
	}
	count := map[string]int{}
	for _, one := range l.open {
		count[one.host]++
	}
	for _, one := range l.open {
		if last == nil || count[one.host] > count[last.host] {
			last = one
		}
	}
	return last
}

func (c *limitedConn) Close() error {
	l := c.of
	l.mu.Lock()
	l.open = slices.DeleteFunc(l.open, func(one *limitedConn) bool { return one == c })
	l.mu.Unlock()
	return c.Conn.Close()
}
