package identity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/discovery/filewatch"
)

// FilesOptions configures a source that reads an SVID from PEM files.
type FilesOptions struct {
	// Cert holds the chain, leaf first; Key the private key (PKCS #8, SEC 1 or
	// PKCS #1). They may be one file.
	Cert, Key string
	// Bundles names the file with the authorities of each trusted domain; that of
	// the certificate's own domain must be among them.
	Bundles map[spiffeid.TrustDomain]string
	// Poll is how often the files are read even without a notice; zero: 30 s.
	Poll time.Duration
	Log  *slog.Logger
}

// Files is a Source that follows PEM files which something else rotates.
type Files struct {
	options FilesOptions
	log     *slog.Logger
	failure lastError
	seen    [sha256.Size]byte // of what was last read; owned by Run
}

// NewFiles checks that all files are named; they are first read by Run.
func NewFiles(options FilesOptions) (*Files, error) {
	if options.Cert == "" || options.Key == "" || len(options.Bundles) == 0 {
		return nil, errors.New("identity: files: a certificate, a key and at least one bundle are needed")
	}
	for domain, path := range options.Bundles {
		if path == "" || domain.IsZero() {
			return nil, fmt.Errorf("identity: files: the bundle of trust domain %q has no file", domain.Name())
		}
	}
	if options.Poll <= 0 {
		options.Poll = 30 * time.Second
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	return &Files{options: options, log: options.Log.With("cert", options.Cert)}, nil
}

// LastError is the latest failure to read, empty while the files are good.
func (f *Files) LastError() string { return f.failure.text() }

// Run implements Source. Files that are missing, unreadable or half written (the
// new certificate with the old key) keep the last good material and are looked at
// again at the next change.
func (f *Files) Run(ctx context.Context, out func(Material)) error {
	paths := []string{f.options.Cert, f.options.Key}
	for _, path := range f.options.Bundles {
		paths = append(paths, path)
	}
	return filewatch.Watch(ctx, f.log, paths, f.options.Poll, func() {
		m, fresh, err := f.read()
		f.failure.note(f.log, "identity files cannot be used, the last good ones stay", err)
		if err == nil && fresh {
			out(m)
		}
	})
}

// read returns the material; fresh is false if it is what the last good read saw.
func (f *Files) read() (m Material, fresh bool, err error) {
	certificate, err := os.ReadFile(f.options.Cert)
	if err != nil {
		return m, false, fmt.Errorf("identity: files: %w", err)
	}
	key, err := os.ReadFile(f.options.Key)
	if err != nil {
		return m, false, fmt.Errorf("identity: files: %w", err)
	}
	hash := sha256.New()
	hash.Write(certificate)
	hash.Write(key)
	bundles := make(map[spiffeid.TrustDomain][]*x509.Certificate)
	domains := make([]spiffeid.TrustDomain, 0, len(f.options.Bundles))
	for domain := range f.options.Bundles {
		domains = append(domains, domain)
	}
	slices.SortFunc(domains, spiffeid.TrustDomain.Compare)
	for _, domain := range domains {
		content, err := os.ReadFile(f.options.Bundles[domain])
		if err != nil {
			return m, false, fmt.Errorf("identity: files: bundle of %q: %w", domain.Name(), err)
		}
		hash.Write(content)
		if bundles[domain], err = parseBundle(content); err != nil {
			return m, false, fmt.Errorf("identity: files: bundle of %q in %s: %w", domain.Name(), f.options.Bundles[domain], err)
		}
	}
	svid, err := parseSVID(certificate, key)
	if err != nil {
		return m, false, fmt.Errorf("identity: files: %s with %s: %w", f.options.Cert, f.options.Key, err)
	}
	m = materialOf(svid, bundles, "files")
	if err := checkMaterial(m); err != nil {
		return m, false, err
	}
	sum := [sha256.Size]byte(hash.Sum(nil))
	fresh = sum != f.seen
	f.seen = sum
	return m, fresh, nil
}

// parseBundle reads all certificates of a PEM file; anything else in it, and an
// empty file, is an error: a truncated bundle must not be taken for a small one.
func parseBundle(content []byte) ([]*x509.Certificate, error) {
	var certificates []*x509.Certificate
	for {
		block, rest := pem.Decode(content)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a %q block among the certificates", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certificates)+1, err)
		}
		certificates = append(certificates, c)
		content = rest
	}
	if len(certificates) == 0 {
		return nil, errors.New("no certificate")
	}
	if truncatedPEM(content) {
		return nil, fmt.Errorf("a broken block after %d certificates", len(certificates))
	}
	return certificates, nil
}

// truncatedPEM reports that what follows the last whole block begins another one.
func truncatedPEM(rest []byte) bool { return bytes.Contains(rest, []byte("-----BEGIN")) }
