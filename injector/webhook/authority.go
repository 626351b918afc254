package webhook

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// early is how long certificates hold already when they are made: clocks differ.
const early = time.Hour

// authority signs the certificates that the API server is shown. It is immutable.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newAuthority makes one that expires after life.
func newAuthority(now time.Time, life time.Duration) (*authority, error) {
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "larboard-injector authority of " + now.UTC().Format(time.RFC3339)},
		NotBefore: now.Add(-early), NotAfter: now.Add(life),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	a := &authority{cert: template}
	var err error
	if a.cert, a.key, err = a.sign(template); err != nil {
		return nil, err
	}
	return a, nil
}

// sign makes a key and a certificate for it; an authority without a key signs itself.
func (a *authority) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, nil, err
	}
	signer := a.key
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), signer)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}

// issue makes a certificate for names that expires after life, and not after its authority.
func (a *authority) issue(now time.Time, life time.Duration, names []string) (*tls.Certificate, error) {
	end := now.Add(life)
	if end.After(a.cert.NotAfter) {
		end = a.cert.NotAfter
	}
	cert, key, err := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: names[0]}, DNSNames: names, NotBefore: now.Add(-early), NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	})
	if err != nil {
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, nil
}

// bundle is the certificates of all in PEM form.
func bundle(all []*authority) (text []byte) {
	for _, a := range all {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})...)
	}
	return text
}

// encode writes authorities with their keys, in PEM form.
func encode(all []*authority) ([]byte, error) {
	var text []byte
	for _, a := range all {
		key, err := x509.MarshalPKCS8PrivateKey(a.key)
		if err != nil {
			return nil, err
		}
		text = append(text, bundle([]*authority{a})...)
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	}
	return text, nil
}

// decode reads what encode has written, the oldest authority first.
func decode(text []byte) ([]*authority, error) {
	var all []*authority
	var cert *x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		var err error
		switch block.Type {
		case "CERTIFICATE":
			cert, err = x509.ParseCertificate(block.Bytes)
		case "PRIVATE KEY":
			var a *authority
			if a, err = pair(cert, block.Bytes); err == nil {
				all, cert = append(all, a), nil
			}
		}
		if err != nil {
			return nil, err
		}
	}
	if cert != nil || len(bytes.TrimSpace(text)) > 0 {
		return nil, errors.New("a certificate without its key, or something else than PEM")
	}
	slices.SortStableFunc(all, func(a, b *authority) int { return a.cert.NotAfter.Compare(b.cert.NotAfter) })
	return all, nil
}

// pair is an authority of a certificate and its key.
func pair(cert *x509.Certificate, der []byte) (*authority, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || cert == nil || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("a key that does not belong to the certificate before it")
	}
	return &authority{cert, key}, nil
}

// unexpired are those that hold.
func unexpired(all []*authority, now time.Time) []*authority {
	return slices.DeleteFunc(slices.Clone(all), func(a *authority) bool { return !now.Before(a.cert.NotAfter) })
}

// due is when what expires at end after life is replaced: when a third is left.
func due(end time.Time, life time.Duration) time.Time { return end.Add(-life / 3) }

// contains reports whether a bundle in PEM form holds a's certificate.
func contains(text []byte, a *authority) bool { return bytes.Contains(text, bundle([]*authority{a})) }
