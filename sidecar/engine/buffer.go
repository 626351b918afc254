package engine

// Buffers are pooled by size class in each loop, last in, first out: the one used last is
// the one still in the cache. Buffer and Release cost a few stores.

var bufferClasses = [...]int{8 << 10, 32 << 10, 64 << 10}

type buffers struct {
	class [len(bufferClasses)]bufferClass
}

type bufferClass struct {
	free  [][]byte
	used  int
	decay decay
}

// Buffer returns a buffer of at least size bytes, from the pool up to 64 KiB (its length is
// then that of its class: 8, 32 or 64 KiB), allocated above. Its content is undefined. The
// caller gives it back with Release. Loop only.
func (l *Loop) Buffer(size int) []byte {
	checkOwner(l)
	i := classOf(size)
	if i < 0 {
		l.engine.memory.grow(l.engine, size)
		return make([]byte, size)
	}
	c := &l.buffers.class[i]
	c.used++
	c.decay.use(c.used)
	if n := len(c.free); n > 0 {
		b := c.free[n-1]
		c.free[n-1] = nil
		c.free = c.free[:n-1]
		return b
	}
	l.engine.memory.grow(l.engine, bufferClasses[i])
	return make([]byte, bufferClasses[i])
}

// Release gives a buffer from Buffer back; it must not be used afterwards. A shortened slice
// will do as long as it starts where the buffer did. Loop only.
func (l *Loop) Release(b []byte) {
	for i, size := range bufferClasses {
		if cap(b) == size {
			c := &l.buffers.class[i]
			b = b[:size]
			checkRelease(c, b)
			c.used--
			if l.engine.memory.short.Load() {
				l.engine.memory.shrink(l.engine, size)
				return
			}
			c.free = append(c.free, b)
			l.armUpkeep()
			return
		}
	}
	if cap(b) > bufferClasses[len(bufferClasses)-1] {
		l.engine.memory.shrink(l.engine, cap(b))
	}
}

// classOf returns the index of the smallest class that holds size bytes, -1 for none.
func classOf(size int) int {
	for i, s := range bufferClasses {
		if size <= s {
			return i
		}
	}
	return -1
}

// trim drops the free buffers that the recent peak does not ask for, all of them when
// buffers are short.
func (b *buffers) trim(l *Loop) {
	for i := range b.class {
		c := &b.class[i]
		b.shorten(l, i, c.decay.step(c.used, len(c.free)))
	}
	if l.engine.memory.short.Load() {
		b.drop(l)
	}
}

// drop drops all free buffers.
func (b *buffers) drop(l *Loop) {
	for i := range b.class {
		b.shorten(l, i, len(b.class[i].free))
	}
}

// shorten drops n free buffers of a class.
func (b *buffers) shorten(l *Loop, class, n int) {
	c := &b.class[class]
	for range n {
		c.free[len(c.free)-1] = nil
		c.free = c.free[:len(c.free)-1]
	}
	if n > 0 {
		l.engine.memory.shrink(l.engine, n*bufferClasses[class])
	}
}

func (b *buffers) used() (n int) {
	for i := range b.class {
		n += b.class[i].used
	}
	return n
}

func (b *buffers) bytes() (n int) {
	for i := range b.class {
		n += (b.class[i].used + len(b.class[i].free)) * bufferClasses[i]
	}
	return n
}

func (b *buffers) spare() (n int) {
	for i := range b.class {
		n += len(b.class[i].free)
	}
	return n
}
