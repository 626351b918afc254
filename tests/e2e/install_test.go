package e2e

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// shownBlocks returns the blocks of code of one language on a page of the manual.
func shownBlocks(t *testing.T, page, language string) (all []string) {
	t.Helper()
	text, err := os.ReadFile("../../examples/manual/" + page)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		all = append(all, m[1])
	}
	if len(all) == 0 {
		t.Fatalf("%s holds no block of %s", page, language)
	}
	return all
}

// The command of the page on installing makes one static binary, which needs no file
// beside it: neither a dynamic linker nor a library.
func TestInstallBuildsAStaticBinary(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "larboard")
	build := exec.CommandContext(t.Context(), "sh", "-c", strings.Replace(shownBlocks(t, "install.md", "build")[0], "bin/larboard", out, 1))
	build.Dir = "../.."
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	file, err := elf.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("it is linked dynamically: %v", p.Type)
		}
	}
	version := exec.CommandContext(t.Context(), out, "version")
	version.Env = []string{}
	if text, err := version.CombinedOutput(); err != nil || !strings.HasPrefix(string(text), "larboard ") {
		t.Errorf("%v: %s", err, text)
	}
}

// The commands that the page on troubleshooting begins with answer as it says, beside a
// proxy that cannot reach its endpoint. What is changed: the path of the socket, and the
// port.
func TestTroubleshootingAsWritten(t *testing.T) {
	dir := shortDir(t)
	p := launchIn(t, dir, "ill", `
listeners: [{name: in, address: 127.0.0.1:0, service: app}]
services: [{name: app, endpoints: ["`+freeAddress(t)+`"]}]
admin: {socket: admin.sock}
`)
	p.waitReady()
	if err := os.Symlink(binary, filepath.Join(dir, "larboard")); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, block := range shownBlocks(t, "troubleshooting.md", "console") {
		lines = append(lines, strings.Split(strings.TrimSpace(block), "\n")...)
	}
	want := []string{": ok (1 listener, 1 service)", "# timeouts.connect, default", `"ready":true`, "x-larboard-reason: connect_failed", "connect_failed"}
	if len(lines) != len(want) {
		t.Fatalf("the page has the commands %q", lines)
	}
	for i, line := range lines {
		line = strings.NewReplacer("/run/larboard/admin.sock", filepath.Join(dir, "admin.sock"), "127.0.0.1:9191", p.address("in")).Replace(line)
		cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		text, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(strings.ReplaceAll(string(text), " ", ""), strings.ReplaceAll(want[i], " ", "")) {
			t.Errorf("%s (%v): %q is not in\n%s", line, err, want[i], text)
		}
	}
}
