package main

import (
	"context"
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
	"time"
)

// lifetime of what the authority makes: longer than anybody looks at the stack.
const lifetime = 10 * 365 * 24 * time.Hour

// authority makes what SPIRE is started with, once: an authority that its server signs with
// (ca.pem, ca.key), and a certificate by which its agent proves which host it is (agent.pem,
// agent.key). They lie in a volume, so that no secret stands among the sources and none has to
// be typed. In earnest the host has such a certificate, or a cloud answers for it.
func authority(_ context.Context, args []string) error {
	f := flags("authority")
	dir := f.String("dir", "", "where the files go")
	domain := f.String("trust-domain", "", "of SPIFFE")
	_ = f.Parse(args)
	if *dir == "" || *domain == "" {
		return fmt.Errorf("--dir and --trust-domain are needed")
	}
	if _, err := os.Stat(filepath.Join(*dir, "agent.pem")); err == nil {
		fmt.Println("there is an authority already")
		return nil
	}
	ca := template(1, "shop's authority")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	ca.URIs = []*url.URL{{Scheme: "spiffe", Host: *domain}}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	agentKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := save(*dir, "ca", ca, ca, caKey, caKey); err != nil {
		return err
	}
	agent := template(2, "docker-host")
	agent.KeyUsage, agent.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return save(*dir, "agent", agent, ca, agentKey, caKey)
}

func template(serial int64, name string) *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lifetime)}
}

// save writes NAME.key and then NAME.pem. Whoever can open the volume may read both: SPIRE's
// server and agent run as different users.
func save(dir, name string, c, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	for _, file := range []struct {
		name  string
		block *pem.Block
	}{{name + ".key", &pem.Block{Type: "PRIVATE KEY", Bytes: private}}, {name + ".pem", &pem.Block{Type: "CERTIFICATE", Bytes: der}}} {
		if err := os.WriteFile(filepath.Join(dir, file.name), pem.EncodeToMemory(file.block), 0o644); err != nil {
			return err
		}
	}
	return nil
}
