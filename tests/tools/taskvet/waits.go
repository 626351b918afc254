package main

import (
	"go/ast"
	"go/token"
	"go/types"
	"regexp"
)

// blocking matches calls that wait in the Go scheduler or in the kernel. Methods of
// os.File and net.Conn are among them; reading the clock, parsing addresses and
// the like are not.
var blocking = regexp.MustCompile(`^(` +
	`time\.Sleep|` +
	`sync\.(WaitGroup|Cond)\.Wait|` +
	`net\.(Dial|Listen|Lookup|Resolve)\w*|` +
	`net\.(Dialer|ListenConfig|Resolver)\.\w+|` +
	`net\.(Listener|TCPListener|UnixListener)\.Accept\w*|` +
	`net\.(Conn|TCPConn|UDPConn|UnixConn|conn)\.(Read|Write)\w*|` +
	`net/http\.(Get|Head|Post|PostForm|ListenAndServe\w*|Serve\w*)|` +
	`net/http\.(Client|Server|Transport)\.\w+|` +
	`os\.(Open|Create|Read|Write|Stat|Lstat|Remove|Rename|Mkdir|Link|Symlink|Chmod|Chown|Truncate|Copy)\w*|` +
	`os\.(File|Process|Root)\.\w+|` +
	`os/exec\.Cmd\.\w+|` +
	`fmt\.(Print|Scan)\w*|` +
	`log\.\w+|log\.Logger\.\w+` +
	`)$`)

// checkWaits finds what waits in the Go scheduler (rule 2) in a function that is
// not marked as running on an ordinary goroutine.
func (c *checker) checkWaits(body *ast.BlockStmt) {
	ast.Inspect(body, func(n ast.Node) bool {
		if n == nil || c.markers.on(n) {
			return false
		}
		switch n := n.(type) {
		case *ast.GoStmt:
			c.wait(n, "a go statement")
			return false
		case *ast.SendStmt:
			c.wait(n, "a channel send")
		case *ast.UnaryExpr:
			if n.Op == token.ARROW {
				c.wait(n, "a channel receive")
			}
		case *ast.RangeStmt:
			if t := c.TypesInfo.TypeOf(n.X); t != nil {
				if _, channel := t.Underlying().(*types.Chan); channel {
					c.wait(n, "a range over a channel")
				}
			}
		case *ast.SelectStmt:
			return c.checkSelect(n)
		case *ast.CallExpr:
			if f := c.callee(n); f != nil && blocking.MatchString(fullName(f)) {
				c.wait(n, fullName(f))
			}
		}
		return true
	})
}

func (c *checker) wait(n ast.Node, what string) {
	c.Reportf(n.Pos(), "rule 2: %s on a task: use Offload, Post or Loop.Go, or mark it //engine:goroutine REASON", what)
}

// checkSelect lets the communications of a select with a default pass, since they
// never wait, and looks at its bodies; it returns whether to descend as usual.
func (c *checker) checkSelect(s *ast.SelectStmt) bool {
	for _, clause := range s.Body.List {
		if clause.(*ast.CommClause).Comm != nil {
			continue
		}
		for _, clause := range s.Body.List {
			for _, stmt := range clause.(*ast.CommClause).Body {
				c.checkWaits(&ast.BlockStmt{List: []ast.Stmt{stmt}})
			}
		}
		return false
	}
	c.wait(s, "a select without default")
	return false
}

// checkThreads finds calls that break the loop's goroutine (rule 3), marked or
// not, and TLS beside the engine's.
func (c *checker) checkThreads(body *ast.BlockStmt) {
	ast.Inspect(body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		f := c.callee(call)
		if f == nil {
			return true
		}
		switch name := fullName(f); name {
		case "runtime.LockOSThread", "runtime.Goexit":
			c.Reportf(call.Pos(), "rule 3: %s stops the loop", name)
		case "crypto/tls.Client", "crypto/tls.Server", "crypto/tls.NewListener",
			"crypto/tls.Conn.Read", "crypto/tls.Conn.Write", "crypto/tls.Conn.Close", "crypto/tls.Conn.CloseWrite",
			"crypto/tls.Conn.Handshake", "crypto/tls.Conn.HandshakeContext":
			c.Reportf(call.Pos(), "rule 3: %s: TLS on a task goes through engine.TLS", name)
		}
		return true
	})
}
