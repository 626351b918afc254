package arch

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"
)

// root of the module, seen from this package.
const root = "../.."

func load(t *testing.T) []*File {
	t.Helper()
	files, err := Load(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("only %d files found: is the root right?", len(files))
	}
	return files
}

// Each rule judges every file of the project.
func TestProject(t *testing.T) {
	files := load(t)
	for _, rule := range []struct {
		name  string
		check func(*File) []string
	}{
		{"imports", checkImports},
		{"length", checkLength},
		{"insecure", checkInsecure},
		{"state", checkState},
		{"names", checkNames},
		{"skips", checkSkips},
	} {
		t.Run(rule.name, func(t *testing.T) {
			for _, f := range files {
				report(t, rule.check(f))
			}
		})
	}
	t.Run("docs", func(t *testing.T) { report(t, checkDocs(files)) })
}

func report(t *testing.T, problems []string) {
	t.Helper()
	sort.Strings(problems)
	for _, p := range problems {
		t.Error(p)
	}
}

func TestNothingSaysItIsUnfinished(t *testing.T) {
	text := []string{".go", ".md", ".yaml", ".yml", ".sh", ".mod", "Makefile", "run"}
	err := walk(root, func(name string) error {
		if !slices.ContainsFunc(text, func(end string) bool { return strings.HasSuffix(name, end) }) {
			return nil
		}
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return err
		}
		report(t, checkWords(name, string(content)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTopLevelIsFixed(t *testing.T) {
	dirs := []string{"sidecar", "injector", "discovery", "policy", "observability", "deploy", "examples", "tests",
		"docs", "bin", ".git", ".ci", ".github"}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case e.IsDir() && !slices.Contains(dirs, name):
			t.Errorf("top-level directory %s is not one of those agreed on", name)
		case !e.IsDir() && strings.HasSuffix(name, ".go") && name != "main.go":
			t.Errorf("%s: the root holds main.go only", name)
		}
	}
}

// The one function that everything hangs from must stay readable in one go.
func TestExchangeIsShort(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "sidecar/proxy/exchange.go"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n > 150 {
		t.Errorf("sidecar/proxy/exchange.go: %d lines, at most 150", n)
	}
	if !strings.Contains(strings.ToLower(string(text)), "start here") {
		t.Error(`sidecar/proxy/exchange.go does not say "start here"`)
	}
}

// ARCHITECTURE.md must not fall behind the law or go.mod.
func TestArchitectureNamesPackagesAndDependencies(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range load(t) {
		if dir := f.Dir(); dir != "." && !f.IsTest() && !seen[dir] {
			seen[dir] = true
			if !strings.Contains(string(doc), "`"+dir+"`") {
				t.Errorf("ARCHITECTURE.md does not name `%s`", dir)
			}
		}
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range direct.FindAllStringSubmatch(string(mod), -1) {
		if !strings.Contains(string(doc), "`"+m[1]+"`") {
			t.Errorf("ARCHITECTURE.md gives no reason for the dependency %s", m[1])
		}
	}
}

// direct matches a requirement without an "indirect" comment.
var direct = regexp.MustCompile(`(?m)^\t(\S+) v\S+$`)
