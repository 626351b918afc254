package message

// Edits append to the head's buffer and never move what is there, so spans stay
// good. What comes in here is written by steps, not by peers; a mistake in a step
// must not become a second message on the wire, so control characters are
// replaced, and a field whose name is no token is not added.

// Add adds a field after the others. name may be empty for a known id, which
// then gives it. NameHost sets the authority instead. Hop-by-hop fields and
// framing are the codec's business: adding one has no effect.
func (h *Head) Add(id NameID, name string, value []byte) {
	if name == "" {
		name = id.String()
	} else if id == NameOther {
		id = IDOf(name)
	}
	switch {
	case id == NameHost:
		h.SetAuthority(value)
	case id.HopByHop() || !IsToken(name):
	default:
		h.fields = append(h.fields, Field{Name: h.keep(name), Value: h.keepValue(value), ID: id})
	}
}

// AddString is Add for a value that is a string.
func (h *Head) AddString(id NameID, name, value string) {
	start := uint32(len(h.buf))
	h.buf = append(h.buf, value...)
	h.Add(id, name, h.Bytes(Span{start, uint32(len(h.buf))}))
}

// Set deletes all fields of that name and adds one.
func (h *Head) Set(id NameID, name string, value []byte) {
	h.remove(id, name)
	h.Add(id, name, value)
}

// SetString is Set for a value that is a string.
func (h *Head) SetString(id NameID, name, value string) {
	h.remove(id, name)
	h.AddString(id, name, value)
}

// Append adds value to a list field: all values it had and the new one become
// one field, separated by commas (RFC 9110 section 5.3), as in X-Forwarded-For.
func (h *Head) Append(id NameID, name string, value []byte) {
	if name == "" {
		name = id.String()
	}
	if id == NameOther {
		id = IDOf(name)
	}
	if id == NameHost || id.HopByHop() || !IsToken(name) {
		return
	}
	start := uint32(len(h.buf))
	for i := range h.fields {
		f := &h.fields[i]
		if f.Deleted() || !h.named(f, id, name) {
			continue
		}
		f.Flags |= Deleted
		if f.Value.Start != f.Value.End {
			h.buf = append(h.buf, h.Bytes(f.Value)...)
			h.buf = append(h.buf, ", "...)
		}
	}
	h.keepValue(value)
	list := Span{start, uint32(len(h.buf))}
	h.fields = append(h.fields, Field{Name: h.keep(name), Value: list, ID: id})
}

// Del deletes all fields with a known id.
func (h *Head) Del(id NameID) {
	if id != NameOther {
		h.remove(id, "")
	}
}

// DelName deletes all fields called name, in any case.
func (h *Head) DelName(name string) { h.remove(IDOf(name), name) }

func (h *Head) remove(id NameID, name string) {
	if id == NameOther {
		id = IDOf(name)
	}
	for i := range h.fields {
		if h.named(&h.fields[i], id, name) {
			h.fields[i].Flags |= Deleted
		}
	}
}

func (h *Head) named(f *Field, id NameID, name string) bool {
	return f.ID == id && (id != NameOther || EqualFold(h.Bytes(f.Name), name))
}

// SetRequest makes h the head of a request: method (a token), path with query
// in origin form, and authority. Fields and framing stay.
func (h *Head) SetRequest(method, path, authority string) {
	h.Status, h.Phrase = 0, Span{}
	if IsToken(method) {
		h.Method = h.keep(method)
	}
	h.SetPath([]byte(path))
	h.Target = h.Path
	h.SetAuthority([]byte(authority))
}

// SetPath replaces path and query; what may not stand in a target is
// percent-encoded.
func (h *Head) SetPath(path []byte) {
	const hex = "0123456789ABCDEF"
	start := uint32(len(h.buf))
	for _, c := range path {
		if classes[c]&classPath != 0 {
			h.buf = append(h.buf, c)
		} else {
			h.buf = append(h.buf, '%', hex[c>>4], hex[c&15])
		}
	}
	h.Path = Span{start, uint32(len(h.buf))}
}

// SetAuthority replaces the authority; bytes that may not stand in a target are
// left out.
func (h *Head) SetAuthority(authority []byte) {
	start := uint32(len(h.buf))
	for _, c := range authority {
		if classes[c]&classPath != 0 {
			h.buf = append(h.buf, c)
		}
	}
	h.Authority = Span{start, uint32(len(h.buf))}
}

// SetStatus makes h the head of a response; the codec supplies the phrase.
// Fields and framing stay.
func (h *Head) SetStatus(code int) {
	h.Status, h.Phrase = code, Span{}
	h.Method, h.Target, h.Path, h.Authority = Span{}, Span{}, Span{}, Span{}
}

// SetUpgrade sets Framing.Upgrade; empty: none.
func (h *Head) SetUpgrade(protocol string) {
	h.Framing.Upgrade = Span{}
	if protocol != "" {
		start := uint32(len(h.buf))
		h.keepValue([]byte(protocol))
		h.Framing.Upgrade = Span{start, uint32(len(h.buf))}
	}
}

func (h *Head) keep(s string) Span {
	start := uint32(len(h.buf))
	h.buf = append(h.buf, s...)
	return Span{start, uint32(len(h.buf))}
}

func blank(c byte) bool { return c <= ' ' || c == 0x7f }

// keepValue appends v without white space and control characters around it and with a space for each
// control character.
func (h *Head) keepValue(v []byte) Span {
	for len(v) > 0 && blank(v[0]) {
		v = v[1:]
	}
	for len(v) > 0 && blank(v[len(v)-1]) {
		v = v[:len(v)-1]
	}
	start := uint32(len(h.buf))
	h.buf = append(h.buf, v...)
	kept := h.buf[start:]
	if !IsValue(kept) {
		for i, c := range kept {
			if classes[c]&classValue == 0 {
				kept[i] = ' '
			}
		}
	}
	return Span{start, uint32(len(h.buf))}
}
