// Package route decides which rule of a listener a request falls under: the
// first one, in the order of the configuration, whose conditions all hold. It
// must not know of services, listeners or codecs; it deals in indices.
//
// Cost: a match of host and path among 1,000 rules is a look into a map and down a
// tree for each pattern that fits the host, a few hundred nanoseconds in all, and
// allocates nothing (BenchmarkMatchThousand).
package route

import "strings"

// Rule is the conditions of one route; empty ones always hold.
type Rule struct {
	// Host is an exact name, "*.example.com" (one or more labels in front, not
	// example.com itself) or "*". Case, a port and a final dot are ignored, in the
	// rule as in the request.
	Host string
	// Path is the exact path.
	Path string
	// PathPrefix holds for the path itself and everything below it, segment by
	// segment: /v1 and /v1/ hold for /v1, /v1/ and /v1/x but not for /v10. "/"
	// holds for every path, not for the target "*".
	PathPrefix string
}

// Table is a compiled list of rules. It is immutable, and safe for use by all
// loops at once.
type Table struct {
	exact map[string]*group // by host
	wild  map[string]*group // by what follows "*."
	any   *group            // rules without a host; nil: none
	// labels[n]: a name of n labels is among those of wild. A host is looked up by so many
	// of its last ones only, or one of a hundred labels would cost a hundred look-ups.
	labels []bool
}

// Compile builds the table of rules. Paths are compared as they are, byte by
// byte: percent-encoding and dot segments are the caller's to settle before.
func Compile(rules []Rule) *Table {
	t := &Table{exact: map[string]*group{}, wild: map[string]*group{}}
	for i, r := range rules {
		if g := t.group(r.Host); g.accepts(r) {
			g.add(i, r)
		}
	}
	for name := range t.wild {
		n := strings.Count(name, ".") + 1
		t.labels = append(t.labels, make([]bool, max(0, n+1-len(t.labels)))...)
		t.labels[n] = true
	}
	return t
}

// group returns the group of rules for one host pattern, made where missing.
func (t *Table) group(pattern string) *group {
	kind, name := parseHost(pattern)
	byName := t.exact
	switch kind {
	case hostAny:
		if t.any == nil {
			t.any = newGroup()
		}
		return t.any
	case hostWild:
		byName = t.wild
	}
	g := byName[name]
	if g == nil {
		g = newGroup()
		byName[name] = g
	}
	return g
}

// Match returns the index of the first rule that holds for a request's host (the
// authority: a port is ignored) and path (a query is ignored). It is called on a
// loop for each request, keeps neither slice and allocates nothing.
func (t *Table) Match(host, path []byte) (index int, ok bool) {
	path = withoutQuery(path)
	best := none
	if len(t.exact) != 0 || len(t.wild) != 0 {
		best = t.matchHost(host, path)
	}
	if t.any != nil {
		best = t.any.match(path, best)
	}
	if best == none {
		return 0, false
	}
	return best, true
}

// matchHost looks through the groups that name a host.
func (t *Table) matchHost(host, path []byte) int {
	var space [maxHost]byte
	name := normalise(space[:0], host)
	best := none
	if g := t.exact[string(name)]; g != nil {
		best = g.match(path, best)
	}
	labels := 0
	for i := len(name) - 1; i > 0; i-- {
		if name[i] != '.' {
			continue
		}
		if labels++; labels >= len(t.labels) {
			break
		}
		if !t.labels[labels] {
			continue
		}
		if g := t.wild[string(name[i+1:])]; g != nil {
			best = g.match(path, best)
		}
	}
	return best
}
