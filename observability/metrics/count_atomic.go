//go:build race || !(amd64 || arm64)

package metrics

import "sync/atomic"

// add is called by the loop that owns c and by nobody else.
func (c *count) add(n uint64) { atomic.StoreUint64(&c.v, atomic.LoadUint64(&c.v)+n) }
