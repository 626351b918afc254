package config

import (
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Duration is written as 250ms, 2s, 1m30s; a lone 0 is allowed, other numbers
// need their unit.
type Duration time.Duration

// D returns d as the standard library's type.
func (d Duration) D() time.Duration { return time.Duration(d) }

// String returns the shortest form that ParseDuration reads back.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// ParseDuration reads what String writes. Negative durations are refused.
func ParseDuration(s string) (Duration, error) {
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a duration; write a number and a unit, like 250ms, 2s or 1m30s", s)
	case d < 0:
		return 0, fmt.Errorf("%q is negative", s)
	}
	return Duration(d), nil
}

// Size is a number of bytes, written as 8192 or 64KiB.
type Size int64

// sizeUnits are those that are understood, the largest first.
var sizeUnits = [...]struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// String returns the shortest form that ParseSize reads back.
func (s Size) String() string {
	for _, u := range sizeUnits[:3] {
		if s >= Size(u.bytes) && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// ParseSize reads what String writes. Decimal units (kB, MB) are refused, since
// readers disagree about them.
func ParseSize(text string) (Size, error) {
	number, unit := text, int64(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(text, u.name); ok {
			number, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a size; write bytes or a unit, like 8192, 64KiB or 1MiB", text)
	case n < 0:
		return 0, fmt.Errorf("%q is negative", text)
	case n > (1<<63-1)/unit:
		return 0, fmt.Errorf("%q is too large", text)
	}
	return Size(n * unit), nil
}

// redacted stands for every secret in print.
const redacted = "[redacted]"

// Secret is a text that must not be printed: fmt, slog and the encoders of the
// standard library show a placeholder.
type Secret string

// Reveal returns the text itself; it belongs into a request to whoever asked for
// it and nowhere else.
func (s Secret) Reveal() string { return string(s) }

// String returns the placeholder, or nothing for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString is String: %#v must not show it either.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// LogValue is String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is String.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// IDPattern is a SPIFFE ID, or one that ends in /* and stands for every ID below.
// In allow lists the trust domain may be left out (/web, /ns/a/*, *): our own.
type IDPattern string

// Block is a set of clients: an IP address, a CIDR block, or the word unix for those that
// come over Unix sockets.
type Block string

// UnixClients are those without an address.
const UnixClients Block = "unix"

// Prefix returns the addresses; UnixClients has none.
func (b Block) Prefix() (netip.Prefix, error) {
	if a, err := netip.ParseAddr(string(b)); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(string(b))
}

// SocketMode is a file mode of three or four octal digits, like 0660.
type SocketMode string

// Mode returns the mode itself; 0 for an empty one, and for what is none.
func (m SocketMode) Mode() fs.FileMode {
	n, err := strconv.ParseUint(string(m), 8, 9)
	if err != nil {
		return 0
	}
	return fs.FileMode(n)
}
