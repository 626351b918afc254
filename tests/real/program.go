package real

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Program builds a program of this module, given by its path in it ("." is Larboard), statically, and
// returns where it is until the end of the test.
func Program(t testing.TB, pkg string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), filepath.Base(pkg)+".bin")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary,
		"github.com/larboard-proxy/larboard/"+filepath.ToSlash(filepath.Clean(pkg)))
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=", "GOARCH=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	return binary
}
