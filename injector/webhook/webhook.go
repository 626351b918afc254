// Package webhook serves injector.Mutate to Kubernetes as a mutating admission webhook,
// and keeps the certificate that the API server trusts. It exists so that what decides
// about pods need not know of HTTP, reviews, certificates or an API server; in turn it must
// not know how a pod is put into the mesh.
//
// Start at review.go (one review), then keeper.go (authority, certificate and bundle).
package webhook

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/larboard-proxy/larboard/discovery/filewatch"
	"github.com/larboard-proxy/larboard/injector"
)

const (
	// filePoll is how often files are read again where no change of them is told.
	filePoll = 30 * time.Second
	// shutdownMost is how long reviews that are under way at the end may take; the API
	// server waits 30 s at most.
	shutdownMost = 35 * time.Second
	// Places is how many reviews are decoded at once: what waits holds no body.
	places = 64
	// bodyTime is what a review may take to arrive, once its head is there.
	bodyTime = 3 * time.Second
)

// Options are what an installation chooses. All but Log, Settings and API have a default,
// which New sets.
type Options struct {
	Log      *slog.Logger
	Settings *injector.Settings
	// SettingsFile is where Settings came from; it is read again when it changes. Empty: never.
	SettingsFile string
	// Listen is the address of reviews (HTTPS), Health that of health and metrics (HTTP).
	Listen, Health string
	// API is where namespaces, authority and webhook configuration are.
	API *API
	// CertFile and KeyFile are the serving certificate of somebody else, who also sees to it that the
	// API server trusts it; they are read again when they change. Empty: the injector has an
	// authority of its own.
	CertFile, KeyFile string
	// Namespace and Service are how the API server reaches the injector.
	Namespace, Service string
	// Webhook names the MutatingWebhookConfiguration, Secret where the authority is kept.
	Webhook, Secret string
	// AuthorityLife and CertificateLife are from making to expiry. Each is replaced when a
	// third of it is left.
	AuthorityLife, CertificateLife time.Duration
	// Settle is how long a new authority stands in the webhook configuration before
	// certificates of it are served: until then every API server has noticed.
	Settle time.Duration
	// Drain is how long connections are still accepted after Stop, until the API server knows
	// that the injector goes.
	Drain time.Duration
	// Linger is how long, at most, connections without a review are kept open then: the API server closes
	// them after 90 s, and one that we close may just have got a review, which is lost.
	Linger time.Duration
}

// Server is the injector. Its methods may be called from any goroutine.
type Server struct {
	// immutable after New
	options    Options
	log        *slog.Logger
	metrics    *metrics
	namespaces *namespaces
	keeper     *keeper // nil: certificates are in files
	mutate     func(*corev1.Pod, injector.Namespace, *injector.Settings) (injector.Result, error)
	places     chan struct{}
	stop       chan struct{} // closed by Stop
	open       atomic.Int64  // connections for reviews
	stopOnce   sync.Once

	settings atomic.Pointer[injector.Settings]
	serving  atomic.Pointer[tls.Certificate]
	version  atomic.Pointer[string] // of Kubernetes; nil: not known yet
}

// New checks options; an error is theirs. Nothing is bound and nobody is asked before Run.
func New(o Options) (*Server, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	s := &Server{options: o, log: o.Log, mutate: injector.Mutate, places: make(chan struct{}, places), stop: make(chan struct{})}
	s.settings.Store(o.Settings)
	s.namespaces = newNamespaces(o.API, o.Log)
	if o.CertFile != "" {
		if err := s.readCertificate(); err != nil {
			return nil, err
		}
	} else {
		s.keeper = newKeeper(o, s.serving.Store)
	}
	s.metrics = newMetrics(s)
	return s, nil
}

// complete sets defaults and says what cannot be.
func (o *Options) complete() error {
	o.Listen, o.Health = cmp.Or(o.Listen, ":9443"), cmp.Or(o.Health, ":9444")
	o.Namespace, o.Service = cmp.Or(o.Namespace, ownNamespace()), cmp.Or(o.Service, "larboard-injector")
	o.Webhook, o.Secret = cmp.Or(o.Webhook, "larboard-injector"), cmp.Or(o.Secret, "larboard-injector-ca")
	o.AuthorityLife, o.CertificateLife = cmp.Or(o.AuthorityLife, 365*24*time.Hour), cmp.Or(o.CertificateLife, 24*time.Hour)
	o.Settle, o.Drain, o.Linger = cmp.Or(o.Settle, time.Minute), max(o.Drain, 0), max(o.Linger, 0)
	switch {
	case (o.CertFile == "") != (o.KeyFile == ""):
		return errors.New("a certificate needs its key: give both --cert and --key, or neither")
	case o.AuthorityLife < 0 || o.CertificateLife < 0 || o.Settle < 0:
		return errors.New("a lifetime cannot be negative")
	case o.CertificateLife > o.AuthorityLife:
		return fmt.Errorf("certificates cannot live longer (%v) than their authority (%v)", o.CertificateLife, o.AuthorityLife)
	case 2*o.Settle > o.AuthorityLife/3:
		return fmt.Errorf("a new authority needs %v to be known everywhere, and is made when a third of the old one's life of %v is left: that has to be twice as long at least", o.Settle, o.AuthorityLife)
	}
	return nil
}

// ownNamespace is that of the pod we run in.
func ownNamespace() string {
	name, _ := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
	return cmp.Or(string(name), "larboard-system")
}

// Stop begins the end: not ready, then no new reviews, then Run returns. It does not block.
func (s *Server) Stop() { s.stopOnce.Do(func() { close(s.stop) }) }

func (s *Server) stopping() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// Run serves until Stop has been carried out, and returns nil then; when ctx ends it ends at
// once and returns its error.
func (s *Server) Run(ctx context.Context) error {
	reviews, err := net.Listen("tcp", s.options.Listen)
	if err != nil {
		return fmt.Errorf("listen for reviews: %w", err)
	}
	defer reviews.Close()
	health, err := net.Listen("tcp", s.options.Health)
	if err != nil {
		return fmt.Errorf("listen for health and metrics: %w", err)
	}
	defer health.Close()
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() { s.namespaces.run(ctx) })
	all.Go(func() { s.keepVersion(ctx) })
	all.Go(func() { s.keepCertificate(ctx) })
	if s.options.SettingsFile != "" {
		all.Go(func() { s.keepSettings(ctx) })
	}
	s.log.Info("injector started", "reviews", reviews.Addr().String(), "health", health.Addr().String())
	return s.serve(ctx, reviews, health)
}

// serve runs both servers to their end.
func (s *Server) serve(ctx context.Context, reviews, health net.Listener) error {
	front, back := s.front(), s.back()
	failed := make(chan error, 2)
	var all sync.WaitGroup
	defer all.Wait()
	defer back.Close()
	defer front.Close()
	all.Go(func() { failed <- front.ServeTLS(reviews, "", "") })
	all.Go(func() { failed <- back.Serve(health) })
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stop:
	}
	return s.drain(ctx, reviews, front)
}

// drain ends front without losing a review: from Stop on, each answer asks the API server to close
// its connection (review.go), after Drain no new ones are taken, and those that are left without a review
// are given time to be used or closed by the other side.
func (s *Server) drain(ctx context.Context, reviews net.Listener, front *http.Server) error {
	s.log.Info("injector stopping", "drain", s.options.Drain, "linger", s.options.Linger)
	if !sleep(ctx, s.options.Drain) {
		return ctx.Err()
	}
	reviews.Close()
	for late := time.Now().Add(s.options.Linger); s.open.Load() > 0 && time.Now().Before(late); {
		if !sleep(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
	end, cancel := context.WithTimeout(ctx, shutdownMost)
	defer cancel()
	err := front.Shutdown(end)
	s.log.Info("injector stopped", "error", err)
	return err
}

// counted keeps the number of open connections.
func (s *Server) counted(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.open.Add(-1)
	}
}

// front is the server of reviews.
func (s *Server) front() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("/mutate", s.review)
	return &http.Server{
		Handler:           mux,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: s.certificate},
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       5 * time.Minute, // API servers close after 90 s: none finds a connection closed
		MaxHeaderBytes:    16 << 10,
		ConnState:         s.counted,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// certificate is crypto/tls's question at each handshake.
func (s *Server) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := s.serving.Load(); c != nil {
		return c, nil
	}
	return nil, errors.New("no certificate yet")
}

// keepCertificate keeps serving up to date until ctx ends.
func (s *Server) keepCertificate(ctx context.Context) {
	if s.keeper != nil {
		s.keeper.run(ctx)
		return
	}
	files := []string{s.options.CertFile, s.options.KeyFile}
	_ = filewatch.Watch(ctx, s.log, files, filePoll, func() {
		if err := s.readCertificate(); err != nil {
			s.log.Error("certificate not read, the old one is served", "error", err)
		}
	})
}

// readCertificate serves what is in the files from now on.
func (s *Server) readCertificate() error {
	pair, err := tls.LoadX509KeyPair(s.options.CertFile, s.options.KeyFile)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", s.options.CertFile, s.options.KeyFile, err)
	}
	if old := s.serving.Swap(&pair); old == nil || !old.Leaf.Equal(pair.Leaf) {
		s.log.Info("certificate read", "file", s.options.CertFile, "expires", pair.Leaf.NotAfter)
	}
	return nil
}

// keepSettings reads the settings again when their file changes.
func (s *Server) keepSettings(ctx context.Context) {
	var last []byte
	_ = filewatch.Watch(ctx, s.log, []string{s.options.SettingsFile}, filePoll, func() {
		data, err := os.ReadFile(s.options.SettingsFile)
		if err == nil && bytes.Equal(data, last) {
			return
		}
		first := last == nil
		var settings *injector.Settings
		if err == nil {
			last = data
			settings, err = injector.LoadSettings(s.options.SettingsFile, data)
		}
		s.metrics.reloaded(err == nil)
		if err != nil {
			s.log.Error("settings not read, the old ones hold", "error", err)
			return
		}
		if !first {
			s.log.Info("settings read", "file", s.options.SettingsFile)
		}
		settings.Version = s.options.Settings.Version
		s.settings.Store(settings)
	})
}
