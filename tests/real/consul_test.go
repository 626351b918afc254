package real

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

func TestConsulIsReachedEachWay(t *testing.T) {
	for name, o := range map[string]ConsulOptions{
		"port":   {},
		"acl":    {ACL: true},
		"tls":    {TLS: true},
		"socket": {Socket: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := Consul(t, o)
			c.Register(Service{ID: "a1", Name: "a", Port: 1})
			c.Restart()
			var found []any
			c.must(http.MethodGet, "/v1/catalog/service/a", nil, &found)
			if len(found) != 1 {
				t.Errorf("after a restart: %d instances, want the one registered before", len(found))
			}
		})
	}
}

func TestBuildRefusesWhatIsNoTool(t *testing.T) {
	for _, name := range []string{"", "nothing-of-this-name", "../tools/consul"} {
		if path, err := Build(t.Context(), name, os.Stderr); err == nil {
			t.Errorf("Build(%q) = %q, want an error", name, path)
		}
	}
}

func TestBuildMakesAToolOnce(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	module := filepath.Join(dir, "tests", "tools", "tiny")
	files := map[string]string{
		"go.mod":  "module example.test/tiny\n\ngo 1.26\n\ntool example.test/tiny\n",
		"go.sum":  "",
		"main.go": "package main\n\nfunc main() {}\n",
	}
	if err := os.MkdirAll(module, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(module, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	first := Tool(t, "tiny")
	before, err := os.Stat(first)
	if err != nil {
		t.Fatal(err)
	}
	second := Tool(t, "tiny")
	after, err := os.Stat(second)
	if err != nil {
		t.Fatal(err)
	}
	if first != second || !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
		t.Errorf("the second call built %s again (first %s)", second, first)
	}
}
