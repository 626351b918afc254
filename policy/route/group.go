package route

import (
	"math"
	"strings"
)

// none stands for "no rule yet": every index is lower.
const none = math.MaxInt

// group is the rules of one host pattern. Of several rules with the same condition
// only the first can ever match, so only the lowest index is kept.
type group struct {
	first   int    // lowest index of all
	anyPath int    // lowest index without a path condition
	paths   *paths // nil: no rule asks for one
}

func newGroup() *group { return &group{first: none, anyPath: none} }

// accepts is false for a rule that can never hold.
func (g *group) accepts(r Rule) bool {
	prefix := trimSlash(r.PathPrefix)
	switch {
	case r.PathPrefix == "":
		return true
	case prefix != "" && prefix[0] != '/': // paths are absolute, but for "*"
		return false
	}
	return r.Path == "" || hasPrefix(r.Path, prefix)
}

func (g *group) add(i int, r Rule) {
	g.first = min(g.first, i)
	if r.Path == "" && r.PathPrefix == "" {
		g.anyPath = min(g.anyPath, i)
		return
	}
	if g.paths == nil {
		g.paths = newPaths("")
	}
	if r.Path != "" {
		n := g.paths.at(r.Path, i)
		n.exact = min(n.exact, i)
		return
	}
	n := g.paths.at(trimSlash(r.PathPrefix), i)
	n.below = min(n.below, i)
}

// match returns the lower of best and the first rule of g that holds for path.
func (g *group) match(path []byte, best int) int {
	if g.first >= best {
		return best
	}
	best = min(best, g.anyPath)
	if g.paths == nil {
		return best
	}
	return g.paths.match(path, best)
}

// trimSlash takes the final slashes off a prefix: /v1/ and /v1 mean the same.
func trimSlash(prefix string) string { return strings.TrimRight(prefix, "/") }

// hasPrefix reports whether a trimmed prefix holds for path.
func hasPrefix(path, prefix string) bool {
	if !strings.HasPrefix(path, "/") || !strings.HasPrefix(path, prefix) {
		return false
	}
	return len(path) == len(prefix) || path[len(prefix)] == '/'
}
