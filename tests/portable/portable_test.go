package portable

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

const root = "../.."

// build compiles the product for a system, without linking.
func build(t *testing.T, system, arch string) (string, error) {
	cmd := exec.CommandContext(t.Context(), "go", "build", ".", "./sidecar/...")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS="+system, "GOARCH="+arch, "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestOtherSystemsBuild(t *testing.T) {
	for _, to := range [][2]string{{"darwin", "arm64"}, {"freebsd", "amd64"}, {"linux", "arm64"}} {
		if out, err := build(t, to[0], to[1]); err != nil {
			t.Errorf("%s/%s: %v\n%s", to[0], to[1], err, out)
		}
	}
}

// The tests, too, are those of every system: the ones of epoll stand apart.
func TestOtherSystemsVet(t *testing.T) {
	for _, system := range []string{"darwin", "freebsd"} {
		cmd := exec.CommandContext(t.Context(), "go", "vet", ".", "./sidecar/...", "./tests/e2e")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "GOOS="+system, "GOARCH=arm64", "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", system, err, out)
		}
	}
}

// Where there is no Unix the build says so itself.
func TestWindowsIsRefusedByName(t *testing.T) {
	out, err := build(t, "windows", "amd64")
	if err == nil || !strings.Contains(out, "larboard_engine_needs_a_unix_system") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestEngineOnGoroutines(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "test", "./sidecar/engine/...", "./sidecar/upstream", "./sidecar/proxy")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "LARBOARD_ENGINE=goroutines")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
