package compose

import (
	"crypto/sha256"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/real"
)

// mostMegabytes is how large the image may be.
const mostMegabytes = 40

// TestImage: it holds one file, is not root's, is small, and its layer is the same however often and
// wherever it is built.
func TestImage(t *testing.T) {
	t.Parallel()
	real.Docker(t)
	first, again := made("larboard/larboard:first"), made("larboard/larboard:again")
	dockerfile(t, "deploy/docker/Dockerfile", ".", "larboard", first)
	dockerfile(t, "deploy/docker/Dockerfile", ".", "larboard", again, "--no-cache")
	inspect := func(image, what string) string { return real.DockerRun(t, "image", "inspect", "-f", what, image) }
	if a, b := inspect(first, "{{.RootFS.Layers}}"), inspect(again, "{{.RootFS.Layers}}"); a != b || strings.Contains(a, " ") {
		t.Errorf("layers %s, and built again %s", a, b)
	}
	if got := inspect(first, "{{.Config.User}} {{.Config.Entrypoint}} {{.Config.Cmd}}"); got != "1337:1337 [/larboard] [run -c /etc/larboard/larboard.yaml]" {
		t.Errorf("it runs %s", got)
	}
	size, err := strconv.Atoi(inspect(first, "{{.Size}}"))
	if err != nil || size > mostMegabytes*1000*1000 {
		t.Errorf("%d bytes, want at most %d MB (%v)", size, mostMegabytes, err)
	}
	t.Logf("%.1f MB", float64(size)/1e6)

	// What Docker adds itself is for every container the same.
	container := real.DockerRun(t, "create", first)
	t.Cleanup(func() { _ = exec.Command("docker", "rm", "-f", container).Run() })
	archive := filepath.Join(t.TempDir(), "image.tar")
	real.DockerRun(t, "export", "-o", archive, container)
	files := strings.Fields(real.Run(t, time.Minute, "tar", "tf", archive).Stdout)
	files = slices.DeleteFunc(files, func(name string) bool {
		return strings.HasPrefix(name, "dev/") || strings.HasPrefix(name, "etc/") || slices.Contains([]string{".dockerenv", "proc/", "sys/"}, name)
	})
	if !slices.Equal(files, []string{"larboard"}) {
		t.Errorf("it holds %q", files)
	}
	if said := real.DockerRun(t, "run", "--rm", "--read-only", "--network", "none", "--cap-drop", "ALL", first, "version"); !strings.HasPrefix(said, "larboard (devel) go") {
		t.Errorf("it says %q", said)
	}
}

// TestBinaryIsReproducible: sources elsewhere, without a repository, make the same bytes.
func TestBinaryIsReproducible(t *testing.T) {
	t.Parallel()
	elsewhere := filepath.Join(t.TempDir(), "a/b")
	whole := os.DirFS(root)
	for _, name := range []string{"go.mod", "go.sum", "main.go", "sidecar", "discovery", "injector", "observability", "policy"} {
		err := fs.WalkDir(whole, name, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := fs.ReadFile(whole, path)
			if err != nil {
				return err
			}
			to := filepath.Join(elsewhere, path)
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				return err
			}
			return os.WriteFile(to, data, 0o600)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var sums [][sha256.Size]byte
	for _, from := range []string{root, elsewhere} {
		to := filepath.Join(t.TempDir(), "larboard")
		compileIn(t, from, ".", to)
		data, err := os.ReadFile(to)
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, sha256.Sum256(data))
	}
	if sums[0] != sums[1] {
		t.Errorf("%x here, %x elsewhere", sums[0], sums[1])
	}
}
