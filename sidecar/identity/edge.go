package identity

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/larboard-proxy/larboard/discovery/filewatch"
)

// KeyPair names the PEM files of one certificate of an edge listener: the chain,
// leaf first, and its key.
type KeyPair struct{ Cert, Key string }

// EdgeCertificates are the certificates of a listener that serves clients without
// SPIFFE IDs: browsers, command lines, foreign systems.
type EdgeCertificates struct {
	pairs   []KeyPair
	log     *slog.Logger
	loaded  atomic.Pointer[edgeSet]
	failure lastError
}

// edgeSet is one immutable reading of the files.
type edgeSet struct {
	all    []*tls.Certificate            // in the order configured, the first is the default
	byName map[string][]*tls.Certificate // DNS name or "*.suffix", lower case
	slow   bool                          // one of the keys is RSA
}

// ServerCertificates reads the pairs; the first is presented to clients that name
// no server or one that no certificate holds. An unreadable, broken or mismatched
// pair is an error.
func ServerCertificates(pairs []KeyPair, log *slog.Logger) (*EdgeCertificates, error) {
	if len(pairs) == 0 {
		return nil, errors.New("identity: a tls listener needs at least one certificate")
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	e := &EdgeCertificates{pairs: slices.Clone(pairs), log: log}
	return e, e.Reload()
}

// Reload reads the files again. On an error the certificates in use stay, and the
// error, which names the pair, is also returned. It reads the disk.
func (e *EdgeCertificates) Reload() error {
	set := &edgeSet{byName: make(map[string][]*tls.Certificate)}
	for _, p := range e.pairs {
		c, err := tls.LoadX509KeyPair(p.Cert, p.Key)
		if err != nil {
			return fmt.Errorf("identity: certificate %s with key %s: %w", p.Cert, p.Key, err)
		}
		set.all = append(set.all, &c)
		if _, ok := c.PrivateKey.(*rsa.PrivateKey); ok {
			set.slow = true
		}
		for _, name := range c.Leaf.DNSNames {
			name = strings.ToLower(name)
			set.byName[name] = append(set.byName[name], &c)
		}
	}
	e.loaded.Store(set)
	return nil
}

// Run reloads when the files change until ctx ends, whose error it returns.
func (e *EdgeCertificates) Run(ctx context.Context) error {
	var paths []string
	for _, p := range e.pairs {
		paths = append(paths, p.Cert, p.Key)
	}
	return filewatch.Watch(ctx, e.log, paths, 30*time.Second, func() {
		e.failure.note(e.log, "certificates cannot be used, the last good ones stay", e.Reload())
	})
}

// LastError is the latest failure to reload, empty while the files are good.
func (e *EdgeCertificates) LastError() string { return e.failure.text() }

// Config returns a listener's configuration: TLS 1.2 with forward secrecy and
// authenticated encryption only, and 1.3. alpn is what the listener speaks; none:
// http/1.1. Session tickets stay on, for nobody is authorized by a certificate
// here. Certificates are looked up for each handshake, so a reload needs no new
// configuration.
func (e *EdgeCertificates) Config(alpn ...string) *tls.Config {
	if len(alpn) == 0 {
		alpn = []string{"http/1.1"}
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{ // of TLS 1.2; those of 1.3 are all good
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		NextProtos:    slices.Clone(alpn),
		Renegotiation: tls.RenegotiateNever,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return e.loaded.Load().choose(hello), nil
		},
	}
}

// Slow reports whether one of the keys in use is RSA.
func (e *EdgeCertificates) Slow() bool { return e.loaded.Load().slow }

// choose prefers the exact name over the wildcard and, within a name, the first
// certificate whose key the client can verify.
func (s *edgeSet) choose(hello *tls.ClientHelloInfo) *tls.Certificate {
	if len(s.all) == 1 {
		return s.all[0]
	}
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	candidates := s.byName[name]
	if _, suffix, found := strings.Cut(name, "."); found && len(candidates) == 0 {
		candidates = s.byName["*."+suffix]
	}
	for _, c := range candidates {
		if hello.SupportsCertificate(c) == nil {
			return c
		}
	}
	if len(candidates) > 0 {
		return candidates[0]
	}
	return s.all[0]
}
