package arch

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"strings"
)

// checkLength bounds a file: what is longer holds more than one idea.
func checkLength(f *File) []string {
	const most = 500
	if n := strings.Count(f.Text, "\n"); n > most {
		return []string{fmt.Sprintf("%s: %d lines, at most %d", f.Path, n, most)}
	}
	return nil
}

// checkInsecure finds TLS clients that verify nothing: InsecureSkipVerify is in
// order only where VerifyConnection is set beside it, in the same literal or in
// the same block of statements.
func checkInsecure(f *File) []string {
	if f.IsTest() {
		return nil
	}
	var problems []string
	ast.Inspect(f.AST, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit:
			value := keyed(n, skipVerify)
			if value != nil && !isFalse(value) && keyed(n, verify) == nil {
				problems = append(problems, f.problem(value.Pos(), "%s without %s in the same literal", skipVerify, verify))
			}
		case *ast.BlockStmt:
			if set := assigned(n, skipVerify); set != nil && assigned(n, verify) == nil {
				problems = append(problems, f.problem(set.Pos(), "%s without %s in the same block", skipVerify, verify))
			}
		}
		return true
	})
	return problems
}

const (
	skipVerify = "InsecureSkipVerify"
	verify     = "VerifyConnection"
)

// assigned returns a statement of the block itself that sets a field to other than
// false, or nil.
func assigned(block *ast.BlockStmt, field string) ast.Stmt {
	for _, s := range block.List {
		a, ok := s.(*ast.AssignStmt)
		if !ok {
			continue
		}
		for i, left := range a.Lhs {
			if s, ok := left.(*ast.SelectorExpr); ok && s.Sel.Name == field && (i >= len(a.Rhs) || !isFalse(a.Rhs[i])) {
				return a
			}
		}
	}
	return nil
}

// keyed returns the value under a key of a literal, or nil.
func keyed(lit *ast.CompositeLit, key string) ast.Expr {
	for _, e := range lit.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if id, ok := kv.Key.(*ast.Ident); ok && id.Name == key {
				return kv.Value
			}
		}
	}
	return nil
}

func isFalse(e ast.Expr) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == "false"
}

// checkState finds init functions and package variables that can change, which
// are state that nobody owns. Constants in all but name stay: errors, tables,
// compiled patterns, embedded files, interface assertions.
func checkState(f *File) []string {
	if f.IsTest() {
		return nil
	}
	var problems []string
	for _, d := range f.AST.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && d.Name.Name == "init" {
				problems = append(problems, f.problem(d.Pos(), "init function"))
			}
		case *ast.GenDecl:
			if d.Tok == token.VAR {
				problems = append(problems, checkVars(f, d)...)
			}
		}
	}
	return problems
}

// linked is the one variable that the linker sets.
const linked = "sidecar/cli/version.go version"

func checkVars(f *File, d *ast.GenDecl) []string {
	var problems []string
	for _, s := range d.Specs {
		spec := s.(*ast.ValueSpec)
		if embedded(d.Doc) || embedded(spec.Doc) {
			continue
		}
		for i, name := range spec.Names {
			if name.Name == "_" || f.Path+" "+name.Name == linked || isError(spec.Type) || i < len(spec.Values) && constantLike(spec.Values[i]) {
				continue
			}
			problems = append(problems, f.problem(name.Pos(), "package variable %s is neither a table nor an error", name.Name))
		}
	}
	return problems
}

// isError reports whether a variable is declared as error: a sentinel.
func isError(t ast.Expr) bool {
	id, ok := t.(*ast.Ident)
	return ok && id.Name == "error"
}

func embedded(doc *ast.CommentGroup) bool {
	if doc == nil {
		return false
	}
	for _, c := range doc.List {
		if strings.HasPrefix(c.Text, "//go:embed") {
			return true
		}
	}
	return false
}

// constantLike reports whether a package variable's value is a table, an error or
// the like: a literal, a call that makes an error or a pattern, or a call of a
// function that says build, make, must, parse or table.
func constantLike(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.CompositeLit:
		return table(e.Type)
	case *ast.CallExpr:
		return maker.MatchString(callee(e.Fun))
	case *ast.FuncLit:
		return false
	}
	return false
}

// table reports whether a literal of this type is one: arrays, slices, maps, and
// structs other than locks and atomics.
func table(t ast.Expr) bool {
	if s, ok := t.(*ast.SelectorExpr); ok {
		pkg, _ := s.X.(*ast.Ident)
		return pkg == nil || pkg.Name != "sync" && pkg.Name != "atomic"
	}
	return t != nil
}

var maker = regexp.MustCompile(`^(errors\.New|fmt\.Errorf|strings\.NewReplacer|time\.(Date|Unix)|(\w+\.)?(Must|Require)\w*|(\w+\.)?(build|make|must|parse|table)\w*)$`)

// callee names the function of a call: "f", "pkg.F" or the type of a conversion or
// immediately called literal, which is none.
func callee(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok {
			return x.Name + "." + e.Sel.Name
		}
	case *ast.FuncLit:
		return "makeInPlace" // a table that is built where it stands
	}
	return ""
}

// checkNames finds names that say nothing, and words that GLOSSARY.md avoids.
func checkNames(f *File) []string {
	var problems []string
	if empty.MatchString(f.AST.Name.Name) || empty.MatchString(strings.TrimSuffix(path.Base(f.Path), ".go")) {
		problems = append(problems, fmt.Sprintf("%s: a package or file name that says nothing", f.Path))
	}
	if f.IsTest() {
		return problems
	}
	ast.Inspect(f.AST, func(n ast.Node) bool {
		for _, id := range declared(n) {
			if avoided.MatchString(id.Name) {
				problems = append(problems, f.problem(id.Pos(), "the name %s: see GLOSSARY.md for the word to use", id.Name))
			}
		}
		return true
	})
	return problems
}

var (
	empty   = regexp.MustCompile(`^(utils?|common|helpers?|base|managers?|misc|shared)$`)
	avoided = regexp.MustCompile(`(?i)^(.*(cluster|backend)s?.*|.*(manager|helper|util))$`)
)

// declared lists the names that a node declares.
func declared(n ast.Node) []*ast.Ident {
	switch n := n.(type) {
	case *ast.FuncDecl:
		return []*ast.Ident{n.Name}
	case *ast.TypeSpec:
		return []*ast.Ident{n.Name}
	case *ast.ValueSpec:
		return n.Names
	case *ast.Field:
		return n.Names
	}
	return nil
}
