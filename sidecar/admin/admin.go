// Package admin serves the HTTP interface for operators: health, metrics, read-only
// views of the running proxy, and reload. It exists apart from the data plane so
// that an operator's request can never slow a user's. It must not know how the
// proxy works: it shows views that it defines itself and that the composition root
// fills. It speaks to its own host only.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// The limits of the server. An admin client that is slow or silent holds a
// connection no longer than this.
const (
	headTimeout  = 5 * time.Second
	readTimeout  = 10 * time.Second
	writeTimeout = 30 * time.Second
	idleTimeout  = time.Minute
	headLimit    = 16 << 10
	bodyLimit    = 4 << 10
	stopTimeout  = 2 * time.Second
)

// Options say where to serve what.
type Options struct {
	// Address is host:port with a loopback host, or unix:///path. Empty: none.
	Address string
	// Socket is the path of a Unix socket, made with mode 0600. Empty: none.
	Socket string
	Views  Views
	Logger *slog.Logger
}

// Server is a bound admin server.
type Server struct {
	// immutable after New
	listeners []net.Listener
	http      *http.Server
	logger    *slog.Logger
	views     Views

	reloading sync.Mutex // held while Reload runs; only ever tried
}

// New checks the options and binds; Run serves. It refuses an address that is not
// loopback: the interface has no users and no passwords.
func New(o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	listeners, err := listen(o)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	s := &Server{listeners: listeners, logger: o.Logger, views: o.Views}
	s.http = &http.Server{
		Handler:           protect(s.routes()),
		ReadHeaderTimeout: headTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headLimit,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
		ConnContext:       markConn,
	}
	return s, nil
}

// Addr returns the first address bound: the TCP one where there is one.
func (s *Server) Addr() net.Addr { return s.listeners[0].Addr() }

// Run serves until ctx ends, then waits up to two seconds for requests under way.
// It returns nil after ctx has ended, and the error otherwise.
func (s *Server) Run(ctx context.Context) error {
	failed := make(chan error, len(s.listeners))
	for _, l := range s.listeners {
		go func() { failed <- s.http.Serve(l) }()
	}
	var err error
	waiting := len(s.listeners)
	select {
	case <-ctx.Done():
	case err = <-failed:
		waiting--
	}
	stop, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if s.http.Shutdown(stop) != nil {
		s.http.Close()
	}
	for range waiting {
		<-failed
	}
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin: %w", err)
	}
	return nil
}
