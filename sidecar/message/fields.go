package message

// Reading the fields of a Head. Slices returned are views of the head's buffer:
// valid until the next edit or Reset, and not to be written to.

// Bytes returns the bytes of a span of h.
func (h *Head) Bytes(s Span) []byte { return h.buf[s.Start:s.End:s.End] }

// MethodBytes returns the method of a request.
func (h *Head) MethodBytes() []byte { return h.Bytes(h.Method) }

// TargetBytes returns the request target as it was received.
func (h *Head) TargetBytes() []byte { return h.Bytes(h.Target) }

// PathBytes returns path and query in origin form.
func (h *Head) PathBytes() []byte { return h.Bytes(h.Path) }

// AuthorityBytes returns host and port of the target; empty where an HTTP/1.0
// request named none.
func (h *Head) AuthorityBytes() []byte { return h.Bytes(h.Authority) }

// PhraseBytes returns the reason phrase of a response.
func (h *Head) PhraseBytes() []byte { return h.Bytes(h.Phrase) }

// UpgradeBytes returns the protocol of Framing.Upgrade.
func (h *Head) UpgradeBytes() []byte { return h.Bytes(h.Framing.Upgrade) }

// IsRequest reports whether h is the head of a request (or empty).
func (h *Head) IsRequest() bool { return h.Status == 0 }

// Fields returns all fields in their order, deleted ones included (see
// Field.Deleted). Host, framing and hop-by-hop fields are not among them.
func (h *Head) Fields() []Field { return h.fields }

// Deleted reports whether the field was removed by an edit.
func (f Field) Deleted() bool { return f.Flags&Deleted != 0 }

// Len counts the fields that are not deleted.
func (h *Head) Len() int {
	n := 0
	for i := range h.fields {
		if !h.fields[i].Deleted() {
			n++
		}
	}
	return n
}

// Name returns the name of f as it will be sent.
func (h *Head) Name(f Field) []byte { return h.Bytes(f.Name) }

// Value returns the value of f, without white space around it.
func (h *Head) Value(f Field) []byte { return h.Bytes(f.Value) }

// Get returns the first value of a known field. NameHost gives the authority.
func (h *Head) Get(id NameID) ([]byte, bool) {
	if id == NameHost {
		return h.AuthorityBytes(), h.Authority.Start != h.Authority.End
	}
	for i := range h.fields {
		if f := &h.fields[i]; f.ID == id && id != NameOther && !f.Deleted() {
			return h.Bytes(f.Value), true
		}
	}
	return nil, false
}

// Lookup returns the first value of the field called name, in any case.
func (h *Head) Lookup(name string) ([]byte, bool) {
	if id := IDOf(name); id != NameOther {
		return h.Get(id)
	}
	for i := range h.fields {
		if f := &h.fields[i]; f.ID == NameOther && !f.Deleted() && EqualFold(h.Bytes(f.Name), name) {
			return h.Bytes(f.Value), true
		}
	}
	return nil, false
}

// Values calls yield with each value of a known field in order until it returns
// false. yield must not edit h.
func (h *Head) Values(id NameID, yield func([]byte) bool) {
	for i := range h.fields {
		f := &h.fields[i]
		if f.ID == id && id != NameOther && !f.Deleted() && !yield(h.Bytes(f.Value)) {
			return
		}
	}
}
