//go:build linux

package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const serverName = "bench.test"

// certificate names the files of one P-256 certificate. HAProxy wants both parts in
// one file.
type certificate struct{ Cert, Key, Both string }

// certificates are those of a run: of a site, and of a mesh of three with their CA.
type certificates struct {
	Site, Client, Near, Far certificate
	CA                      string
}

// spiffeID is whom a mesh certificate names; Near calls Far.
func spiffeID(service string) string {
	return "spiffe://bench.test/ns/default/dc/dc1/svc/" + service
}

func writeCertificates(dir string) (certificates, error) {
	ca, err := newIssuer()
	if err != nil {
		return certificates{}, fmt.Errorf("certificate: %w", err)
	}
	all := certificates{CA: filepath.Join(dir, "ca.pem")}
	err = os.WriteFile(all.CA, pemOf("CERTIFICATE", ca.cert.Raw), 0o600)
	for name, c := range map[string]*certificate{"site": &all.Site, "client": &all.Client, "near": &all.Near, "far": &all.Far} {
		if err == nil {
			*c, err = ca.write(dir, name)
		}
	}
	if err != nil {
		return all, fmt.Errorf("certificate: %w", err)
	}
	return all, nil
}

// issuer is a certificate authority.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer
	next int64
}

func newIssuer() (*issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench CA"}, URIs: []*url.URL{{Scheme: "spiffe", Host: "bench.test"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &issuer{cert: cert, key: key, next: 2}, err
}

// write issues a certificate for the server name and, but for the site's, a SPIFFE ID.
func (i *issuer) write(dir, name string) (certificate, error) {
	files := certificate{
		Cert: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+".key"), Both: filepath.Join(dir, name+"-both.pem"),
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return files, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(i.next), Subject: pkix.Name{CommonName: serverName},
		NotBefore: i.cert.NotBefore, NotAfter: i.cert.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
		DNSNames: []string{serverName},
	}
	i.next++
	if name != "site" {
		id, err := url.Parse(spiffeID(name))
		if err != nil {
			return files, err
		}
		template.URIs = []*url.URL{id}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.cert, key.Public(), i.key)
	if err != nil {
		return files, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return files, err
	}
	certPEM, keyPEM := pemOf("CERTIFICATE", der), pemOf("PRIVATE KEY", keyDER)
	for file, data := range map[string][]byte{files.Cert: certPEM, files.Key: keyPEM, files.Both: slices.Concat(certPEM, keyPEM)} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			return files, err
		}
	}
	return files, nil
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
