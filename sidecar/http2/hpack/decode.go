package hpack

// Field is one field of a block. Name and Value are views of the block, of the
// table or of the scratch buffer: valid until the next call of Next.
type Field struct {
	Name, Value []byte
	// Static is the entry of the static table that the name was taken from; 0: none.
	// Whole: the value was, too.
	Static uint8
	Whole  bool
	// Sensitive: must be passed on as a literal that is never indexed (RFC 7541
	// section 7.1.3).
	Sensitive bool
	// NameTag and ValueTag are what the caller has noted (see Decoder.Note) of the
	// entry of the dynamic table that gave the name, or name and value; 0: nothing.
	NameTag, ValueTag uint8
}

// Scratch is where Huffman strings are decoded to. All decoders of one loop share
// one: it is in use between Begin and the end of that block only.
type Scratch struct{ buf []byte }

// keepScratch is how much a Scratch keeps from one field to the next.
const keepScratch = 16 << 10

// Decoder is the receiving side of one connection. Begin takes a block, Next gives
// its fields. Zero value: not usable, see Init. Used by one goroutine at a time.
type Decoder struct {
	table   table
	block   []byte // what is left of it
	scratch *Scratch
	limit   int    // of size updates
	updates uint8  // of this block; past any that may follow once a field has begun
	newest  *entry // that the last field is, or was stored as; nil: none
}

const noUpdates = 255

// Init prepares d. limit is the SETTINGS_HEADER_TABLE_SIZE that the connection's
// owner announces, at least DefaultTable: the peer may use that much before it has
// read any setting. s may be nil: then d has one of its own.
func (d *Decoder) Init(limit int, s *Scratch) {
	if s == nil {
		s = &Scratch{}
	}
	*d = Decoder{table: table{max: DefaultTable}, scratch: s, limit: min(max(limit, DefaultTable), maxTable)}
}

// Begin starts a block, which must not change until Next has returned false or an
// error. Every block must be read to its end, whatever its fields are: the peer
// counts on what they store.
func (d *Decoder) Begin(block []byte) { d.block, d.updates, d.newest = block, 0, nil }

// Next gives the next field; false at the end of the block, or with an error, which
// is an Error and ends the connection. It allocates nothing in steady state and
// never more than a small multiple of the block.
func (d *Decoder) Next(f *Field) (bool, error) {
	for len(d.block) > 0 {
		b := d.block[0]
		switch {
		case b >= 0x80:
			return d.done(d.indexed(f))
		case b >= 0x40:
			return d.done(d.stored(f))
		case b < 0x20:
			d.newest = nil
			err := d.literal(f, literalBits)
			f.Sensitive = b >= 0x10
			return d.done(err)
		}
		if err := d.sizeUpdate(); err != nil {
			return d.done(err)
		}
	}
	d.block = nil
	return false, nil
}

func (d *Decoder) done(err error) (bool, error) {
	if err != nil {
		d.block = nil
	}
	d.updates = noUpdates
	return err == nil, err
}

// indexed reads a field that a table holds (RFC 7541 section 6.1).
func (d *Decoder) indexed(f *Field) error {
	i, rest, err := readInteger(d.block, 7)
	if err != nil {
		return err
	}
	d.block = rest
	if i-1 < StaticCount {
		s := &statics[i]
		*f = Field{Name: s.name, Value: s.value, Static: uint8(i), Whole: true}
		d.newest = nil
		return nil
	}
	e := d.table.find(i - 1 - StaticCount)
	if i == 0 || e == nil {
		return ErrIndex
	}
	d.newest = e
	*f = Field{NameTag: e.nameTag, ValueTag: e.valueTag}
	f.Name, f.Value = d.table.bytes(e)
	return nil
}

// The bits of the index in the two kinds of literals.
const (
	literalBits = 4
	storedBits  = 6
)

// stored reads a literal that becomes the table's newest entry (section 6.2.1).
func (d *Decoder) stored(f *Field) error {
	if err := d.literal(f, storedBits); err != nil {
		return err
	}
	d.newest = d.table.insert(f.Name, f.Value)
	if d.newest != nil {
		d.newest.nameTag = f.NameTag
	}
	return nil
}

// literal reads a literal whose index has so many bits.
func (d *Decoder) literal(f *Field, bits uint) error {
	i, rest, err := readInteger(d.block, bits)
	if err != nil {
		return err
	}
	d.block = rest
	s := d.scratch
	if cap(s.buf) > keepScratch {
		s.buf = nil
	}
	s.buf = s.buf[:0]
	*f = Field{}
	switch {
	case i == 0:
		if f.Name, err = d.text(); err != nil {
			return err
		}
	case i <= StaticCount:
		f.Name, f.Static = statics[i].name, uint8(i)
	default:
		e := d.table.find(i - 1 - StaticCount)
		if e == nil {
			return ErrIndex
		}
		f.Name, _ = d.table.bytes(e)
		f.NameTag = e.nameTag
		if bits == storedBits { // its entry may go
			s.buf = append(s.buf, f.Name...)
			f.Name = s.buf
		}
	}
	f.Value, err = d.text()
	return err
}

// text reads a string (section 5.2).
func (d *Decoder) text() ([]byte, error) {
	if len(d.block) == 0 {
		return nil, ErrTruncated
	}
	coded := d.block[0] >= 0x80
	n, rest, err := readInteger(d.block, 7)
	if err != nil {
		return nil, err
	}
	if uint64(n) > uint64(len(rest)) {
		return nil, ErrTruncated
	}
	p := rest[:n:n]
	d.block = rest[n:]
	if !coded {
		return p, nil
	}
	s := d.scratch
	start := len(s.buf)
	s.buf, err = appendDecoded(s.buf, p)
	return s.buf[start:], err
}

// sizeUpdate obeys a size update (section 6.3). They stand before the first field
// only, and no more than two: the least and the last size since the block before
// (section 4.2).
func (d *Decoder) sizeUpdate() error {
	n, rest, err := readInteger(d.block, 5)
	if err != nil {
		return err
	}
	if d.updates >= 2 || int(n) > d.limit {
		return ErrSizeUpdate
	}
	d.updates++
	d.block = rest
	d.table.resize(int(n))
	return nil
}

// Note keeps what the caller thinks of the name and the value of the field that
// Next gave last, where the table holds it: it comes with that field from now on,
// the name's also with other values. It does nothing for other fields.
func (d *Decoder) Note(name, value uint8) {
	if d.newest != nil {
		d.newest.nameTag, d.newest.valueTag = name, value
	}
}

// Table returns how many bytes the dynamic table's entries count, and how many
// bytes of memory it holds.
func (d *Decoder) Table() (size, memory int) {
	return d.table.size, d.table.memory()
}
