package inject

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/tests/real"
)

// What comes out is a file that docker-compose takes, with the sidecars in it, and everything that
// was there.
func TestDockerComposeTakesIt(t *testing.T) {
	t.Parallel()
	binary, compose := real.Program(t, "."), real.Installed(t, "docker-compose")
	files, err := filepath.Glob("../../injector/manifest/testdata/*.compose.yaml")
	if err != nil || len(files) < 2 {
		t.Fatalf("%q: %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "docker-compose.yaml"), read(t, file))
			was := canonical(t, compose, dir)
			if got := larboard(t, binary, dir, "inject", "-f", "docker-compose.yaml", "--in-place"); got.code != 0 {
				t.Fatalf("%+v", got)
			}
			is := canonical(t, compose, dir)
			if count := strings.Count(is, "larboard.sidecar-for:"); count < 2 || !strings.Contains(is, "identity:") {
				t.Errorf("%d sidecars:\n%s", count, is)
			}
			if got := larboard(t, binary, dir, "inject", "-f", "docker-compose.yaml", "--in-place", "--uninject"); got.code != 0 {
				t.Fatalf("%+v", got)
			}
			if back := canonical(t, compose, dir); back != was {
				t.Errorf("taken out:\n%s\nwas\n%s", back, was)
			}
		})
	}
}

// canonical is what docker-compose makes of the file in dir.
func canonical(t *testing.T, compose, dir string) string {
	t.Helper()
	ran := real.Run(t, patience, compose, "-f", filepath.Join(dir, "docker-compose.yaml"), "config")
	if ran.Code != 0 {
		file, _ := os.ReadFile(filepath.Join(dir, "docker-compose.yaml"))
		t.Fatalf("docker-compose config: %d\n%s\n%s", ran.Code, ran.Stderr, file)
	}
	return ran.Stdout
}
