//go:build (amd64 || arm64) && !race

package metrics

// add is called by the loop that owns c and by nobody else.
func (c *count) add(n uint64) { c.v += n }
