package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/cli"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

const manual = root + "/examples/manual/"

// blocks returns the blocks of code of one language on a page.
func blocks(t *testing.T, page, language string) (all []string) {
	t.Helper()
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(read(t, manual+page), -1) {
		all = append(all, m[1])
	}
	if len(all) == 0 {
		t.Fatalf("%s holds no block of %s", page, language)
	}
	return all
}

func TestManualHasAnIndex(t *testing.T) {
	index := read(t, manual+"README.md")
	pages, err := filepath.Glob(manual + "*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		if name := filepath.Base(page); name != "README.md" && !strings.Contains(index, "("+name+")") {
			t.Errorf("the index does not name %s", name)
		}
	}
	if !strings.Contains(read(t, filepath.Join(root, "README.md")), "(examples/manual/README.md)") {
		t.Error("the project's README.md does not lead to the manual")
	}
}

func TestInstallConfigurationLoads(t *testing.T) {
	for _, b := range blocks(t, "install.md", "yaml") {
		if _, problems := config.Load("install.md", []byte(b)); len(problems) > 0 {
			t.Errorf("%v in\n%s", problems, b)
		}
	}
}

// Every command of ours that the two pages show exists, with its flags.
func TestShownCommandsExist(t *testing.T) {
	var lines []string
	for _, page := range []string{"install.md", "troubleshooting.md"} {
		for _, b := range blocks(t, page, "console") {
			lines = append(lines, strings.Split(strings.TrimSpace(b), "\n")...)
		}
	}
	unit := settings(t)
	lines = append(lines, strings.TrimPrefix(unit["ExecStart"], "/usr/local/bin/"))
	shown := 0
	for _, line := range lines {
		fields := strings.Fields(line)
		if fields[0] != "larboard" {
			continue
		}
		shown++
		cmd, rest, err := cli.New(os.Stdout, os.Stderr).Find(fields[1:])
		if err == nil && cmd.HasParent() {
			err = cmd.ParseFlags(rest)
		}
		if err != nil || !cmd.HasParent() || cmd.Flags().NArg() > 0 {
			t.Errorf("%s: %v", line, err)
		}
	}
	if shown < 6 {
		t.Errorf("only %d commands were found", shown)
	}
}

// settings returns those of the systemd unit's section Service.
func settings(t *testing.T) map[string]string {
	t.Helper()
	all, section := map[string]string{}, ""
	for line := range strings.Lines(blocks(t, "install.md", "systemd")[0]) {
		line = strings.TrimSpace(line)
		name, value, ok := strings.Cut(line, "=")
		switch {
		case strings.HasPrefix(line, "["):
			section = line
		case line != "" && !ok:
			t.Errorf("the unit has the line %q", line)
		case section == "[Service]":
			all[name] = value
		}
	}
	return all
}

func TestUnit(t *testing.T) {
	unit := settings(t)
	for _, name := range []string{"User", "RuntimeDirectory", "ExecStart", "ExecReload", "TimeoutStopSec", "LimitNOFILE"} {
		if unit[name] == "" {
			t.Errorf("the unit does not set %s", name)
		}
	}
	verify, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("without systemd here, its lines alone are looked at")
		return
	}
	// The program need not be installed where the test runs.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "larboard.service")
	text := strings.ReplaceAll(blocks(t, "install.md", "systemd")[0], "/usr/local/bin/larboard", self)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	said, err := exec.Command(verify, "--man=no", "verify", file).CombinedOutput()
	for line := range strings.Lines(string(said)) {
		if strings.Contains(line, "larboard.service") {
			t.Errorf("systemd-analyze verify (%v): %s", err, line)
		}
	}
}

// The image is built as `make build` builds, and holds nothing but the binary.
func TestDockerfile(t *testing.T) {
	const built = `CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o `
	if !strings.Contains(read(t, filepath.Join(root, "Makefile")), strings.Replace(built, "go build", "$(GO) build", 1)+"bin/larboard .") {
		t.Error("make build builds otherwise")
	}
	file := blocks(t, "install.md", "dockerfile")[0]
	_, last, ok := strings.Cut(file, "FROM scratch\n")
	if !ok || !strings.Contains(file, "RUN "+built+"/larboard .") {
		t.Errorf("got\n%s", file)
	}
	var steps []string
	for line := range strings.Lines(last) {
		steps = append(steps, strings.Fields(line)[0])
	}
	if want := []string{"COPY", "USER", "ENTRYPOINT", "CMD"}; !slices.Equal(steps, want) {
		t.Errorf("got %q, want %q", steps, want)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, filepath.Join(root, "go.mod")))[1]
	if !strings.Contains(file, "FROM golang:"+version+" ") || !strings.Contains(read(t, manual+"install.md"), "With Go "+version+",") {
		t.Errorf("the page does not build with Go %s", version)
	}
}

// What the page on troubleshooting quotes exists: every reason has its row, and every
// message, path and metric is the program's.
func TestTroubleshooting(t *testing.T) {
	page := read(t, manual+"troubleshooting.md")
	for _, r := range policy.Reasons()[1:] {
		if !strings.Contains(page, "`"+r.String()+"`") {
			t.Errorf("the reason %s has no row", r)
		}
	}
	code := sources(t)
	quoted := 0
	for section := range strings.SplitSeq(page, "\n## ") {
		if !strings.Contains(section, "| the log says |") {
			continue
		}
		for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(section, -1) {
			if quoted++; !strings.Contains(code, fmt.Sprintf("%q", m[1])) {
				t.Errorf("nothing logs %q", m[1])
			}
		}
	}
	if quoted < 10 {
		t.Errorf("only %d messages were found", quoted)
	}
	// The page on observability is held to the code.
	seen := read(t, manual+"observability.md")
	for _, name := range regexp.MustCompile(`/api/v1/[a-z]+|/readyz|larboard_[a-z_]+`).FindAllString(page, -1) {
		if !strings.Contains(seen, name) {
			t.Errorf("%s is not there", name)
		}
	}
}

// sources is all of the program's code.
func sources(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, top := range []string{"sidecar", "discovery", "observability", "policy"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d os.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				all.WriteString(read(t, path))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}
