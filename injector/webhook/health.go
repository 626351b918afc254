package webhook

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// back is the server of health and metrics.
func (s *Server) back() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if why := s.unready(); why != "" {
			http.Error(w, why, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", s.metrics.handler)
	return &http.Server{Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
}

// unready says why reviews should go elsewhere; empty: they may come. Once everything was
// there, an API server that is away changes nothing.
func (s *Server) unready() string {
	pair := s.serving.Load()
	switch {
	case s.stopping():
		return "stopping"
	case s.keeper != nil && s.keeper.waiting() != "":
		return s.keeper.waiting()
	case pair == nil:
		return "no certificate yet"
	case time.Now().After(pair.Leaf.NotAfter):
		return fmt.Sprintf("the certificate has expired at %s", pair.Leaf.NotAfter.Format(time.RFC3339))
	}
	if why := s.namespaces.waiting(); why != "" {
		return why
	}
	if s.version.Load() == nil {
		return "the version of Kubernetes is not known yet"
	}
	return ""
}
