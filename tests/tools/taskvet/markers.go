package main

import (
	"go/ast"
	"go/token"
	"strings"
)

const marker = "//engine:goroutine"

// markers are the lines of one file that a marker speaks for.
type markers struct {
	files *token.FileSet
	lines map[int]bool
}

// readMarkers collects the markers of a file and reports those without a reason.
// One behind a statement speaks for its line, one that stands alone for the next.
func (c *checker) readMarkers(file *ast.File) markers {
	m := markers{files: c.Fset, lines: map[int]bool{}}
	code := map[int]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(ast.Stmt); ok {
			code[c.Fset.Position(s.Pos()).Line] = true
		}
		return true
	})
	for _, group := range file.Comments {
		for _, comment := range group.List {
			reason, ok := strings.CutPrefix(comment.Text, marker)
			if !ok {
				continue
			}
			if reason, _, _ = strings.Cut(reason, "//"); strings.TrimSpace(reason) == "" {
				c.Reportf(comment.Pos(), "%s without a reason", marker)
			}
			line := c.Fset.Position(comment.Pos()).Line
			if !code[line] {
				line++
			}
			m.lines[line] = true
		}
	}
	return m
}

// on reports whether a statement is marked, on its first line or the one above.
func (m markers) on(n ast.Node) bool {
	if _, ok := n.(ast.Stmt); !ok {
		return false
	}
	if _, ok := n.(*ast.BlockStmt); ok {
		return false
	}
	return m.lines[m.files.Position(n.Pos()).Line]
}

// onFunc reports whether a function's comment marks all of it.
func (m markers) onFunc(f *ast.FuncDecl) bool {
	if f.Doc == nil {
		return false
	}
	for _, comment := range f.Doc.List {
		if strings.HasPrefix(comment.Text, marker) {
			return true
		}
	}
	return false
}
