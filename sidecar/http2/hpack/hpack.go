// Package hpack is header compression for HTTP/2 (RFC 7541): a strict decoder
// and an encoder that appends to the caller's output. The package must not know
// of frames, of heads and their rules, or of the engine; it works on bytes alone.
//
// Cost: both allocate nothing in steady state (TestSteadyStateAllocatesNothing,
// BenchmarkDecode, BenchmarkEncode). A connection whose peer uses no dynamic table
// holds a record of some hundred bytes, else what its entries take.
package hpack

// Error is a block that breaks the RFC. The state of both tables is then not known
// any more, so that the connection ends with COMPRESSION_ERROR (RFC 9113 section 4.3).
type Error string

func (e Error) Error() string { return "hpack: " + string(e) }

// The errors of Next.
const (
	ErrTruncated  = Error("a block ends in the middle of a field")
	ErrInteger    = Error("an integer is larger than anything here can be")
	ErrIndex      = Error("an index points outside both tables")
	ErrHuffman    = Error("a Huffman string is malformed or wrongly padded")
	ErrSizeUpdate = Error("a table size update out of place or above the limit")
)

// DefaultTable is the size of a dynamic table before any setting (RFC 9113 section
// 6.5.2), in the measure of RFC 7541 section 4.1.
const DefaultTable = 4096

// maxTable bounds the size of a dynamic table: positions in it have 16 bits.
const maxTable = 1<<16 - 1

// overhead of an entry beside its bytes (RFC 7541 section 4.1).
const overhead = 32
