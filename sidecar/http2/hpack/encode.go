package hpack

// Encoder is the sending side of one connection. Blocks are appended in the order
// in which they are sent. Zero value: not usable, see Init. Used by one goroutine at a
// time.
//
// A field that may repeat goes into the dynamic table when it is seen for the second
// time, so that what never repeats costs neither side an entry. An indexed field is
// cheaper for whoever reads it than a literal, and costs the sender little more
// (BenchmarkAppendRequest, BenchmarkRequestHead in package http2). Huffman coding is
// never used: a byte saved by it costs both sides more than a byte sent.
type Encoder struct {
	table   table
	recent  recent
	size    int // of the table, as the peer knows it
	least   int // of the sizes that the peer has allowed since the block before
	last    int
	changed bool // a size update is due
	static  bool // the dynamic table is not used
}

// Indexing says what may be done with a field.
type Indexing uint8

const (
	// Literal: it hardly repeats.
	Literal Indexing = iota
	// Repeating: it may be indexed if it repeats.
	Repeating
	// Never: nobody further on may index it either (RFC 7541 section 7.1.3).
	Never
)

// Name is that of a field to be sent.
type Name struct {
	Text   []byte // in lower case
	Static uint8  // the entry of the static table that has it; 0: none does
	// Key is a number of the caller's that stands for Text and no other; 0: none.
	Key uint8
}

// mostIndexed bounds the bytes of an entry, so that one does not drive out many.
const mostIndexed = 512

// Init prepares e for a connection on which no setting has been exchanged. seed is one that
// the peer cannot know.
func (e *Encoder) Init(seed uint64) {
	*e = Encoder{size: DefaultTable, table: table{max: DefaultTable}}
	e.recent.seed = seed
}

// WithoutTable makes e send literals and what the static table has. Only before the
// first block.
func (e *Encoder) WithoutTable() { e.static = true }

// SetLimit obeys the peer's SETTINGS_HEADER_TABLE_SIZE. What has to be said about it
// is said at the beginning of the next block. No more than DefaultTable is used.
func (e *Encoder) SetLimit(size uint32) {
	n := int(min(size, DefaultTable))
	if !e.changed {
		e.least = e.size
	}
	e.least, e.last = min(e.least, n), n
	e.changed = e.least != e.size || e.last != e.size
}

// Begin begins a block: it appends the size updates that are due (section 4.2).
func (e *Encoder) Begin(dst []byte) []byte {
	if e.changed {
		e.changed, e.size = false, e.last
		if e.least < e.last {
			// Any size up to the least will do. With none nothing remains, which makes a
			// difference to golang.org/x/net (and so gRPC): it takes a second update only
			// with an empty table.
			dst = appendInteger(dst, 0x20, 5, 0)
			e.table.resize(0)
		}
		e.table.resize(e.last)
		dst = appendInteger(dst, 0x20, 5, e.last)
	}
	return dst
}

// Indexed appends an entry of the static table.
func (e *Encoder) Indexed(dst []byte, static int) []byte { return append(dst, 0x80|byte(static)) }

// Append appends a field. name and value are not kept.
func (e *Encoder) Append(dst []byte, name *Name, value []byte, how Indexing) []byte {
	pattern, bits, index := byte(0), uint(literalBits), int(name.Static)
	switch {
	case how == Never:
		pattern = 0x10
	case e.static || len(name.Text)+len(value) > mostIndexed:
	case how == Repeating:
		at, stored := e.lookup(name, value)
		if at > 0 {
			return appendInteger(dst, 0x80, 7, at)
		}
		if stored {
			pattern, bits = 0x40, storedBits
		}
	case index == 0 && name.Key != 0:
		at, stored := e.lookupName(name, value)
		if index = at; stored {
			pattern, bits = 0x40, storedBits
		}
	}
	dst = appendInteger(dst, pattern, bits, index)
	if index == 0 {
		dst = appendText(dst, name.Text)
	}
	return appendText(dst, value)
}

// lookup finds the index of a field; stored: it is the table's newest entry now, and
// is to be sent so.
func (e *Encoder) lookup(name *Name, value []byte) (index int, stored bool) {
	s, known := e.recent.find(&e.table, e.recent.sum(name, value))
	if !known {
		return 0, false
	}
	if !s.stored {
		return 0, e.store(s, name, value)
	}
	n, v := e.table.bytes(e.table.entry(s.number))
	if string(v) != string(value) || string(n) != string(name.Text) {
		return 0, false // another field with the same hash
	}
	return e.indexOf(s), false
}

// lookupName is lookup for a field whose name alone repeats: any entry will do.
func (e *Encoder) lookupName(name *Name, value []byte) (index int, stored bool) {
	s, known := e.recent.find(&e.table, sumOfKey(name.Key))
	if !known {
		return 0, false
	}
	if !s.stored {
		return 0, e.store(s, name, value)
	}
	if n, _ := e.table.bytes(e.table.entry(s.number)); string(n) != string(name.Text) {
		return 0, false
	}
	return e.indexOf(s), false
}

// store makes a field the newest entry, unless the whole table has no room for it.
func (e *Encoder) store(s *recentSlot, name *Name, value []byte) bool {
	if len(name.Text)+len(value)+overhead > e.table.max {
		return false
	}
	e.table.insert(name.Text, value)
	s.stored, s.number = true, e.table.first+e.table.count-1
	return true
}

func (e *Encoder) indexOf(s *recentSlot) int {
	return StaticCount + int(e.table.first+e.table.count-s.number)
}

func appendText(dst, text []byte) []byte {
	if len(text) < 0x7f {
		dst = append(dst, byte(len(text)))
	} else {
		dst = appendInteger(dst, 0, 7, len(text))
	}
	return append(dst, text...)
}

// Table returns how many bytes the dynamic table's entries count, and how many
// bytes of memory the encoder holds beside its record.
func (e *Encoder) Table() (size, memory int) {
	return e.table.size, e.table.memory() + e.recent.memory()
}
