package tracecontext

// B3 as openzipkin/b3-propagation has it. Trace ids of 64 bits are the low half of ours,
// and are written with all 128.

// ParseB3 reads the value of the field b3: {trace id}-{span id}-{decision}-{parent}, the
// last two optional, or a decision alone. false: malformed.
func ParseB3(v []byte) (c Context, ok bool) {
	if len(v) == 1 {
		ok = c.decide(v[0])
		return c, ok
	}
	at := indexDash(v)
	if at < 0 || !c.traceID(v[:at]) {
		return Context{}, false
	}
	v = v[at+1:]
	if len(v) < 16 || !c.spanID(v[:16]) {
		return Context{}, false
	}
	switch v = v[16:]; {
	case len(v) == 0:
		return c, true
	case len(v) < 2 || v[0] != '-':
		return Context{}, false
	}
	v = v[1:]
	if len(v) == 1 || v[1] == '-' {
		if !c.decide(v[0]) {
			return Context{}, false
		}
		if v = v[1:]; len(v) == 0 {
			return c, true
		}
		v = v[1:]
	}
	var parent [8]byte // of no use to anybody
	if !fromHex(parent[:], v, &any16) {
		return Context{}, false
	}
	return c, true
}

// ParseB3Multi reads the values of x-b3-traceid, x-b3-spanid, x-b3-sampled and x-b3-flags;
// what is absent is nil. false: malformed, or all of them absent.
func ParseB3Multi(trace, span, sampled, flags []byte) (c Context, ok bool) {
	switch {
	case string(flags) == "1":
		c.decide('d')
	case len(sampled) == 1:
		if sampled[0] == 'd' || !c.decide(sampled[0]) {
			return Context{}, false
		}
	case string(sampled) == "true": // as early libraries have it
		c.Decision = Sampled
	case string(sampled) == "false":
		c.Decision = Dropped
	case len(sampled) != 0:
		return Context{}, false
	}
	if trace == nil && span == nil {
		return c, c.Decision != Undecided
	}
	if !c.traceID(trace) || !c.spanID(span) {
		return Context{}, false
	}
	return c, true
}

func (c *Context) decide(b byte) bool {
	switch b {
	case '0':
		c.Decision = Dropped
	case '1':
		c.Decision = Sampled
	case 'd':
		c.Decision, c.Debug = Sampled, true
	default:
		return false
	}
	return true
}

func (c *Context) traceID(v []byte) bool {
	id := c.TraceID[:]
	if len(v) == 16 {
		id = id[8:]
	}
	return fromHex(id, v, &any16) && c.TraceID != [16]byte{}
}

func (c *Context) spanID(v []byte) bool {
	return fromHex(c.SpanID[:], v, &any16) && c.SpanID != [8]byte{}
}

func indexDash(v []byte) int {
	for i, c := range v {
		if c == '-' {
			return i
		}
	}
	return -1
}

// decision is how B3 writes it; 0: not at all.
func (c *Context) decision() byte {
	switch {
	case c.Debug:
		return 'd'
	case c.Decision == Sampled:
		return '1'
	case c.Decision == Dropped:
		return '0'
	}
	return 0
}

// AppendB3 appends c as the field b3 has it. c is valid.
func AppendB3(dst []byte, c *Context) []byte {
	dst = appendHex(dst, c.TraceID[:])
	dst = append(dst, '-')
	dst = appendHex(dst, c.SpanID[:])
	if d := c.decision(); d != 0 {
		dst = append(dst, '-', d)
	}
	return dst
}

// AppendB3TraceID and AppendB3SpanID append c's ids as x-b3-traceid and x-b3-spanid have
// them. c is valid.
func AppendB3TraceID(dst []byte, c *Context) []byte { return appendHex(dst, c.TraceID[:]) }

// AppendB3SpanID is described at AppendB3TraceID.
func AppendB3SpanID(dst []byte, c *Context) []byte { return appendHex(dst, c.SpanID[:]) }

// B3Sampled is the value of x-b3-sampled; empty: the field is left out, as with Debug,
// which implies it and has x-b3-flags instead.
func (c *Context) B3Sampled() string {
	switch {
	case c.Debug, c.Decision == Undecided:
		return ""
	case c.Decision == Sampled:
		return "1"
	}
	return "0"
}
