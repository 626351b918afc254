// Package arch holds the rules of the project's shape as tests: which package may
// import which, that each says why it exists, and what must not stand in the
// source. The rules read source text only, so they also judge files that do not
// compile on this system. The package must not import anything of the project.
package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Module is the import path of the project's root.
const Module = "github.com/larboard-proxy/larboard"

// File is one parsed Go file.
type File struct {
	Path string // from the root, with slashes
	Text string
	Set  *token.FileSet
	AST  *ast.File
}

// Parse reads one file's text.
func Parse(name, text string) (*File, error) {
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", name, err)
	}
	return &File{Path: name, Text: text, Set: set, AST: tree}, nil
}

// Dir is the package's directory from the root; "." for the root itself.
func (f *File) Dir() string { return path.Dir(f.Path) }

// IsTest reports whether f is part of tests only.
func (f *File) IsTest() bool {
	return strings.HasSuffix(f.Path, "_test.go") || strings.HasPrefix(f.Path, "tests/")
}

// Imports lists the import paths of f.
func (f *File) Imports() []string {
	var all []string
	for _, spec := range f.AST.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			all = append(all, p)
		}
	}
	return all
}

// problem words a finding at a place in f.
func (f *File) problem(at token.Pos, format string, args ...any) string {
	return fmt.Sprintf("%s:%d: %s", f.Path, f.Set.Position(at).Line, fmt.Sprintf(format, args...))
}

// skipped reports whether a directory is none of the module's source: hidden
// ones, testdata, build output, and modules of their own (the tools).
func skipped(root, dir string) bool {
	name := path.Base(dir)
	if dir == "." {
		return false
	}
	_, err := os.Stat(filepath.Join(root, dir, "go.mod"))
	return err == nil || strings.HasPrefix(name, ".") || name == "testdata" || dir == "bin"
}

// Load parses all Go files of the module under root.
func Load(root string) ([]*File, error) {
	var files []*File
	err := walk(root, func(name string) error {
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return err
		}
		f, err := Parse(name, string(text))
		if err != nil {
			return err
		}
		files = append(files, f)
		return nil
	})
	return files, err
}

// walk calls f with the path of each file of the module.
func walk(root string, f func(name string) error) error {
	return filepath.WalkDir(root, func(full string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, full)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		switch {
		case d.IsDir() && skipped(root, name):
			return filepath.SkipDir
		case d.IsDir():
			return nil
		}
		return f(name)
	})
}
