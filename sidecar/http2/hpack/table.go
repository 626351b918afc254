package hpack

import "unsafe"

// table is a dynamic table (RFC 7541 section 2.3.2): a queue of entries over one
// byte buffer. Both grow as entries come, to no more than the table's limit, so that
// what an idle connection holds is what its peer has stored.
type table struct {
	buf   []byte  // names and values, the oldest first; the live ones begin at low
	ring  []entry // a power of two; the entry numbered n is at n modulo its length
	low   int
	first uint32 // number of the oldest entry
	count uint32
	size  int // of all entries, overhead included
	max   int // that size may have
}

// entry says where a field lies, and what the decoder's caller thinks of it.
type entry struct {
	at, name, value   uint16
	nameTag, valueTag uint8
}

const (
	leastBuffer = 128 // bytes
	leastRing   = 4   // entries
)

func (t *table) entry(number uint32) *entry { return &t.ring[number&uint32(len(t.ring)-1)] }

// find returns the entry with an index of the dynamic table, from 0 for the newest.
func (t *table) find(index uint32) *entry {
	if index >= t.count {
		return nil
	}
	return t.entry(t.first + t.count - 1 - index)
}

func (t *table) bytes(e *entry) (name, value []byte) {
	at, mid, end := int(e.at), int(e.at)+int(e.name), int(e.at)+int(e.name)+int(e.value)
	return t.buf[at:mid:mid], t.buf[mid:end:end]
}

// resize sets the size that the table may have.
func (t *table) resize(size int) {
	t.max = size
	t.evict(size)
}

// evict takes out the oldest entries until all have at most the size given.
func (t *table) evict(size int) {
	for t.size > size {
		e := t.entry(t.first)
		t.size -= int(e.name) + int(e.value) + overhead
		t.low = int(e.at) + int(e.name) + int(e.value)
		t.first++
		t.count--
	}
	if t.count == 0 {
		t.buf, t.low = t.buf[:0], 0
	}
}

// insert adds the newest entry; nil where it is larger than the whole table, which
// is then empty (RFC 7541 section 4.4). name and value must not lie in the table.
func (t *table) insert(name, value []byte) *entry {
	n := len(name) + len(value)
	if n+overhead > t.max {
		t.evict(0)
		return nil
	}
	t.evict(t.max - n - overhead)
	if len(t.buf)+n > cap(t.buf) {
		t.makeRoom(n)
	}
	if int(t.count) == len(t.ring) {
		t.growRing()
	}
	e := t.entry(t.first + t.count)
	*e = entry{at: uint16(len(t.buf)), name: uint16(len(name)), value: uint16(len(value))}
	t.buf = append(append(t.buf, name...), value...)
	t.count++
	t.size += n + overhead
	return e
}

// makeRoom moves the live bytes to the front, of a larger buffer where they would
// fill more than three quarters of this one. A buffer as large as the table's limit
// always has room: each entry counts 32 bytes more than it takes here.
func (t *table) makeRoom(n int) {
	live := t.buf[t.low:]
	to := t.buf
	if need := len(live) + n; need > cap(t.buf)/4*3 && cap(t.buf) < t.max {
		size := max(leastBuffer, 2*cap(t.buf))
		for size < need {
			size *= 2
		}
		to = make([]byte, min(size, max(t.max, cap(t.buf))))
	}
	t.buf = to[:copy(to[:cap(to)], live)]
	for i := range t.count {
		t.entry(t.first + i).at -= uint16(t.low)
	}
	t.low = 0
}

func (t *table) growRing() {
	ring := make([]entry, max(leastRing, 2*len(t.ring)))
	for i := range t.count {
		n := t.first + i
		ring[n&uint32(len(ring)-1)] = *t.entry(n)
	}
	t.ring = ring
}

// memory returns how many bytes t holds.
func (t *table) memory() int { return cap(t.buf) + len(t.ring)*int(unsafe.Sizeof(entry{})) }
