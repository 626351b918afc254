package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/sidecar/config"
)

const root = "../.."

// documents lists the root documents and the manual's pages.
func documents(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", "deploy/*.md", "examples/*/*.md"} {
		names, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, names...)
	}
	if len(all) < 5 {
		t.Fatalf("only %d documents found", len(all))
	}
	return all
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestReadmeConfigurationsLoad(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(read(t, filepath.Join(root, "README.md")), -1)
	if len(blocks) == 0 {
		t.Fatal("README.md shows no configuration")
	}
	for _, b := range blocks {
		if _, problems := config.Load("README.md", []byte(b[1])); len(problems) > 0 {
			t.Errorf("%v in\n%s", problems, b[1])
		}
	}
}

func TestCommandsExist(t *testing.T) {
	makefile := read(t, filepath.Join(root, "Makefile"))
	named := regexp.MustCompile("(?m)(?:`|^ {4})make ([a-z0-9-]+)")
	for _, name := range documents(t) {
		for _, m := range named.FindAllStringSubmatch(read(t, name), -1) {
			if !strings.Contains(makefile, "\n"+m[1]+":") {
				t.Errorf("%s: make %s is no target", name, m[1])
			}
		}
	}
	for _, must := range []string{"make demo", "make test"} {
		if !strings.Contains(read(t, filepath.Join(root, "README.md")), must) {
			t.Errorf("README.md does not show %s", must)
		}
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:\s]+)(#[^)]*)?\)`)
	for _, name := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, name), -1) {
			target := filepath.Join(filepath.Dir(name), m[1])
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: links to %s: %v", name, m[1], err)
			} else if m[2] != "" && !slices.Contains(anchors(t, target), m[2]) {
				t.Errorf("%s: links to %s%s, which has no such heading", name, m[1], m[2])
			}
		}
	}
}

// anchors are what headings of a page are linked by: in lower case, with a hyphen for each
// space and nothing else but letters, digits, hyphens and underscores.
func anchors(t *testing.T, page string) (all []string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(read(t, page), -1) {
		text := strings.ReplaceAll(strings.ToLower(m[1]), " ", "-")
		all = append(all, "#"+regexp.MustCompile(`[^a-z0-9_-]`).ReplaceAllString(text, ""))
	}
	return all
}

// A target that `make help` does not list would be found by nobody.
func TestMakefileTargets(t *testing.T) {
	makefile := read(t, filepath.Join(root, "Makefile"))
	for _, target := range strings.Fields("demo test race lint bench fuzz check build help") {
		if !regexp.MustCompile(`(?m)^` + target + `:.*## \S`).MatchString(makefile) {
			t.Errorf("target %s is missing or says nothing of itself", target)
		}
	}
}
