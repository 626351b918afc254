package message

import "unsafe"

// What codecs use to fill a Head, and its lifetime.

// Reset empties h and keeps its memory for the next head.
func (h *Head) Reset() {
	buf, fields := h.buf[:0], h.fields[:0]
	*h = Head{buf: buf, fields: fields}
}

// Trim gives up memory that a head larger than most bytes has left behind, so that a
// pool of heads does not keep the largest that each has ever held. On an empty head.
func (h *Head) Trim(most int) {
	if cap(h.buf) > most {
		h.buf = nil
	}
	if cap(h.fields)*int(unsafe.Sizeof(Field{})) > most {
		h.fields = nil
	}
}

// Clone returns a copy that shares nothing with h. Whoever keeps a head, or a
// part of it, beyond the exchange clones it.
func (h *Head) Clone() *Head {
	c := &Head{}
	h.CopyTo(c)
	return c
}

// Swap exchanges all that h and other hold, memory included, in constant time.
func (h *Head) Swap(other *Head) { *h, *other = *other, *h }

// CopyTo makes dst equal to h, reusing dst's memory.
func (h *Head) CopyTo(dst *Head) {
	buf := append(dst.buf[:0], h.buf...)
	fields := append(dst.fields[:0], h.fields...)
	*dst = *h
	dst.buf, dst.fields = buf, fields
}

// Load copies raw into h, whose buffer must be empty; spans set by the codec,
// before or after, count from the start of raw. Fields are not touched.
func (h *Head) Load(raw []byte) { h.buf = append(h.buf[:0], raw...) }

// AppendField adds a field whose spans point into what is or will be loaded. The
// codec has checked both.
func (h *Head) AppendField(f Field) { h.fields = append(h.fields, f) }

// AppendSensitive is AppendCopy for a field that its sender wants never to be indexed
// by a compressing codec (RFC 7541 section 7.1.3).
func (h *Head) AppendSensitive(id NameID, name, value []byte) {
	h.AppendCopy(id, name, value)
	h.fields[len(h.fields)-1].Flags |= Sensitive
}

// AppendCopy adds a field that the codec has checked, copying name and value.
func (h *Head) AppendCopy(id NameID, name, value []byte) {
	start := uint32(len(h.buf))
	h.buf = append(h.buf, name...)
	mid := uint32(len(h.buf))
	h.buf = append(h.buf, value...)
	h.fields = append(h.fields, Field{
		Name: Span{start, mid}, Value: Span{mid, uint32(len(h.buf))}, ID: id,
	})
}

// Keep copies b into h and returns where it lies, unchecked: for codecs.
func (h *Head) Keep(b []byte) Span {
	start := uint32(len(h.buf))
	h.buf = append(h.buf, b...)
	return Span{start, uint32(len(h.buf))}
}

// HasBody reports whether bytes may follow a head with this framing.
func (f *Framing) HasBody() bool {
	switch f.Kind {
	case NoBody:
		return false
	case Length:
		return f.Length > 0
	}
	return true
}
