package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// svidFiles is a directory with an identity in three files.
type svidFiles struct {
	t                 *testing.T
	cert, key, bundle string
}

func (f svidFiles) write(authority *ca, certificate tls.Certificate) {
	f.t.Helper()
	writePEM(f.t, f.bundle, certBlock(authority.Cert.Raw))
	writePEM(f.t, f.key, keyBlock(f.t, certificate.PrivateKey))
	writePEM(f.t, f.cert, certBlock(certificate.Certificate[0]))
}

func (f svidFiles) options(poll time.Duration) FilesOptions {
	return FilesOptions{Cert: f.cert, Key: f.key, Poll: poll,
		Bundles: map[spiffeid.TrustDomain]string{meshDomain: f.bundle}, Log: quietLog()}
}

func filesIn(t *testing.T, dir string) svidFiles {
	return svidFiles{t, filepath.Join(dir, "svid.pem"), filepath.Join(dir, "svid.key"), filepath.Join(dir, "bundle.pem")}
}

// following runs a Files source; each value of the channel is one material or the
// text of one warning.
func following(t *testing.T, options FilesOptions) (<-chan Material, <-chan string) {
	t.Helper()
	materials, warnings := make(chan Material, 100), make(chan string, 100)
	options.Log = everyWarning(warnings)
	source, err := NewFiles(options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { source.Run(ctx, func(m Material) { materials <- m }) })
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
	return materials, warnings
}

func next[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func TestFilesFollowAtomicRenames(t *testing.T) {
	noLeaks(t)
	f, authority := filesIn(t, t.TempDir()), newCA(t, "mesh")
	first := authority.Issue(nil, apiID)
	f.write(authority, first)
	materials, warnings := following(t, f.options(time.Hour))
	if m := next(t, materials); m.ID.String() != apiID || !m.Certificate.Leaf.Equal(first.Leaf) || m.Source != "files" {
		t.Fatalf("got %v", m)
	}
	second := authority.Issue(nil, apiID)
	writePEM(t, f.key, keyBlock(t, second.PrivateKey))
	if text := next(t, warnings); !strings.Contains(text, "private key does not match") {
		t.Errorf("the half-written pair: %q", text)
	}
	writePEM(t, f.cert, certBlock(second.Certificate[0]))
	if m := next(t, materials); !m.Certificate.Leaf.Equal(second.Leaf) {
		t.Errorf("got %v", m)
	}
	other := newCA(t, "second root")
	writePEM(t, f.bundle, certBlock(authority.Cert.Raw), certBlock(other.Cert.Raw))
	if m := next(t, materials); len(m.Bundles[meshDomain]) != 2 {
		t.Errorf("%d authorities", len(m.Bundles[meshDomain]))
	}
	if len(materials) != 0 {
		t.Error("material that nothing changed was delivered again")
	}
}

// Kubernetes replaces all files of a volume at once by renaming the link ..data.
func TestFilesFollowLinkSwaps(t *testing.T) {
	noLeaks(t)
	dir, authority := t.TempDir(), newCA(t, "mesh")
	version := func(name string) tls.Certificate {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		c := authority.Issue(nil, apiID)
		filesIn(t, filepath.Join(dir, name)).write(authority, c)
		if err := os.Symlink(name, filepath.Join(dir, "..new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
		return c
	}
	version("..1")
	f := filesIn(t, dir)
	for _, path := range []string{f.cert, f.key, f.bundle} {
		if err := os.Symlink(filepath.Join("..data", filepath.Base(path)), path); err != nil {
			t.Fatal(err)
		}
	}
	materials, _ := following(t, f.options(time.Hour))
	next(t, materials)
	second := version("..2")
	if m := next(t, materials); !m.Certificate.Leaf.Equal(second.Leaf) {
		t.Errorf("got %v", m)
	}
}

// The files come later than the proxy; then the directory is replaced as a whole,
// which only the poll sees.
func TestFilesThatAppearLater(t *testing.T) {
	noLeaks(t)
	dir, authority := filepath.Join(t.TempDir(), "svid"), newCA(t, "mesh")
	f := filesIn(t, dir)
	materials, warnings := following(t, f.options(20*time.Millisecond))
	if text := next(t, warnings); !strings.Contains(text, "no such file") {
		t.Errorf("got %q", text)
	}
	for range 2 {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		c := authority.Issue(nil, apiID)
		f.write(authority, c)
		for m := next(t, materials); !m.Certificate.Leaf.Equal(c.Leaf); m = next(t, materials) {
		}
	}
}

func TestFilesAreChecked(t *testing.T) {
	authority := newCA(t, "mesh")
	tests := []struct {
		name  string
		spoil func(f svidFiles)
		text  string
	}{
		{"empty certificate", func(f svidFiles) { replaceFile(t, f.cert, nil) }, "svid"},
		{"truncated certificate", func(f svidFiles) { truncate(t, f.cert) }, "svid.pem"},
		{"truncated key", func(f svidFiles) { truncate(t, f.key) }, "svid.key"},
		{"truncated bundle", func(f svidFiles) { truncate(t, f.bundle) }, "no certificate"},
		{"second root truncated", func(f svidFiles) {
			replaceFile(t, f.bundle, append(pem.EncodeToMemory(certBlock(authority.Cert.Raw)), "-----BEGIN CERTIFICATE-----\nMII"...))
		}, "broken block after 1"},
		{"key in the bundle", func(f svidFiles) { writePEM(t, f.bundle, keyBlock(t, authority.Key)) }, `"PRIVATE KEY" block`},
		{"missing bundle", func(f svidFiles) { os.Remove(f.bundle) }, "no such file"},
		{"another trust domain", func(f svidFiles) { f.write(authority, authority.Issue(nil, "spiffe://other.test/a")) }, `own trust domain "other.test"`},
		{"no SPIFFE ID", func(f svidFiles) { f.write(authority, authority.Issue(nil)) }, "URI SAN"},
		{"an authority", func(f svidFiles) {
			f.write(authority, authority.Issue(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }, apiID))
		}, "CA flag"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			f := filesIn(t, t.TempDir())
			f.write(authority, authority.Issue(nil, apiID))
			source, err := NewFiles(f.options(0))
			if err != nil {
				t.Fatal(err)
			}
			if _, fresh, err := source.read(); err != nil || !fresh {
				t.Fatalf("good files: fresh %v, %v", fresh, err)
			}
			tc.spoil(f)
			if _, _, err := source.read(); err == nil || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v, want %q", err, tc.text)
			}
		})
	}
}

func truncate(t *testing.T, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	replaceFile(t, path, content[:len(content)/2])
}

func TestFilesOptionsAreChecked(t *testing.T) {
	for name, options := range map[string]FilesOptions{
		"nothing":            {},
		"no bundle":          {Cert: "c", Key: "k"},
		"bundle of no file":  {Cert: "c", Key: "k", Bundles: map[spiffeid.TrustDomain]string{meshDomain: ""}},
		"bundle of no realm": {Cert: "c", Key: "k", Bundles: map[spiffeid.TrustDomain]string{{}: "b"}},
	} {
		if _, err := NewFiles(options); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzParseBundle: no panic, and what is accepted holds at least one certificate
// and survives being written again.
func FuzzParseBundle(f *testing.F) {
	authority := newCA(f, "mesh")
	one := pem.EncodeToMemory(certBlock(authority.Cert.Raw))
	f.Add(one)
	f.Add(append(one, one...))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		certificates, err := parseBundle(content)
		if err != nil {
			return
		}
		var again []byte
		for _, c := range certificates {
			again = append(again, pem.EncodeToMemory(certBlock(c.Raw))...)
		}
		if second, err := parseBundle(again); err != nil || len(second) != len(certificates) || len(second) == 0 {
			t.Errorf("%d certificates, then %d: %v", len(certificates), len(second), err)
		}
	})
}
