// Package tracecontext reads and writes a request's place in a distributed trace as
// header fields carry it: traceparent and tracestate of W3C Trace Context (level 2), and
// B3, as one field and as several. It is pure, keeps nothing, and must not know of spans,
// of exporters or of heads: it is handed the values of fields.
//
// Cost: nothing here allocates (TestNothingAllocates); to read a traceparent takes some
// 45 ns, to write one 27 (BenchmarkParseTraceparent, BenchmarkAppendTraceparent).
package tracecontext

// Formats is a set of forms in which a context is written.
type Formats uint8

// The formats.
const (
	W3C     Formats = 1 << iota // traceparent, tracestate
	B3                          // b3: everything in one field
	B3Multi                     // x-b3-traceid, x-b3-spanid, x-b3-sampled, x-b3-flags
)

// Decision is whether a trace is recorded.
type Decision uint8

// The decisions. Undecided is left to whoever reads it, which W3C has no form for.
const (
	Undecided Decision = iota
	Dropped
	Sampled
)

// Context is what a request's sender has said. The zero value: nothing. B3 allows a
// decision without ids.
type Context struct {
	TraceID  [16]byte // zero: none
	SpanID   [8]byte  // the sender's; zero: none
	Decision Decision
	// Debug is B3's wish to be recorded by all, whatever they would decide themselves.
	Debug bool
	// Random is W3C's word that the trace id is random (level 2, section 3.2.2.5.2).
	Random bool
}

// Valid reports whether c names a span of a trace.
func (c *Context) Valid() bool { return c.TraceID != [16]byte{} && c.SpanID != [8]byte{} }

// Ratio is a share of all traces, chosen by trace id so that everybody who is told the
// same share chooses the same traces. The zero value chooses none.
type Ratio uint64

// NewRatio returns the ratio of share, 0 to 1.
func NewRatio(share float64) Ratio {
	if share >= 1 {
		return 1 << 63
	}
	return Ratio(max(share, 0) * (1 << 63))
}

// Chooses reports whether the trace is among them. The rule is that of OpenTelemetry's
// TraceIDRatioBased, so that its libraries agree too: the last eight bytes count.
func (r Ratio) Chooses(id [16]byte) bool {
	var n uint64
	for _, b := range id[8:] {
		n = n<<8 | uint64(b)
	}
	return n>>1 < uint64(r)
}

const hexDigits = "0123456789abcdef"

func appendHex(dst, id []byte) []byte {
	for _, b := range id {
		dst = append(dst, hexDigits[b>>4], hexDigits[b&15])
	}
	return dst
}

// fromHex fills dst from exactly twice as many digits of the table; false: other bytes.
func fromHex(dst, text []byte, of *[256]byte) bool {
	if len(text) != 2*len(dst) {
		return false
	}
	var bad byte
	for i := range dst {
		high, low := of[text[2*i]], of[text[2*i+1]]
		bad |= high | low
		dst[i] = high<<4 | low
	}
	return bad <= 15
}

// Hexadecimal digits: W3C has small letters, B3 any.
var (
	small = buildDigits("abcdef")
	any16 = buildDigits("abcdefABCDEF")
)

// buildDigits holds a digit's value, and more than 15 for what is none.
func buildDigits(letters string) (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i := range byte(10) {
		t['0'+i] = i
	}
	for i := range len(letters) {
		t[letters[i]] = letters[i]&0xdf - 'A' + 10
	}
	return t
}
