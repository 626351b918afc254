package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
	for _, page := range []string{"install.md", "compose.md"} {
		for _, b := range blocks(t, page, "yaml") {
			if _, problems := config.Load(page, []byte(b)); len(problems) > 0 {
				t.Errorf("%v in\n%s", problems, b)
			}
		}
	}
}

// The page on the stack shows a configuration of it, but for what it need not say.
func TestComposeConfigurationIsShown(t *testing.T) {
	whole := read(t, root+"/deploy/compose/larboard/web.yaml")
	for line := range strings.Lines(blocks(t, "compose.md", "yaml")[0]) {
		if !strings.Contains(whole, strings.TrimRight(line, "\n")) {
			t.Errorf("web.yaml has no line %q", line)
		}
	}
}

// Every command of ours that these pages show exists, with its flags.
func TestShownCommandsExist(t *testing.T) {
	var lines []string
	for _, page := range []string{"install.md", "troubleshooting.md", "lifecycle.md"} {
		for _, b := range blocks(t, page, "console") {
			lines = append(lines, strings.Split(strings.TrimSpace(b), "\n")...)
		}
	}
	for _, file := range []string{"larboard.service", "larboard@.service"} {
		line := strings.TrimPrefix(settings(t, units+file)["ExecStart"], "/usr/local/bin/")
		lines = append(lines, strings.TrimSuffix(line, " $LARBOARD_ARGS"))
	}
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
		if err != nil || !cmd.HasParent() || cmd.Flags().NArg() > 0 && cmd.Flags().ArgsLenAtDash() != 0 {
			t.Errorf("%s: %v", line, err)
		}
	}
	if shown < 6 {
		t.Errorf("only %d commands were found", shown)
	}
}

// settings returns those of a systemd unit's section Service; of several lines of one name the last.
func settings(t *testing.T, file string) map[string]string {
	t.Helper()
	all, section := map[string]string{}, ""
	for line := range strings.Lines(read(t, file)) {
		line = strings.TrimSpace(line)
		name, value, ok := strings.Cut(line, "=")
		switch {
		case strings.HasPrefix(line, "["):
			section = line
		case line != "" && !ok && !strings.HasPrefix(line, "#"):
			t.Errorf("the unit has the line %q", line)
		case section == "[Service]":
			all[name] = value
		}
	}
	return all
}

const units = root + "/deploy/systemd/"

func TestUnits(t *testing.T) {
	for file, instance := range map[string]string{"larboard.service": "larboard.service", "larboard@.service": "larboard@web.service"} {
		unit := settings(t, units+file)
		for _, name := range []string{"Type", "User", "RuntimeDirectory", "ExecStart", "ExecReload", "TimeoutStopSec", "LimitNOFILE", "SystemCallFilter"} {
			if unit[name] == "" {
				t.Errorf("%s does not set %s", file, name)
			}
		}
		verify, err := exec.LookPath("systemd-analyze")
		if err != nil {
			t.Log("without systemd here, its lines alone are looked at")
			continue
		}
		// The program need not be installed where the test runs.
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(t.TempDir(), instance)
		if err := os.WriteFile(at, []byte(strings.ReplaceAll(read(t, units+file), "/usr/local/bin/larboard", self)), 0o644); err != nil {
			t.Fatal(err)
		}
		said, err := exec.Command(verify, "--man=no", "verify", at).CombinedOutput()
		for line := range strings.Lines(string(said)) {
			if strings.Contains(line, instance) {
				t.Errorf("systemd-analyze verify (%v): %s", err, line)
			}
		}
		// Exposure, in tenths of systemd's points: 10 is no protection at all.
		said, err = exec.Command(verify, "security", "--offline=yes", "--threshold=25", at).CombinedOutput()
		if err != nil && !strings.Contains(string(said), "unrecognized option") {
			t.Errorf("systemd-analyze security: %v\n%s", err, said)
		}
	}
}

// The image is built as `make binaries` builds, and holds nothing but the binary.
func TestDockerfiles(t *testing.T) {
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, filepath.Join(root, "go.mod")))[1]
	makefile := read(t, filepath.Join(root, "Makefile"))
	for name, program := range map[string]string{"docker": "larboard", "compose": "shop"} {
		file := read(t, filepath.Join(root, "deploy", name, "Dockerfile"))
		for _, want := range []string{"FROM golang:" + version + " AS build\n", "FROM scratch AS image\nUSER ", "-trimpath -buildvcs=false -ldflags \"-s -w", "touch -d @0 /" + program,
			"FROM image AS prebuilt\nARG TARGETARCH\nCOPY bin/linux/${TARGETARCH}/" + program + " /" + program + "\n", "ENTRYPOINT [\"/" + program + "\"]"} {
			if !strings.Contains(file, want) {
				t.Errorf("deploy/%s/Dockerfile has no %q", name, want)
			}
		}
		if _, last, ok := strings.Cut(file, "\nFROM image\n"); !ok || last != "COPY --from=build /"+program+" /"+program+"\n" {
			t.Errorf("deploy/%s/Dockerfile ends with %q", name, last)
		}
	}
	for _, want := range []string{"go build -trimpath -buildvcs=false", "-X github.com/larboard-proxy/larboard/sidecar/cli.version=$(VERSION)"} {
		if !strings.Contains(strings.ReplaceAll(makefile, "$(GO)", "go"), want) {
			t.Errorf("the Makefile has no %q", want)
		}
	}
	if !strings.Contains(read(t, manual+"install.md"), "With Go "+version+",") {
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
