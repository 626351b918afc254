package main

import (
	"go/ast"
	"go/types"
	"strings"

	"golang.org/x/tools/go/analysis"
)

const doc = `check the rules for code on engine tasks

1. No lock, Once or singleflight is held across a call that may park.
2. Nothing waits in the Go scheduler: no channel operations, no select without
   default, no time.Sleep or WaitGroup.Wait, no blocking calls of net, os and the
   like, no go statements. What runs on an ordinary goroutine says so:
   "//engine:goroutine REASON", in a function's comment for all of it, or on the
   statement's line or the one above.
3. No runtime.LockOSThread or Goexit; TLS only through the engine.

What may park is found by following calls from the engine's parking functions,
through packages by facts; calls of function values are not followed.`

func newAnalyzer() *analysis.Analyzer {
	return &analysis.Analyzer{Name: "taskvet", Doc: doc, FactTypes: []analysis.Fact{new(parks)}, Run: run}
}

func run(pass *analysis.Pass) (any, error) {
	if foreign(pass.Pkg) {
		return nil, nil
	}
	c := &checker{Pass: pass, parking: findParking(pass)}
	c.exportFacts()
	if onTasks(pass.Pkg) {
		c.check()
	}
	return nil, nil
}

// onTasks reports a package whose code runs on tasks.
func onTasks(p *types.Package) bool {
	for _, end := range []string{"sidecar/http1", "sidecar/message", "sidecar/upstream", "sidecar/proxy"} {
		if endsWith(p.Path(), end) {
			return true
		}
	}
	return false
}

// foreign reports a package that cannot reach the engine, to save the time: the
// standard library and other modules.
func foreign(p *types.Package) bool {
	path := p.Path()
	return !strings.HasPrefix(path, "sidecar/") && !strings.Contains(path, "/sidecar/")
}

func endsWith(path, end string) bool { return path == end || strings.HasSuffix(path, "/"+end) }

// checker judges one package.
type checker struct {
	*analysis.Pass
	parking *parking
	markers markers
}

// check applies the three rules to every function outside of tests.
func (c *checker) check() {
	for _, file := range c.Files {
		if strings.HasSuffix(c.Fset.Position(file.Package).Filename, "_test.go") {
			continue
		}
		c.markers = c.readMarkers(file)
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			c.checkThreads(f.Body)
			if c.markers.onFunc(f) {
				continue
			}
			c.checkWaits(f.Body)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				c.checkLocks(n.Body)
			case *ast.FuncLit:
				c.checkLocks(n.Body)
			}
			return true
		})
	}
}

// callee returns the function or method that a call names, or nil for calls of
// function values, conversions and builtins.
func (c *checker) callee(call *ast.CallExpr) *types.Func { return callee(c.TypesInfo, call) }

func callee(info *types.Info, call *ast.CallExpr) *types.Func {
	fun := ast.Unparen(call.Fun)
	switch indexed := fun.(type) {
	case *ast.IndexExpr:
		fun = indexed.X
	case *ast.IndexListExpr:
		fun = indexed.X
	}
	var id *ast.Ident
	switch fun := fun.(type) {
	case *ast.Ident:
		id = fun
	case *ast.SelectorExpr:
		id = fun.Sel
	default:
		return nil
	}
	f, _ := info.Uses[id].(*types.Func)
	if f == nil {
		return nil
	}
	return f.Origin()
}

// fullName words a function for tables: "sync.Mutex.Lock", "time.Sleep".
func fullName(f *types.Func) string {
	if f.Pkg() == nil {
		return f.Name()
	}
	name := f.Pkg().Path() + "."
	if recv := f.Signature().Recv(); recv != nil {
		name += typeName(recv.Type()) + "."
	}
	return name + f.Name()
}

func typeName(t types.Type) string {
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	if n, ok := types.Unalias(t).(*types.Named); ok {
		return n.Obj().Name()
	}
	return ""
}
