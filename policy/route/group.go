package route

import (
	"math"
	"strings"
)

// none stands for "no rule yet": every index is lower.
const none = math.MaxInt

// group is the rules of one host pattern, indexed by path. Of several rules with
// the same condition only the first can ever match, so a map keeps just the
// lowest index.
type group struct {
	first    int            // lowest index of all
	anyPath  int            // lowest index without a path condition
	exact    map[string]int // by path
	prefixes map[string]int // by prefix without its final slash; "" is "/"
	longest  int            // of prefixes, in bytes
}

func newGroup() *group {
	return &group{first: none, anyPath: none, exact: map[string]int{}, prefixes: map[string]int{}}
}

// accepts is false for a rule that can never hold.
func (g *group) accepts(r Rule) bool {
	return r.Path == "" || r.PathPrefix == "" || hasPrefix(r.Path, trimSlash(r.PathPrefix))
}

func (g *group) add(i int, r Rule) {
	g.first = min(g.first, i)
	switch {
	case r.Path != "":
		lower(g.exact, r.Path, i)
	case r.PathPrefix != "":
		prefix := trimSlash(r.PathPrefix)
		lower(g.prefixes, prefix, i)
		g.longest = max(g.longest, len(prefix))
	default:
		g.anyPath = min(g.anyPath, i)
	}
}

// lower keeps the lowest index under a key.
func lower(m map[string]int, key string, i int) {
	if old, ok := m[key]; !ok || i < old {
		m[key] = i
	}
}

// match returns the lower of best and the first rule of g that holds for path.
func (g *group) match(path []byte, best int) int {
	if g.first >= best {
		return best
	}
	best = min(best, g.anyPath)
	if i, ok := g.exact[string(path)]; ok {
		best = min(best, i)
	}
	if len(g.prefixes) == 0 {
		return best
	}
	return g.matchPrefix(path, best)
}

// matchPrefix looks up each whole-segment prefix of path, up to the length of the
// longest one configured, so that a path of a thousand slashes costs no more.
func (g *group) matchPrefix(path []byte, best int) int {
	if len(path) == 0 || path[0] != '/' {
		return best
	}
	for end := 0; end <= len(path) && end <= g.longest; end++ {
		if end < len(path) && path[end] != '/' {
			continue
		}
		if i, ok := g.prefixes[string(path[:end])]; ok {
			best = min(best, i)
		}
	}
	return best
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
