package sidecar

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/discovery/consul"
	"github.com/larboard-proxy/larboard/sidecar/identity"
)

// connectCA is Consul's Connect as the source of an identity: the certificate of a
// service and the authorities, watched apart, make one material.
type connectCA struct {
	client  *consul.Client
	service string
	log     *slog.Logger

	// owned by Run
	leaf  *consul.Leaf
	roots *consul.Roots

	mu       sync.Mutex // guards what follows
	failures [3]string  // of leaf, roots, and what the two make
}

// The places of connectCA.failures.
const (
	leafFailure = iota
	rootsFailure
	materialFailure
)

func newConnectCA(client *consul.Client, service string, log *slog.Logger) *connectCA {
	return &connectCA{client: client, service: service, log: log.With("service", service)}
}

// LastError is what keeps the identity from being renewed; empty while all is well.
func (s *connectCA) LastError() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, text := range s.failures {
		if text != "" {
			all = append(all, text)
		}
	}
	return strings.Join(all, "; ")
}

// Run implements identity.Source.
func (s *connectCA) Run(ctx context.Context, out func(identity.Material)) error {
	ctx, cancel := context.WithCancel(ctx)
	news, ended := make(chan func() bool), make(chan error, 2)
	tell := func(f func() bool) {
		select {
		case news <- f:
		case <-ctx.Done():
		}
	}
	var watches sync.WaitGroup
	watches.Go(func() {
		ended <- s.client.WatchLeaf(ctx, s.service, func(l consul.Leaf) { tell(func() bool { return s.setLeaf(l) }) },
			func(err error) { s.fail(ctx, leafFailure, err) })
	})
	watches.Go(func() {
		ended <- s.client.WatchRoots(ctx, func(r consul.Roots) { tell(func() bool { return s.setRoots(r) }) },
			func(err error) { s.fail(ctx, rootsFailure, err) })
	})
	defer watches.Wait()
	defer cancel()
	for {
		select {
		case changes := <-news:
			if changes() {
				s.combine(out)
			}
		case err := <-ended:
			return err
		}
	}
}

// setLeaf and setRoots take an answer and report whether it says anything new. What is
// handed out again would make every connection anew.
func (s *connectCA) setLeaf(l consul.Leaf) bool {
	s.note(leafFailure, nil)
	if s.leaf != nil && *s.leaf == l {
		return false
	}
	s.leaf = &l
	return true
}

func (s *connectCA) setRoots(r consul.Roots) bool {
	s.note(rootsFailure, nil)
	if s.roots != nil && s.roots.TrustDomain == r.TrustDomain && slices.Equal(s.roots.PEM, r.PEM) {
		return false
	}
	s.roots = &r
	return true
}

// combine hands out what leaf and roots make together.
func (s *connectCA) combine(out func(identity.Material)) {
	if s.leaf == nil || s.roots == nil {
		return
	}
	m, err := connectMaterial(s.leaf, s.roots)
	if err == nil {
		err = asAsked(m, s.roots.TrustDomain, s.client.Namespace(), s.service)
	}
	if err != nil {
		err = fmt.Errorf("identity from consul: %w", err)
	}
	s.note(materialFailure, err)
	if err == nil {
		out(m)
	}
}

func (s *connectCA) fail(ctx context.Context, place int, err error) {
	if ctx.Err() == nil {
		s.note(place, err)
	}
}

// note remembers a failure or its end (nil), and logs what is new of it.
func (s *connectCA) note(place int, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	s.mu.Lock()
	old := s.failures[place]
	s.failures[place] = text
	s.mu.Unlock()
	switch {
	case text == old:
	case text == "":
		s.log.Info("identity source recovered", "after", old)
	default:
		s.log.Warn("consul delivers no new identity, the last one stays", "error", text)
	}
}

// connectMaterial parses what Consul sent. All roots are trusted, the ones that sign no more too.
func connectMaterial(leaf *consul.Leaf, roots *consul.Roots) (identity.Material, error) {
	domain, err := spiffeid.TrustDomainFromString(roots.TrustDomain)
	if err != nil {
		return identity.Material{}, err
	}
	bundle := []byte(strings.Join(roots.PEM, "\n"))
	m, err := identity.ParseMaterial([]byte(leaf.PEM), []byte(string(leaf.Key)), map[spiffeid.TrustDomain][]byte{domain: bundle}, "consul")
	if err != nil {
		return m, err
	}
	return m, verifies(m)
}

// verifies holds a certificate back whose authority has not arrived yet.
func verifies(m identity.Material) error {
	if time.Now().After(m.NotAfter) {
		return errors.New("consul sent a certificate that has expired already; are the clocks right?")
	}
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, root := range m.Bundles[m.ID.TrustDomain()] {
		options.Roots.AddCert(root)
	}
	for _, der := range m.Certificate.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		options.Intermediates.AddCert(c)
	}
	if _, err := m.Certificate.Leaf.Verify(options); err != nil {
		return fmt.Errorf("the certificate does not verify against consul's roots: %w", err)
	}
	return nil
}

// asAsked checks that a certificate is for the service that was asked for. Its
// datacenter is the agent's, whichever that is.
func asAsked(m identity.Material, domain, namespace, service string) error {
	if namespace == "" {
		namespace = "default"
	}
	path := m.ID.Path()
	if rest, ok := strings.CutPrefix(path, "/ap/"); ok {
		_, rest, _ = strings.Cut(rest, "/")
		path = "/" + rest
	}
	rest, inNamespace := strings.CutPrefix(path, "/ns/"+namespace+"/dc/")
	_, name, _ := strings.Cut(rest, "/")
	if m.ID.TrustDomain().Name() != domain || !inNamespace || name != "svc/"+service {
		return fmt.Errorf("the certificate is for %s, not for service %q in namespace %q of trust domain %s", m.ID, service, namespace, domain)
	}
	return nil
}
