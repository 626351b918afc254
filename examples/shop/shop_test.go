package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// A chain of three answers with who took part, and a load counts them.
func TestChain(t *testing.T) {
	stock := httptest.NewServer(service("stock", ""))
	defer stock.Close()
	api := httptest.NewServer(service("api", stock.URL))
	defer api.Close()
	l := &loader{url: api.URL, client: newClient(), seen: tally{By: map[string]int{}}}
	for range 3 {
		l.one(t.Context())
	}
	if got := l.tally(); got.Requests != 3 || got.Failed != 0 || got.By["api"] != 3 || got.By["stock"] != 3 {
		t.Errorf("%+v", got)
	}
	stock.Close()
	l.one(t.Context())
	if got := l.tally(); got.Failed != 1 || got.Last == "" {
		t.Errorf("a failure is not counted: %+v", got)
	}
	if err := health(t.Context(), []string{api.URL + "/health"}); err != nil {
		t.Errorf("its health depends on others: %v", err)
	}
	if err := health(t.Context(), []string{api.URL}); err == nil {
		t.Error("a 502 is called healthy")
	}
	w := httptest.NewRecorder()
	l.ServeHTTP(w, nil)
	var told tally
	if err := json.Unmarshal(w.Body.Bytes(), &told); err != nil || told.Requests != 4 {
		t.Errorf("%v %+v", err, told)
	}
}

// A load ends with its context.
func TestLoadEnds(t *testing.T) {
	server := httptest.NewServer(service("web", ""))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	l := &loader{url: server.URL, client: newClient(), seen: tally{By: map[string]int{}}}
	done := make(chan struct{})
	go func() { l.run(ctx, 1000); close(done) }()
	for l.tally().Requests < 5 {
	}
	cancel()
	<-done
	if got := l.tally(); got.Failed != 0 {
		t.Errorf("%+v", got)
	}
}

// The authority's certificates fit together, and a second call changes nothing.
func TestAuthority(t *testing.T) {
	dir := t.TempDir()
	args := []string{"--dir", dir, "--trust-domain", "shop.example"}
	if err := authority(t.Context(), args); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "agent.pem"), filepath.Join(dir, "agent.key"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	if err := authority(t.Context(), args); err != nil {
		t.Error(err)
	}
	if again, err := os.ReadFile(filepath.Join(dir, "ca.pem")); err != nil || string(again) != string(ca) {
		t.Errorf("%v: the authority is another one", err)
	}
	if authority(t.Context(), nil) == nil || load(t.Context(), []string{"--rate", "0"}) == nil || health(t.Context(), nil) == nil {
		t.Error("missing arguments are taken")
	}
}
