package inject

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/injector/manifest"
	"github.com/larboard-proxy/larboard/tests/real"
)

var update = flag.Bool("update", false, "write outputs and the table of labels into the manual")

const page = "../../examples/manual/inject.md"

// ran is what a call of the program came to.
type ran struct {
	code           int
	stdout, stderr string
}

// larboard runs the program in dir.
func larboard(t testing.TB, binary, dir string, args ...string) ran {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return ran{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var (
	block   = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")
	comment = regexp.MustCompile("[ \t]+#.*")
)

// Every command of the page runs on the page's files, and says what the page says.
func TestManual(t *testing.T) {
	t.Parallel()
	binary, dir, text := real.Program(t, "."), t.TempDir(), read(t, page)
	for _, m := range block.FindAllStringSubmatch(text, -1) {
		if name, ok := strings.CutPrefix(strings.SplitN(m[2], "\n", 2)[0], "# "); ok && (m[1] == "yaml" || m[1] == "hcl") {
			write(t, filepath.Join(dir, name), strings.SplitN(m[2], "\n", 2)[1])
		}
	}
	var last ran
	runs, shown := 0, 0
	for _, m := range block.FindAllStringSubmatch(text, -1) {
		is := ""
		switch m[1] {
		case "console":
			for line := range strings.Lines(m[2]) {
				runs++
				work := t.TempDir()
				if err := os.CopyFS(work, os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
				last = larboard(t, binary, work, strings.Fields(comment.ReplaceAllString(line, ""))[1:]...)
				if last.code > 1 || last.code == 1 != strings.Contains(line, "--diff") {
					t.Errorf("%s: %+v", line, last)
				}
			}
			continue
		case "diff":
			is = last.stdout
		case "summary", "json":
			is = last.stderr
		default:
			continue
		}
		shown++
		if is != m[2] {
			if *update {
				text = strings.Replace(text, "```"+m[1]+"\n"+m[2]+"```", "```"+m[1]+"\n"+is+"```", 1)
				continue
			}
			t.Errorf("the page says\n%s\nand it is\n%s", m[2], is)
		}
	}
	if runs < 8 || shown < 4 {
		t.Errorf("only %d commands and %d outputs were found", runs, shown)
	}
	if *update {
		write(t, page, text)
	}
}

// The table of labels is the program's.
func TestLabelsInTheManual(t *testing.T) {
	var rows strings.Builder
	for _, l := range manifest.Labels() {
		fmt.Fprintf(&rows, "| `%s` | %s | %s | %s |\n", l.Name, l.Values, l.Default, l.Meaning)
	}
	text := read(t, page)
	const head = "| label, after `larboard.` | values | default | meaning |\n|---|---|---|---|\n"
	before, after, ok := strings.Cut(text, head)
	if !ok {
		t.Fatal("the table has another head")
	}
	table, rest, _ := strings.Cut(after, "\n\n")
	if table+"\n" == rows.String() {
		return
	}
	if !*update {
		t.Errorf("the page has\n%s\nthe program has\n%s", table, rows.String())
		return
	}
	write(t, page, before+head+rows.String()+"\n"+rest)
}
