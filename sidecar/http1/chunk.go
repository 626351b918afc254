package http1

import (
	"math"

	"github.com/larboard-proxy/larboard/sidecar/message"
)

// Chunked transfer coding, decoded in place (RFC 9112 section 7.1). Refused
// beyond the grammar: white space anywhere outside a quoted extension value.
// Extensions are checked, counted and dropped.

type chunkState uint8

const (
	chunkSize chunkState = iota // before the first digit
	chunkDigits
	chunkExt // before an extension's name
	chunkExtName
	chunkExtEquals // before its value
	chunkExtToken
	chunkExtQuoted
	chunkExtEscaped
	chunkExtEnd
	chunkSizeLF
	chunkData
	chunkDataCR
	chunkDataLF
	chunkTrailer
)

// extensionsAtMost bounds the bytes of extensions in one message, so that they
// are no channel for data that nobody counts.
const extensionsAtMost = 4 << 10

// unhex gives the value of a hexadecimal digit, 255 for other bytes.
var unhex = buildUnhex()

func buildUnhex() (t [256]byte) {
	for c := range t {
		switch {
		case c >= '0' && c <= '9':
			t[c] = byte(c - '0')
		case c >= 'a' && c <= 'f':
			t[c] = byte(c - 'a' + 10)
		case c >= 'A' && c <= 'F':
			t[c] = byte(c - 'A' + 10)
		default:
			t[c] = 255
		}
	}
	return t
}

// decode takes what is buffered of a chunked body: the data of all chunks in it,
// moved together, as a view of the buffer. end: the last chunk and the trailer
// section are behind it.
func (c *conn) decode() (view []byte, end bool, f fault) {
	base, out := c.r, c.r
	for c.r < c.w {
		switch c.chunk {
		case chunkData:
			n := uint32(min(c.left, int64(c.w-c.r)))
			if out == base {
				base, out = c.r, c.r
			}
			if out != c.r {
				copy(c.buf[out:], c.buf[c.r:c.r+n])
			}
			out += n
			c.r += n
			if c.left -= int64(n); c.left == 0 {
				c.chunk = chunkDataCR
			}
		case chunkTrailer:
			end, f = c.trailerSection()
			return c.buf[base:out:out], end, f
		default:
			b := c.buf[c.r]
			c.r++
			if f = c.chunkByte(b); f.bad() {
				return nil, false, f
			}
		}
	}
	return c.buf[base:out:out], false, fault{}
}

// chunkByte takes one byte that is not data.
func (c *conn) chunkByte(b byte) fault {
	switch c.chunk {
	case chunkSize, chunkDigits:
		return c.sizeByte(b)
	case chunkSizeLF:
		if b != '\n' {
			return refuse("a chunk size line ends with a bare carriage return")
		}
		if c.chunk = chunkData; c.left == 0 {
			c.chunk = chunkTrailer
		}
	case chunkDataCR:
		if b != '\r' {
			return refuse("a chunk longer than its size")
		}
		c.chunk = chunkDataLF
	case chunkDataLF:
		if b != '\n' {
			return refuse("a chunk ends with a bare carriage return")
		}
		c.chunk, c.digits = chunkSize, 0
	default:
		if c.ext++; c.ext > extensionsAtMost {
			return refuse("chunk extensions over the limit")
		}
		return c.extensionByte(b)
	}
	return fault{}
}

func (c *conn) sizeByte(b byte) fault {
	d := unhex[b]
	switch {
	case d < 16:
		if c.digits++; c.digits > 16 || c.left > math.MaxInt64>>4 {
			return refuse("a chunk size that overflows")
		}
		c.left = c.left<<4 | int64(d)
		c.chunk = chunkDigits
		return fault{}
	case c.digits == 0:
		return refuse("a chunk without a size")
	}
	return c.afterExtension(b)
}

// afterExtension takes the byte after a chunk size or a complete extension.
func (c *conn) afterExtension(b byte) fault {
	switch b {
	case ';':
		c.chunk = chunkExt
	case '\r':
		c.chunk = chunkSizeLF
	default:
		return refuse("malformed chunk size line")
	}
	return fault{}
}

// extensionByte follows *( ";" name [ "=" ( token / quoted-string ) ] ).
func (c *conn) extensionByte(b byte) fault {
	token := message.IsTokenByte(b)
	switch c.chunk {
	case chunkExt:
		if !token {
			return refuse("a chunk extension without a name")
		}
		c.chunk = chunkExtName
	case chunkExtName:
		if b == '=' {
			c.chunk = chunkExtEquals
		} else if !token {
			return c.afterExtension(b)
		}
	case chunkExtEquals:
		if c.chunk = chunkExtToken; b == '"' {
			c.chunk = chunkExtQuoted
		} else if !token {
			return refuse("a chunk extension without a value")
		}
	case chunkExtToken:
		if !token {
			return c.afterExtension(b)
		}
	case chunkExtQuoted, chunkExtEscaped:
		return c.quotedByte(b)
	case chunkExtEnd:
		return c.afterExtension(b)
	}
	return fault{}
}

func (c *conn) quotedByte(b byte) fault {
	switch {
	case !message.IsValueByte(b):
		return refuse("a control character in a chunk extension")
	case c.chunk == chunkExtEscaped:
		c.chunk = chunkExtQuoted
	case b == '"':
		c.chunk = chunkExtEnd
	case b == '\\':
		c.chunk = chunkExtEscaped
	}
	return fault{}
}
