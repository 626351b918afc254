package cli

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/larboard-proxy/larboard/sidecar/config"
)

// fileCheck opens the files that a configuration names, and notes what is wrong
// with them at the fields that name them.
type fileCheck struct {
	config   *config.Config
	problems config.Problems
}

// namedFiles returns the problems of all files that c names. Sockets are left
// alone: who serves them may not be running yet.
func namedFiles(c *config.Config) config.Problems {
	f := &fileCheck{config: c}
	for i, l := range c.Listeners {
		if l.TLS == nil {
			continue
		}
		for j, pair := range l.TLS.Certificates {
			path := fmt.Sprintf("listeners[%d].tls.certificates[%d]", i, j)
			f.pair(path, pair.Cert, pair.Key)
		}
	}
	f.consul(&c.Consul)
	if s := c.RateLimitService; s != nil {
		f.clientTLS("rate_limit_service.tls", s.TLS)
	}
	if o := c.Metrics.OTLP; o != nil {
		f.clientTLS("metrics.otlp.tls", o.TLS)
	}
	if c.Tracing != nil && c.Tracing.OTLP != nil {
		f.clientTLS("tracing.otlp.tls", c.Tracing.OTLP.TLS)
	}
	if c.Identity != nil && c.Identity.Files != nil {
		f.identity("identity.files", c.Identity.Files)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Identities)) {
		if files := c.Identities[name].Files; files != nil {
			f.identity("identities."+name+".files", files)
		}
	}
	return f.problems
}

func (f *fileCheck) report(path, message string) {
	f.problems = append(f.problems, f.config.ProblemAt(path, message))
}

// read returns the content of the file that the field at path names, or nil.
func (f *fileCheck) read(path, name string) []byte {
	if name == "" {
		return nil
	}
	data, err := readNamed(name)
	if err != nil {
		f.report(path, err.Error())
		return nil
	}
	return data
}

// pair checks a certificate with its key, and returns its leaf, or nil.
func (f *fileCheck) pair(path, cert, key string) *x509.Certificate {
	certPEM := f.read(path+".cert", cert)
	keyPEM := f.read(path+".key", key)
	if certPEM != nil && !f.certificates(path+".cert", cert, certPEM) {
		return nil
	}
	if keyPEM != nil && !hasBlock(keyPEM, "PRIVATE KEY") {
		f.report(path+".key", key+": no private key in PEM form")
		return nil
	}
	if certPEM == nil || keyPEM == nil {
		return nil
	}
	loaded, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		f.report(path+".key", fmt.Sprintf("%s does not go with %s: %v", key, cert, err))
		return nil
	}
	return loaded.Leaf
}

// certificates checks that data holds certificates and only readable ones.
func (f *fileCheck) certificates(path, name string, data []byte) bool {
	found := false
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		found = true
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			f.report(path, fmt.Sprintf("%s: a certificate cannot be read: %v", name, err))
			return false
		}
	}
	if !found {
		f.report(path, name+": no certificate in PEM form")
	}
	return found
}

// hasBlock reports whether data holds a PEM block whose type ends in suffix.
func hasBlock(data []byte, suffix string) bool {
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			return false
		}
		if bytes.HasSuffix([]byte(block.Type), []byte(suffix)) {
			return true
		}
		data = rest
	}
}

func (f *fileCheck) consul(c *config.Consul) {
	const path = "consul.token_file"
	if token := f.read(path, c.TokenFile); token != nil && len(bytes.TrimSpace(token)) == 0 {
		f.report(path, c.TokenFile+": the file is empty")
	}
	f.clientTLS("consul.tls", c.TLS)
}

// clientTLS checks what a server of infrastructure is verified and called with; nil is
// nothing.
func (f *fileCheck) clientTLS(path string, t *config.ClientTLS) {
	if t == nil {
		return
	}
	f.bundle(path+".ca", t.CA)
	f.pair(path, t.Cert, t.Key)
}

func (f *fileCheck) bundle(path, name string) {
	if data := f.read(path, name); data != nil {
		f.certificates(path, name, data)
	}
}

func (f *fileCheck) identity(path string, c *config.FilesIdentity) {
	if leaf := f.pair(path, c.Cert, c.Key); leaf != nil {
		if _, err := x509svid.IDFromCert(leaf); err != nil {
			f.report(path+".cert", fmt.Sprintf("%s: not an X.509-SVID: %v", c.Cert, err))
		}
	}
	f.bundle(path+".bundle", c.Bundle)
	domains := make([]string, 0, len(c.Bundles))
	for domain := range c.Bundles {
		domains = append(domains, domain)
	}
	slices.Sort(domains)
	for _, domain := range domains {
		f.bundle(path+".bundles."+domain, c.Bundles[domain])
	}
}
