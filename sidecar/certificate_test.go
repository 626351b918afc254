package sidecar

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/larboard-proxy/larboard/tests/pki"
)

// writeCertificate makes a self-signed pair and returns it as configured.
func writeCertificate(t testing.TB, dir, name string) string {
	t.Helper()
	cert, key := pki.Write(t, filepath.Join(dir, name), pki.SelfSigned(t, name))
	return fmt.Sprintf("{cert: %q, key: %q}", cert, key)
}
