package hpack

import "encoding/binary"

// The Huffman code of RFC 7541 appendix B. It is canonical: codes of one length are
// consecutive and in the order of their symbols, and the longer ones follow the
// shorter, so that the lengths alone determine it.
//
// Decoding looks at 11 bits at a time, which gives up to two symbols. Codes that
// are longer belong to bytes that hardly occur in heads, and are found by length.

const (
	eos      = 256
	shortest = 5
	longest  = 30
	fastBits = 11
)

var codeLengths = [eos + 1]uint8{
	13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
	28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
	6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
	5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
	13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
	7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
	15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
	6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
	20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
	24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
	22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
	21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
	26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
	19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
	20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
	26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
	30,
}

// fastEntry of an 11-bit prefix: symbols in the low 16 bits (the first lowest), then
// the bits that they take, then how many they are; 0 where the first code is longer.
type fastEntry uint32

func (e fastEntry) bits() uint { return uint(e >> 16 & 0xff) }

func (e fastEntry) append(dst []byte) []byte {
	if e>>24 == 2 {
		return append(dst, byte(e), byte(e>>8))
	}
	return append(dst, byte(e))
}

// huffmanTables are computed from the lengths.
type huffmanTables struct {
	fast [1 << fastBits]fastEntry
	// By length: the first code beyond those of that length and less, aligned to the
	// left of 32 bits; and what to add to a right-aligned code to get its rank.
	limit [longest + 1]uint32
	rank  [longest + 1]int32
	// symbols in the order of their codes.
	symbols [eos + 1]uint16
}

var huffman = buildHuffman()

func buildHuffman() *huffmanTables {
	t := &huffmanTables{}
	code, n := uint32(0), 0
	for length := uint(shortest); length <= longest; length++ {
		code <<= 1
		t.rank[length] = int32(n) - int32(code)
		for s, l := range codeLengths {
			if uint(l) == length {
				t.symbols[n] = uint16(s)
				n++
				code++
			}
		}
		t.limit[length] = uint32(uint64(code)<<(32-length) - 1) // inclusive: the last is all ones
	}
	for prefix := range t.fast {
		t.fast[prefix] = t.fastOf(uint32(prefix))
	}
	return t
}

func (t *huffmanTables) fastOf(prefix uint32) fastEntry {
	v := prefix << (32 - fastBits) // what follows does not matter: longer codes are not taken
	first, n := t.symbol(v)
	if n > fastBits {
		return 0
	}
	second, m := t.symbol(v << n)
	if n+m > fastBits {
		return fastEntry(1<<24 | n<<16 | uint(first))
	}
	return fastEntry(2<<24 | (n+m)<<16 | uint(second)<<8 | uint(first))
}

// symbol finds the code at the left of v and returns its symbol and length.
func (t *huffmanTables) symbol(v uint32) (symbol uint16, length uint) {
	length = shortest
	for v > t.limit[length] {
		length++
	}
	return t.symbols[int32(v>>(32-length))+t.rank[length]], length
}

// appendDecoded appends what src encodes. The padding must be the beginning of EOS
// and less than eight bits; EOS itself must not occur (RFC 7541 section 5.2).
func appendDecoded(dst, src []byte) ([]byte, error) {
	t := huffman
	var acc uint64 // the low bits are not consumed yet
	var bits uint  // how many
	for {
		if bits < 32 {
			if len(src) < 4 {
				break
			}
			acc = acc<<32 | uint64(binary.BigEndian.Uint32(src))
			bits += 32
			src = src[4:]
		}
		e := t.fast[acc>>(bits-fastBits)&(1<<fastBits-1)]
		if e == 0 {
			s, n := t.symbol(uint32(acc >> (bits - 32)))
			if s == eos {
				return dst, ErrHuffman
			}
			dst = append(dst, byte(s))
			bits -= n
			continue
		}
		dst = e.append(dst)
		bits -= e.bits()
	}
	for _, c := range src {
		acc = acc<<8 | uint64(c)
		bits += 8
	}
	for bits >= fastBits {
		e := t.fast[acc>>(bits-fastBits)&(1<<fastBits-1)]
		if e == 0 {
			break
		}
		dst = e.append(dst)
		bits -= e.bits()
	}
	return t.appendLast(dst, acc, bits)
}

// appendLast decodes the last bits of a string, as if ones without end followed.
func (t *huffmanTables) appendLast(dst []byte, acc uint64, bits uint) ([]byte, error) {
	acc = acc<<(64-bits) | (1<<(64-bits) - 1)
	for {
		s, n := t.symbol(uint32(acc >> 32))
		if n > bits {
			break
		}
		if s == eos {
			return dst, ErrHuffman
		}
		dst = append(dst, byte(s))
		acc = acc<<n | (1<<n - 1)
		bits -= n
	}
	if bits > 7 || acc != 1<<64-1 {
		return dst, ErrHuffman
	}
	return dst, nil
}
