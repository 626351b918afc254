package arch

import (
	"fmt"
	"regexp"
	"strings"
)

// unfinished are the words by which a text says that it is not done. They are put
// together here so that the rule does not find itself.
var unfinished = regexp.MustCompile(`\b(` + strings.Join([]string{"TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"}, "|") + `)\b|not ` + `implemented`)

// checkWords finds unfinished work in any text of the project.
func checkWords(name, text string) []string {
	var problems []string
	for i, line := range strings.Split(text, "\n") {
		if w := unfinished.FindString(line); w != "" {
			problems = append(problems, fmt.Sprintf("%s:%d: says %q", name, i+1, w))
		}
	}
	return problems
}

// skips finds tests that may silently not run. In tests/real alone it is said, by the name
// of what is missing, that a machine cannot run a test: without root there are no namespaces.
var skips = regexp.MustCompile(`\b[tbf]\.Skip(f|Now)?\(`)

func checkSkips(f *File) []string {
	if m := skips.FindString(f.Text); m != "" && f.Dir() != "tests/real" {
		return []string{fmt.Sprintf("%s: calls %s): a test that may not run proves nothing", f.Path, m)}
	}
	return nil
}

// checkDocs asks each package for a comment that says why it exists.
func checkDocs(files []*File) []string {
	type pkg struct {
		name string
		doc  string
	}
	packages := map[string]*pkg{}
	for _, f := range files {
		if strings.HasSuffix(f.Path, "_test.go") {
			continue
		}
		p := packages[f.Dir()]
		if p == nil {
			p = &pkg{name: f.AST.Name.Name}
			packages[f.Dir()] = p
		}
		if f.AST.Doc != nil {
			p.doc += f.AST.Doc.Text()
		}
	}
	var problems []string
	for dir, p := range packages {
		starts := strings.HasPrefix(p.doc, "Package "+p.name+" ") || p.name == "main"
		if !starts || len(p.doc) < 60 {
			problems = append(problems, fmt.Sprintf("%s: no package comment that says why it exists", dir))
		}
	}
	return problems
}
