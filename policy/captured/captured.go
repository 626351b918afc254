// Package captured tells for whom a connection was that the kernel has redirected to us, by the
// address it was going to. It is pure; it must not know of listeners, services or the kernel.
package captured

import (
	"cmp"
	"net/netip"
	"slices"
)

// Entry is a set of addresses and what stands for them.
type Entry struct {
	// Prefix is a single address, or a block. The zero value is every address.
	Prefix netip.Prefix
	Port   uint16 // 0: every port
	To     int
}

// single reports whether e is one address.
func (e Entry) single() bool { return e.Prefix.IsValid() && e.Prefix.IsSingleIP() }

// Table is an immutable set of entries; nil is an empty one. Any goroutine.
//
// Cost of a Lookup: a look into a map for each length of a block that occurs, twice where some have
// ports, and no allocation (BenchmarkLookup).
type Table struct {
	places map[netip.AddrPort]int
	addrs  map[netip.Addr]int
	blocks map[block]int
	widths []width // the narrowest first
}

type block struct {
	prefix netip.Prefix
	port   uint16
}

// width is a form of blocks that occurs.
type width struct {
	bits   int // -1: every address
	v6     bool
	ported bool
}

// New makes a table. Of entries for the same addresses and port the first stays.
func New(entries []Entry) *Table {
	t := &Table{places: map[netip.AddrPort]int{}, addrs: map[netip.Addr]int{}, blocks: map[block]int{}}
	for _, e := range entries {
		switch {
		case e.single() && e.Port != 0:
			first(t.places, netip.AddrPortFrom(e.Prefix.Addr(), e.Port), e.To)
		case e.single():
			first(t.addrs, e.Prefix.Addr(), e.To)
		default:
			t.addBlock(e)
		}
	}
	slices.SortFunc(t.widths, func(a, b width) int {
		if a.bits != b.bits {
			return cmp.Compare(b.bits, a.bits)
		}
		if a.ported != b.ported {
			if a.ported {
				return -1
			}
			return 1
		}
		return 0
	})
	return t
}

func first[K comparable](m map[K]int, k K, to int) {
	if _, there := m[k]; !there {
		m[k] = to
	}
}

func (t *Table) addBlock(e Entry) {
	w := width{bits: -1, ported: e.Port != 0}
	if e.Prefix.IsValid() {
		w.bits, w.v6 = e.Prefix.Bits(), e.Prefix.Addr().Is6()
	}
	if !slices.Contains(t.widths, w) {
		t.widths = append(t.widths, w)
	}
	first(t.blocks, block{e.Prefix.Masked(), e.Port}, e.To)
}

// Lookup returns what stands for an address: the entry of the address and its port, that of the
// address, that of the longest block that holds it (with its port before without), that of its port
// on every address.
func (t *Table) Lookup(a netip.AddrPort) (to int, ok bool) {
	if t == nil {
		return 0, false
	}
	ip := a.Addr().WithZone("").Unmap()
	if to, ok = t.places[netip.AddrPortFrom(ip, a.Port())]; ok {
		return to, true
	}
	if to, ok = t.addrs[ip]; ok {
		return to, true
	}
	for _, w := range t.widths {
		var b block
		if w.bits >= 0 {
			if w.v6 != ip.Is6() {
				continue
			}
			b.prefix, _ = ip.Prefix(w.bits)
		}
		if w.ported {
			b.port = a.Port()
		}
		if to, ok = t.blocks[b]; ok {
			return to, true
		}
	}
	return 0, false
}
