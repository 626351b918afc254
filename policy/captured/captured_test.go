package captured

import (
	"net/netip"
	"testing"
)

func entry(prefix string, port uint16, to int) Entry {
	e := Entry{Port: port, To: to}
	if prefix != "" {
		e.Prefix = netip.MustParsePrefix(prefix)
	}
	return e
}

var table = New([]Entry{
	entry("10.0.0.1/32", 80, 1),
	entry("10.0.0.1/32", 0, 2),
	entry("10.0.0.0/24", 0, 3),
	entry("10.0.0.0/24", 443, 4),
	entry("10.0.0.0/8", 443, 5),
	entry("", 9092, 6),
	entry("fd00::1/128", 80, 7),
	entry("fd00::/64", 0, 8),
	entry("10.0.0.1/32", 80, 9), // comes too late
	entry("0.0.0.0/0", 25, 10),
	entry("10.0.0.0/24", 443, 11), // likewise
})

func TestLookup(t *testing.T) {
	for name, c := range map[string]struct {
		address string
		to      int // 0: none
	}{
		"address and port":             {"10.0.0.1:80", 1},
		"address":                      {"10.0.0.1:81", 2},
		"address before a block":       {"10.0.0.1:443", 2},
		"block with its port":          {"10.0.0.2:443", 4},
		"block":                        {"10.0.0.2:80", 3},
		"wider block":                  {"10.9.0.2:443", 5},
		"wider block, another port":    {"10.9.0.2:80", 0},
		"a port of every address":      {"192.0.2.1:9092", 6},
		"the same over IPv6":           {"[2001:db8::1]:9092", 6},
		"every address of IPv4":        {"192.0.2.1:25", 10},
		"but not of IPv6":              {"[2001:db8::1]:25", 0},
		"IPv6 address and port":        {"[fd00::1]:80", 7},
		"IPv6 block":                   {"[fd00::2]:80", 8},
		"IPv6 with a zone":             {"[fd00::2%eth0]:80", 8},
		"IPv4 written as IPv6":         {"[::ffff:10.0.0.1]:80", 1},
		"nothing":                      {"192.0.2.1:80", 0},
		"no address":                   {"", 0},
		"a block goes before any port": {"10.0.0.2:9092", 3},
	} {
		t.Run(name, func(t *testing.T) {
			var a netip.AddrPort
			if c.address != "" {
				a = netip.MustParseAddrPort(c.address)
			}
			to, ok := table.Lookup(a)
			if to != c.to || ok != (c.to != 0) {
				t.Errorf("%s is for %d (%v), not %d", c.address, to, ok, c.to)
			}
		})
	}
}

func TestEmptyTables(t *testing.T) {
	for _, table := range []*Table{nil, New(nil)} {
		if _, ok := table.Lookup(netip.MustParseAddrPort("10.0.0.1:80")); ok {
			t.Error("an empty table holds an address")
		}
	}
}

// FuzzLookup compares with the definition, entry by entry.
func FuzzLookup(f *testing.F) {
	f.Add([]byte{10, 0, 0, 1, 24, 80, 10, 0, 0, 1, 32, 0}, []byte{10, 0, 0, 1}, uint16(80))
	f.Fuzz(func(t *testing.T, text, address []byte, port uint16) {
		ip, ok := netip.AddrFromSlice(address)
		if !ok {
			return
		}
		var entries []Entry
		for i := 0; i+6 <= len(text); i += 6 {
			a := netip.AddrFrom4([4]byte(text[i : i+4]))
			e := Entry{Port: uint16(text[i+5]), To: i}
			if bits := int(text[i+4]); bits <= 32 {
				e.Prefix, _ = a.Prefix(bits)
			}
			entries = append(entries, e)
		}
		to, ok := New(entries).Lookup(netip.AddrPortFrom(ip, port))
		best, rank := -1, -1
		for _, e := range entries {
			if e.Port != 0 && e.Port != port || e.Prefix.IsValid() && !e.Prefix.Contains(ip.Unmap()) {
				continue
			}
			r := 0
			if e.Prefix.IsValid() {
				r = 2 + 2*e.Prefix.Bits()
			}
			if e.Port != 0 {
				r++
			}
			if r > rank {
				best, rank = e.To, r
			}
		}
		if ok != (best >= 0) || ok && to != best {
			t.Errorf("%v:%d in %v is for %d (%v), not %d", ip, port, entries, to, ok, best)
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	a := netip.MustParseAddrPort("192.0.2.1:25")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := table.Lookup(a); !ok {
			b.Fatal("not found")
		}
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	a := netip.MustParseAddrPort("[2001:db8::1]:80")
	if n := testing.AllocsPerRun(100, func() { table.Lookup(a) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
