package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestInstall(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "larboard")
	if err := os.WriteFile(target, []byte("an old one"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := Main([]string{"install", dir}, &out, &errs); code != exitDone || strings.TrimSpace(out.String()) != target {
		t.Fatalf("%d: %s%s", code, &out, &errs)
	}
	self, _ := os.Executable()
	want, _ := os.ReadFile(self)
	got, err := os.ReadFile(target)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("not this program: %v", err)
	}
	if info, _ := os.Stat(target); info.Mode().Perm() != 0o755 {
		t.Errorf("its mode is %s", info.Mode())
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%d files are there", len(left))
	}
	for _, args := range [][]string{{"install"}, {"install", "a", "b"}} {
		if code := Main(args, &out, &errs); code != exitUsage {
			t.Errorf("%q: code %d", args, code)
		}
	}
	errs.Reset()
	if code := Main([]string{"install", filepath.Join(dir, "nowhere")}, &out, &errs); code != exitFailed || !strings.Contains(errs.String(), "larboard: install: ") {
		t.Errorf("%d: %s", code, &errs)
	}
}
