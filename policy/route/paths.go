package route

import "strings"

// paths is the rules of one host pattern that ask for a path or a prefix, as a radix
// tree: a node stands for the bytes from the root to it, and those of its children begin
// differently.
//
// So the bytes of a path are looked at once. Of the alternatives, a look into a map for
// each segment of the path costs 40 ns a segment, and a path has as many as its client
// likes; a binary search among sorted prefixes takes twice as long where they begin
// alike.
type paths struct {
	bytes  string // from the parent's to here
	exact  int    // lowest index of the rules for this very path
	below  int    // and of those for this prefix, without its final slash
	lowest int    // of all in this node and under it
	firsts string // of the children's bytes
	next   []*paths
}

func newPaths(bytes string) *paths {
	return &paths{bytes: bytes, exact: none, below: none, lowest: none}
}

// at returns the node of path, made where missing. Index i is to be added to it.
func (n *paths) at(path string, i int) *paths {
	n.lowest = min(n.lowest, i)
	if path == "" {
		return n
	}
	k := strings.IndexByte(n.firsts, path[0])
	if k < 0 {
		child := newPaths(path)
		n.firsts, n.next = n.firsts+path[:1], append(n.next, child)
		return child.at("", i)
	}
	child := n.next[k]
	shared := 0
	for shared < min(len(path), len(child.bytes)) && path[shared] == child.bytes[shared] {
		shared++
	}
	if shared < len(child.bytes) {
		upper := newPaths(child.bytes[:shared])
		upper.lowest = child.lowest
		child.bytes = child.bytes[shared:]
		upper.firsts, upper.next = child.bytes[:1], []*paths{child}
		n.next[k], child = upper, upper
	}
	return child.at(path[shared:], i)
}

// match returns the lower of best and the first rule that holds for path. It goes no
// further down than there is something lower.
func (n *paths) match(path []byte, best int) int {
	if len(path) == 0 {
		return best
	}
	for n.lowest < best {
		if len(path) == 0 {
			return min(best, n.exact, n.below)
		}
		if path[0] == '/' {
			best = min(best, n.below)
		}
		k := 0
		if len(n.next) != 1 { // of one, all bytes are compared below
			if k = strings.IndexByte(n.firsts, path[0]); k < 0 {
				break
			}
		}
		n = n.next[k]
		if len(path) < len(n.bytes) || string(path[:len(n.bytes)]) != n.bytes {
			break
		}
		path = path[len(n.bytes):]
	}
	return best
}
