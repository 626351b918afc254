package main

import (
	"go/ast"
	"go/types"
	"maps"
	"slices"
	"strings"

	"golang.org/x/tools/go/cfg"
)

// held is the set of locks that may be held at a point, by the text of what was
// locked.
type held map[string]bool

// checkLocks finds calls that may park while a lock is held (rule 1), within one
// function: it follows the control flow, and a lock counts as held where it is on
// any way. A deferred Unlock releases at the end only.
func (c *checker) checkLocks(body *ast.BlockStmt) {
	if body == nil {
		return
	}
	c.checkOnce(body)
	if !c.locksAny(body) {
		return
	}
	graph := cfg.New(body, func(*ast.CallExpr) bool { return true })
	in := map[*cfg.Block]held{}
	work := []*cfg.Block{graph.Blocks[0]}
	in[graph.Blocks[0]] = held{}
	for len(work) > 0 {
		block := work[0]
		work = work[1:]
		out := c.through(block, maps.Clone(in[block]), nil)
		for _, next := range block.Succs {
			if grown := merge(in, next, out); grown {
				work = append(work, next)
			}
		}
	}
	for _, block := range graph.Blocks {
		if state, live := in[block]; live {
			c.through(block, maps.Clone(state), c.reportHeld)
		}
	}
}

// merge adds state to what may be held at the start of a block, and reports
// whether that changed anything.
func merge(in map[*cfg.Block]held, block *cfg.Block, state held) bool {
	old, seen := in[block]
	if !seen {
		in[block] = maps.Clone(state)
		return true
	}
	size := len(old)
	maps.Copy(old, state)
	return len(old) != size
}

// through follows the calls of one block; visit, where given, sees each call with
// the locks held at it.
func (c *checker) through(block *cfg.Block, state held, visit func(*ast.CallExpr, held)) held {
	for _, node := range block.Nodes {
		if _, deferred := node.(*ast.DeferStmt); deferred {
			continue
		}
		visitCalls(node, func(call *ast.CallExpr) {
			switch lock, op := c.lockCall(call); op {
			case "Lock", "RLock", "TryLock", "TryRLock":
				state[lock] = true
			case "Unlock", "RUnlock":
				delete(state, lock)
			default:
				if visit != nil && len(state) > 0 {
					visit(call, state)
				}
			}
		})
	}
	return state
}

func (c *checker) reportHeld(call *ast.CallExpr, state held) {
	f := c.callee(call)
	if f == nil {
		return
	}
	if why := c.parking.mayPark(f); why != "" {
		locks := slices.Sorted(maps.Keys(state))
		c.Reportf(call.Pos(), "rule 1: %s may park (%s) while %s is locked: a lock held by a parked task stops the loop", f.Name(), why, strings.Join(locks, ", "))
	}
}

// lockCall returns what a call locks or unlocks, and the method's name; empty for
// other calls.
func (c *checker) lockCall(call *ast.CallExpr) (lock, op string) {
	f := c.callee(call)
	if f == nil || f.Pkg() == nil || f.Pkg().Path() != "sync" || f.Signature().Recv() == nil {
		return "", ""
	}
	switch typeName(f.Signature().Recv().Type()) {
	case "Mutex", "RWMutex", "Locker":
	default:
		return "", ""
	}
	if s, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr); ok {
		return types.ExprString(s.X), f.Name()
	}
	return "", ""
}

func (c *checker) locksAny(body *ast.BlockStmt) (found bool) {
	visitCalls(body, func(call *ast.CallExpr) {
		if _, op := c.lockCall(call); strings.HasSuffix(op, "Lock") {
			found = true
		}
	})
	return found
}

// checkOnce finds functions that park under a Once or a singleflight group: all
// others who come wait in the scheduler.
func (c *checker) checkOnce(body *ast.BlockStmt) {
	visitCalls(body, func(call *ast.CallExpr) {
		f := c.callee(call)
		if f == nil || f.Pkg() == nil {
			return
		}
		switch name := fullName(f); {
		case name == "sync.Once.Do" || strings.HasPrefix(name, "sync.OnceFunc") || strings.HasPrefix(name, "sync.OnceValue"):
			for _, argument := range call.Args {
				if why := c.argumentParks(argument); why != "" {
					c.Reportf(call.Pos(), "rule 1: %s runs a function that may park (%s)", strings.TrimPrefix(name, "sync."), why)
				}
			}
		case strings.HasSuffix(f.Pkg().Path(), "/singleflight") && f.Name() == "Do":
			c.Reportf(call.Pos(), "rule 1: singleflight waits in the Go scheduler")
		}
	})
}

// argumentParks says why a function given as an argument may park.
func (c *checker) argumentParks(e ast.Expr) (why string) {
	switch e := ast.Unparen(e).(type) {
	case *ast.FuncLit:
		for _, f := range c.parking.calls(e.Body) {
			if c.parking.mayPark(f) != "" {
				return "it calls " + f.Name()
			}
		}
	case *ast.Ident:
		if f, ok := c.TypesInfo.Uses[e].(*types.Func); ok {
			return c.parking.mayPark(f.Origin())
		}
	case *ast.SelectorExpr:
		if f, ok := c.TypesInfo.Uses[e.Sel].(*types.Func); ok {
			return c.parking.mayPark(f.Origin())
		}
	}
	return ""
}
