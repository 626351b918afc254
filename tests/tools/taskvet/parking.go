package main

import (
	"go/ast"
	"go/types"
	"slices"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// parks is the fact that a function may park its task.
type parks struct{ Why string }

func (*parks) AFact()           {}
func (p *parks) String() string { return "parks" }

// seeds are the functions that park, by what they are; all others are found by
// their calls. The engine's own calls go through function values in places, so
// its public ones are listed.
func seeds(pkg, name string) bool {
	switch {
	case endsWith(pkg, "sidecar/engine"):
		return slices.Contains(strings.Fields(`
			Task.Park Task.ParkFor Task.Yield Task.Sleep Cond.Wait Cond.WaitFor
			Conn.Read Conn.Write Conn.WriteBuffers Conn.Flush
			TLS.Handshake TLS.Read TLS.Write TLS.WriteBuffers TLS.CloseWrite
			Transport.Read Transport.Write Transport.WriteBuffers Transport.CloseWrite
			Loop.Dial Loop.Pace Offload`), name)
	case endsWith(pkg, "sidecar/message"):
		return slices.Contains(strings.Fields(`
			Stream.ReadHead Stream.ReadBody Stream.WriteHead Stream.WriteBody Stream.WriteTrailers Stream.Flush`), name)
	}
	return false
}

// parking knows which functions may park.
type parking struct {
	pass  *analysis.Pass
	local map[*types.Func]string // those of this package, and why
	types []*types.Named         // that interface calls may end in
}

// findParking follows the calls of the package's functions until no more of them
// are found to park.
func findParking(pass *analysis.Pass) *parking {
	p := &parking{pass: pass, local: map[*types.Func]string{}, types: concreteTypes(pass.Pkg)}
	calls := map[*types.Func][]*types.Func{}
	for _, file := range pass.Files {
		for _, decl := range file.Decls {
			if d, ok := decl.(*ast.FuncDecl); ok && d.Body != nil {
				if f, ok := pass.TypesInfo.Defs[d.Name].(*types.Func); ok {
					calls[f] = p.calls(d.Body)
				}
			}
		}
	}
	for changed := true; changed; {
		changed = false
		for f, callees := range calls {
			if p.local[f] != "" {
				continue
			}
			for _, g := range callees {
				if p.mayPark(g) != "" {
					p.local[f] = "it calls " + g.Name()
					changed = true
					break
				}
			}
		}
	}
	return p
}

// calls lists the functions that a body calls itself: not those in function
// literals, which run whenever somebody calls them, unless they are called on
// the spot or deferred.
func (p *parking) calls(body ast.Node) []*types.Func {
	var all []*types.Func
	visitCalls(body, func(call *ast.CallExpr) {
		if f := callee(p.pass.TypesInfo, call); f != nil {
			all = append(all, f)
		}
	})
	return all
}

// visitCalls calls f for the calls below n that n's own execution makes.
func visitCalls(n ast.Node, f func(*ast.CallExpr)) {
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit, *ast.GoStmt:
			return false
		case *ast.CallExpr:
			f(n)
			if lit, ok := ast.Unparen(n.Fun).(*ast.FuncLit); ok {
				visitCalls(lit.Body, f)
			}
		}
		return true
	})
}

// mayPark says why f may park; empty: it does not, as far as is known.
func (p *parking) mayPark(f *types.Func) string {
	if f.Pkg() == nil {
		return ""
	}
	if seeds(f.Pkg().Path(), strings.TrimPrefix(fullName(f), f.Pkg().Path()+".")) {
		return "it parks"
	}
	if why := p.local[f]; why != "" {
		return why
	}
	if fact := new(parks); f.Pkg() != p.pass.Pkg && p.pass.ImportObjectFact(f, fact) {
		return fact.Why
	}
	if recv := f.Signature().Recv(); recv != nil && types.IsInterface(recv.Type()) {
		return p.implementationParks(f, recv.Type())
	}
	return ""
}

// implementationParks looks at the methods that a call through an interface may
// end in.
func (p *parking) implementationParks(method *types.Func, recv types.Type) string {
	face, ok := recv.Underlying().(*types.Interface)
	if !ok {
		return ""
	}
	for _, t := range p.types {
		pointer := types.NewPointer(t)
		if !types.Implements(pointer, face) {
			continue
		}
		found, _, _ := types.LookupFieldOrMethod(pointer, true, method.Pkg(), method.Name())
		if m, ok := found.(*types.Func); ok && !types.IsInterface(m.Signature().Recv().Type()) && p.mayPark(m.Origin()) != "" {
			return "its implementation " + t.Obj().Name() + "." + m.Name() + " may park"
		}
	}
	return ""
}

// concreteTypes lists the named types of a package and of the sidecar packages it
// imports.
func concreteTypes(pkg *types.Package) []*types.Named {
	var all []*types.Named
	for _, p := range append([]*types.Package{pkg}, pkg.Imports()...) {
		if p != pkg && foreign(p) {
			continue
		}
		for _, name := range p.Scope().Names() {
			if t, ok := p.Scope().Lookup(name).(*types.TypeName); ok && !t.IsAlias() {
				if n, ok := t.Type().(*types.Named); ok && !types.IsInterface(n) && n.TypeParams() == nil {
					all = append(all, n)
				}
			}
		}
	}
	return all
}

// exportFacts hands on what parks to the packages that import this one.
func (c *checker) exportFacts() {
	for f, why := range c.parking.local {
		c.ExportObjectFact(f, &parks{Why: why})
	}
}
