package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	podFile     = "apiVersion: v1\nkind: Pod\nmetadata: {name: web} # us\nspec:\n  containers:\n  - {name: web, image: \"web:1\", ports: [{containerPort: 8080}]}\n"
	serviceFile = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port:   80}]}"
	stackFile   = "services:\n  web:\n    image: web:1\n    labels: {larboard.port: 8080}\n"
	hclFile     = "service {\n  name = \"web\"\n}\n"
)

func shopFiles() map[string]string {
	return map[string]string{"pod.yaml": podFile, "service.yaml": serviceFile, "stack.yml": stackFile, "web.hcl": hclFile, "README.md": "# no\n"}
}

func TestInjectToStandardOutput(t *testing.T) {
	dir := directory(t, shopFiles())
	got := larboard(t, dir, "inject", "-f", "service.yaml", "-f", "pod.yaml")
	if got.code != 0 || got.stderr != "pod.yaml:1: Pod web: injected\n" {
		t.Fatalf("got %+v", got)
	}
	if !strings.HasPrefix(got.stdout, serviceFile+"\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: web, annotations: {larboard.io/status: ") || !strings.Contains(got.stdout, "} # us\n") {
		t.Errorf("got\n%s", got.stdout)
	}
}

func TestInjectFromStandardInput(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := func(input string, args ...string) result {
		var stdout, stderr bytes.Buffer
		cmd := exec.CommandContext(t.Context(), self, append([]string{"inject"}, args...)...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
		cmd.Env = append(os.Environ(), asLarboard+"=1")
		_ = cmd.Run()
		return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	}
	got := run(podFile, "--image", "ours/larboard:1")
	if got.code != 0 || !strings.Contains(got.stdout, "image: ours/larboard:1\n") || got.stderr != "standard input:1: Pod web: injected\n" {
		t.Fatalf("got %+v", got)
	}
	if back := run(got.stdout, "-f", "-", "--uninject"); back.stdout != podFile || back.stderr != "standard input:1: Pod web: restored\n" {
		t.Errorf("got %+v", back)
	}
	if got := run(hclFile); got.code != 0 || !strings.Contains(got.stdout, "sidecar_service") {
		t.Errorf("HCL: %+v", got)
	}
	if got := run("", "-f", "-"); got != (result{}) {
		t.Errorf("nothing: %+v", got)
	}
}

func TestInjectInPlace(t *testing.T) {
	dir := directory(t, shopFiles())
	if err := os.Symlink("pod.yaml", filepath.Join(dir, "link.yaml")); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(filepath.Join(dir, "service.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if got := larboard(t, dir, "inject", "-f", ".", "-i"); got.code != 0 || got.stdout != "" || strings.Count(got.stderr, "injected") != 4 {
		t.Fatalf("got %+v", got)
	}
	for name, want := range map[string]string{"pod.yaml": "initContainers:", "stack.yml": "web-larboard:", "web.hcl": "sidecar_service {"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		info, _ := os.Lstat(filepath.Join(dir, name))
		if err != nil || !strings.Contains(string(data), want) || info.Mode() != 0o600 {
			t.Errorf("%s: %v %v\n%s", name, err, info.Mode(), data)
		}
	}
	after, err := os.Stat(filepath.Join(dir, "service.yaml"))
	if err != nil || !os.SameFile(before, after) {
		t.Error("what has not changed was written")
	}
	if info, err := os.Lstat(filepath.Join(dir, "link.yaml")); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Error("a link has become a file")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	if got := larboard(t, dir, "inject", "-f", ".", "--diff"); got.code != 0 || got.stdout != "" {
		t.Errorf("again: %+v", got)
	}
	if got := larboard(t, dir, "inject", "-f", ".", "-i", "--uninject"); got.code != 0 {
		t.Fatalf("got %+v", got)
	}
	for name, want := range shopFiles() {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(data) != want {
			t.Errorf("%s: %v\n%s", name, err, data)
		}
	}
}

// Of two files of one name none is lost in a directory.
func TestInjectOfOneName(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "web.yaml"), []byte(podFile), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := larboard(t, dir, "inject", "-f", "a/web.yaml", "-f", "b/web.yaml", "--to", "out/")
	if got.code != 2 || !strings.Contains(got.stderr, "a/web.yaml and b/web.yaml would both be out/web.yaml") {
		t.Errorf("got %+v", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "out")); err == nil {
		t.Error("something was written")
	}
}

func TestInjectToElsewhere(t *testing.T) {
	dir := directory(t, shopFiles())
	if got := larboard(t, dir, "inject", "-f", "stack.yml", "-f", "web.hcl", "--to", "out/"); got.code != 0 {
		t.Fatalf("got %+v", got)
	}
	if got := larboard(t, dir, "inject", "-f", "pod.yaml", "--to", "out/all.yaml"); got.code != 0 {
		t.Fatalf("got %+v", got)
	}
	for name, want := range map[string]string{"stack.yml": "web-larboard:", "web.hcl": "sidecar_service {", "all.yaml": "initContainers:"} {
		if data, err := os.ReadFile(filepath.Join(dir, "out", name)); err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%s: %v\n%s", name, err, data)
		}
	}
}

func TestInjectDiff(t *testing.T) {
	dir := directory(t, shopFiles())
	got := larboard(t, dir, "inject", "-f", "web.hcl", "--diff")
	if want := "--- web.hcl\n+++ web.hcl\n@@ -1,3 +1,12 @@\n service {\n   name = \"web\"\n+  connect {\n"; got.code != 1 || !strings.HasPrefix(got.stdout, want) {
		t.Errorf("got %+v", got)
	}
	coloured := paintDiff(got.stdout)
	contains(t, "colours", coloured, bold+"--- web.hcl"+normal+"\n", green+"+  connect {"+normal+"\n", "\n service {\n")
}

func TestInjectSummaryForMachines(t *testing.T) {
	got := larboard(t, directory(t, shopFiles()), "inject", "-f", "pod.yaml", "-f", "service.yaml", "--output", "json", "-n", "shop", "--diff")
	var answer struct {
		Files []struct {
			Name, Kind string
			Changed    bool
			Workloads  []map[string]any
		}
	}
	if err := json.Unmarshal([]byte(got.stderr), &answer); err != nil || got.code != 1 || len(answer.Files) != 2 {
		t.Fatalf("%v %+v", err, got)
	}
	pod, service := answer.Files[0], answer.Files[1]
	if !pod.Changed || pod.Kind != "kubernetes" || pod.Workloads[0]["action"] != "injected" || pod.Workloads[0]["namespace"] != "shop" || service.Changed || len(service.Workloads) != 0 {
		t.Errorf("got %+v", answer)
	}
}

func TestInjectSettings(t *testing.T) {
	files := shopFiles()
	files["settings.yaml"] = "image: registry.example/larboard:2\nidentity: {source: consul}\n"
	files["broken.yaml"] = "imag: x\n"
	dir := directory(t, files)
	got := larboard(t, dir, "inject", "-f", "pod.yaml", "--settings", "settings.yaml")
	contains(t, "stdout", got.stdout, "image: registry.example/larboard:2", "identity:\n          consul:")
	got = larboard(t, dir, "inject", "-f", "pod.yaml", "--settings", "broken.yaml")
	if want := "broken.yaml:1:1: imag: unknown field; did you mean \"image\"?\n"; got.code != 2 || got.stderr != want || got.stdout != "" {
		t.Errorf("got %+v", got)
	}
	got = larboard(t, dir, "inject", "-f", "pod.yaml", "--labelled")
	if got.stdout != podFile || !strings.Contains(got.stderr, "Pod web: skipped: neither the pod nor its namespace asks for it") {
		t.Errorf("got %+v", got)
	}
}

// Where anything is wrong nothing is written.
func TestInjectRefuses(t *testing.T) {
	files := shopFiles()
	files["bad.yaml"] = "apiVersion: v1\nkind: Pod\nmetadata: {name: x, annotations: {larboard.io/service: '-'}}\nspec: {containers: [{name: x, ports: [{containerPort: 1}]}]}\n"
	dir := directory(t, files)
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"a bad file", []string{"-f", ".", "-i"}, "bad.yaml:3:56: Pod x: larboard.io/service: \"-\" is no name of a service"},
		{"no such file", []string{"-f", "none.yaml"}, "larboard: none.yaml: cannot be read: no such file or directory\n"},
		{"a kind", []string{"-f", "pod.yaml", "--kind", "nomad"}, "larboard: --kind \"nomad\" is none of kubernetes, compose, consul\n"},
		{"exclusive flags", []string{"-f", "pod.yaml", "--diff", "-i"}, "larboard: --in-place, --to and --diff exclude each other\n"},
		{"standard input in place", []string{"-i"}, "larboard: --in-place needs files: standard input has no place\n"},
		{"what cannot be joined", []string{"-f", "pod.yaml", "-f", "web.hcl"}, "larboard: web.hcl is no Kubernetes manifest, so that it does not go together with others"},
		{"an argument", []string{"pod.yaml"}, "larboard: unexpected argument \"pod.yaml\"; files are given with -f\n"},
		{"a directory without files", []string{"-f", "empty"}, "larboard: empty: cannot be read: holds no file that ends in"},
		{"an upstream", []string{"-f", "web.hcl", "--upstream", "stock"}, "web.hcl:1:9: service: \"stock\" lacks the port at which the application calls it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_ = os.Mkdir(filepath.Join(dir, "empty"), 0o755)
			got := larboard(t, dir, append([]string{"inject"}, test.args...)...)
			if got.code != 2 || !strings.HasPrefix(got.stderr, test.want) || got.stdout != "" {
				t.Errorf("got %+v", got)
			}
		})
	}
	if data, err := os.ReadFile(filepath.Join(dir, "pod.yaml")); err != nil || string(data) != podFile {
		t.Errorf("%v\n%s", err, data)
	}
}
