package hpack

// maxInteger bounds integers, which number bytes or entries here: what is larger
// is refused before it can overflow anything.
const maxInteger = 1 << 28

// readInteger reads an integer whose prefix is the low bits of b[0] (RFC 7541
// section 5.1), and returns what follows.
func readInteger(b []byte, bits uint) (n uint32, rest []byte, err error) {
	mask := uint32(1)<<bits - 1
	n = uint32(b[0]) & mask
	if n < mask {
		return n, b[1:], nil
	}
	for i, c := range b[1:] {
		shift := uint(i) * 7
		if shift > 21 && (shift > 28 || c&0x7f != 0) {
			return 0, nil, ErrInteger
		}
		n += uint32(c&0x7f) << shift
		if n > maxInteger {
			return 0, nil, ErrInteger
		}
		if c < 0x80 {
			return n, b[i+2:], nil
		}
	}
	return 0, nil, ErrTruncated
}

// appendInteger appends n with a prefix of so many bits, under the pattern given.
func appendInteger(dst []byte, pattern byte, bits uint, n int) []byte {
	mask := 1<<bits - 1
	if n < mask {
		return append(dst, pattern|byte(n))
	}
	dst = append(dst, pattern|byte(mask))
	for n -= mask; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}
