package http2

import (
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/http2/hpack"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// Header blocks to heads (RFC 9113 section 8). A name or value that is in the
// dynamic table is judged once, when it is stored; afterwards its entry carries the
// verdict. BenchmarkRequestHead shows the cost.

// headRules bound what is taken, and are shared by the connections of a listener or
// service.
type headRules struct {
	list     int // bytes of the field section, each field counted with 32 more (section 6.5.2)
	fields   int // of a section, cookie crumbs apart
	trailers int // bytes of a trailer section, counted in the same way
	connect  bool
}

// crumbsAtMost bounds the pieces into which a Cookie field may be cut (section
// 8.2.3). Browsers cut it at each pair.
const crumbsAtMost = 256

// headDecoder is the receiving side of a connection's heads.
type headDecoder struct {
	table hpack.Decoder
	rules *headRules
}

// init prepares d. s is shared by the connections of a loop, or nil.
func (d *headDecoder) init(rules *headRules, s *hpack.Scratch) {
	d.table.Init(hpack.DefaultTable, s)
	d.rules = rules
}

// section is one block while it is read. It lives on the stack.
type section struct {
	h      *message.Head
	rules  *headRules
	kind   sectionKind
	fault  fault
	size   int
	fields int
	crumbs int
	// Pseudo-headers that have come; none may after the first field.
	pseudo  uint8
	regular bool

	scheme, protocol, host, length span
	hosts, lengths, expects        int
	cookie                         int // index of the first crumb
}

type span = message.Span

type sectionKind uint8

const (
	requestSection sectionKind = iota
	responseSection
	trailerSection
)

// read decodes the whole block, also where the head is refused half-way: the tables
// have to stay those of the peer.
func (d *headDecoder) read(block []byte, s *section) fault {
	s.rules = d.rules
	d.table.Begin(block)
	var f hpack.Field
	for {
		ok, err := d.table.Next(&f)
		if err != nil {
			return fault{faultConnection, policy.HTTP2Compression, violation(err.Error())}
		}
		if !ok {
			return s.fault
		}
		if !s.fault.bad() {
			s.fault = d.take(s, &f)
		}
	}
}

// skip decodes a block that is of no interest, for what it does to the table.
func (d *headDecoder) skip(block []byte) fault {
	s := section{fault: malformed("not of interest")}
	if f := d.read(block, &s); f.kind == faultConnection {
		return f
	}
	return fault{}
}

// take judges one field and gives it to the section.
func (d *headDecoder) take(s *section, f *hpack.Field) fault {
	s.size += len(f.Name) + len(f.Value) + 32
	if s.size > s.most() {
		return answered(policy.HeadTooLarge, "the field section is over the limit")
	}
	tag, good := f.NameTag, f.ValueTag == valueGood
	if f.Static != 0 {
		tag, good = staticTags[f.Static], f.Whole && len(f.Value) > 0 // most have no value
	}
	if tag == tagUnknown {
		var bad violation
		if tag, bad = judgeName(f.Name); bad != "" {
			return malformed(bad)
		}
	}
	if !good {
		if bad := judgeValue(tag, f.Value); bad != "" {
			if tag == tagAuthority {
				return answered(policy.BadHost, bad)
			}
			return malformed(bad)
		}
		d.table.Note(tag, valueGood)
	}
	if isPseudo(tag) {
		return s.takePseudo(tag, f.Value)
	}
	s.regular = true
	return s.takeField(fieldID(tag), f)
}

func (s *section) most() int {
	if s.kind == trailerSection {
		return s.rules.trailers
	}
	return s.rules.list
}

// takePseudo keeps a pseudo-header (section 8.3).
func (s *section) takePseudo(tag uint8, value []byte) fault {
	bit := uint8(1) << (tag - tagMethod)
	switch {
	case s.regular:
		return malformed("a pseudo-header after a field")
	case s.pseudo&bit != 0:
		return malformed("a pseudo-header twice")
	case s.kind == trailerSection:
		return malformed("a pseudo-header in a trailer section")
	case (s.kind == requestSection) == (tag == tagStatus):
		return malformed("a pseudo-header of the other direction")
	}
	s.pseudo |= bit
	switch h := s.h; tag {
	case tagMethod:
		h.Method = h.Keep(value)
	case tagScheme:
		s.scheme = h.Keep(value)
	case tagAuthority:
		h.Authority = h.Keep(value)
	case tagPath:
		h.Path = h.Keep(value)
	case tagProtocol:
		s.protocol = h.Keep(value)
	case tagStatus:
		h.Status = int(value[0]-'0')*100 + int(value[1]-'0')*10 + int(value[2]-'0')
	}
	return fault{}
}

func (s *section) has(tag uint8) bool { return s.pseudo&(1<<(tag-tagMethod)) != 0 }

// takeField keeps a field, or what it says where it belongs to the codec.
func (s *section) takeField(id message.NameID, f *hpack.Field) fault {
	if id == message.NameCookie {
		return s.takeCrumb(f)
	}
	if s.fields++; s.fields > s.rules.fields {
		return answered(policy.HeadTooLarge, "too many fields")
	}
	switch {
	case id.HopByHop() || id == message.NameHost:
		return s.own(id, f.Value)
	case s.kind == trailerSection && !mayTrail(id, f.Name):
		return fault{}
	}
	s.keep(id, f)
	return fault{}
}

func (s *section) keep(id message.NameID, f *hpack.Field) {
	if f.Sensitive {
		s.h.AppendSensitive(id, f.Name, f.Value)
	} else {
		s.h.AppendCopy(id, f.Name, f.Value)
	}
}

// takeCrumb keeps a piece of a Cookie field; joinCookie makes one of them.
func (s *section) takeCrumb(f *hpack.Field) fault {
	if s.kind != requestSection {
		return fault{} // means nothing there
	}
	if s.crumbs++; s.crumbs > crumbsAtMost {
		return answered(policy.HeadTooLarge, "too many pieces of a Cookie field")
	}
	if s.crumbs == 1 {
		s.cookie = len(s.h.Fields())
	}
	s.keep(message.NameCookie, f)
	return fault{}
}

// joinCookie makes one field of all crumbs (section 8.2.3), in one pass.
func (s *section) joinCookie() {
	if s.crumbs < 2 {
		return
	}
	h := s.h
	fields := h.Fields()
	first := &fields[s.cookie]
	joined := h.Keep(h.Value(*first))
	for i := s.cookie + 1; i < len(fields); i++ {
		if f := &fields[i]; f.ID == message.NameCookie {
			h.Keep([]byte("; "))
			joined.End = h.Keep(h.Value(*f)).End
			first.Flags |= f.Flags
			f.Flags |= message.Deleted
		}
	}
	first.Value = joined
}

// own keeps what the fields of the codec say. Those of a connection have no place in
// HTTP/2 (section 8.2.2).
func (s *section) own(id message.NameID, value []byte) fault {
	switch id {
	case message.NameConnection, message.NameTransferEncoding, message.NameKeepAlive,
		message.NameProxyConnection, message.NameUpgrade:
		return malformed("a connection-specific field")
	case message.NameTE:
		if s.kind != requestSection || !message.EqualFold(value, "trailers") {
			return malformed("TE with anything but trailers")
		}
		s.h.Framing.Trailers = true
	case message.NameHost:
		if s.kind == requestSection {
			s.host, s.hosts = s.h.Keep(value), s.hosts+1
		}
	case message.NameContentLength:
		if s.kind != trailerSection {
			s.length, s.lengths = s.h.Keep(value), s.lengths+1
		}
	case message.NameExpect:
		if s.kind != requestSection {
			break
		}
		if s.expects++; !message.EqualFold(value, "100-continue") {
			return answered(policy.BadRequest, "an expectation other than 100-continue")
		}
	}
	return fault{}
}

// mayTrail reports whether a field may stand in a trailer section. Others are
// dropped: they were to be known before the body (RFC 9110 section 6.5.1).
func mayTrail(id message.NameID, name []byte) bool {
	return id.Trailing() && !(id == message.NameOther && vouched(name))
}

// vouched reports whether proxies vouch for fields of that name, which is in lower
// case.
func vouched(name []byte) bool {
	const forwarded, ours = "x-forwarded-", "x-larboard-"
	return len(name) > len(ours) && (string(name[:len(ours)]) == ours ||
		len(name) > len(forwarded) && string(name[:len(forwarded)]) == forwarded)
}

// lengthOf reads the announced length; -1 where none is.
func (s *section) lengthOf() (int64, fault) {
	switch {
	case s.lengths == 0:
		return -1, fault{}
	case s.lengths > 1:
		return 0, malformed("Content-Length more than once")
	}
	var n int64
	b := s.h.Bytes(s.length)
	for _, c := range b {
		d := int64(c) - '0'
		if d < 0 || d > 9 || n > (1<<63-1-d)/10 {
			return 0, malformed("malformed Content-Length")
		}
		n = n*10 + d
	}
	if len(b) == 0 {
		return 0, malformed("malformed Content-Length")
	}
	return n, fault{}
}

// frame sets how a body that is not ruled out by anything else is delimited. end:
// the block ends the stream.
func (s *section) frame(length int64, end bool) fault {
	fr := &s.h.Framing
	switch {
	case end && length > 0:
		return malformed("a body announced by Content-Length does not follow")
	case length >= 0:
		fr.Kind, fr.Length = message.Length, length
	case end:
		fr.Kind = message.NoBody
	default:
		fr.Kind = message.Chunked
	}
	return fault{}
}
