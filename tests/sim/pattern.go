package sim

import "strings"

// Bodies are made so that any byte that is lost, doubled or somebody else's shows: the text
// of body id is a window into one long text of numbers, and begins at a place of its own.

// text is the long text that bodies are windows into.
type text string

// newText is 64 KiB, in which every four bytes differ from those nearby.
func newText() text {
	var b strings.Builder
	x := uint32(12345)
	for b.Len() < 64<<10 {
		x = x*1664525 + 1013904223
		b.WriteByte(' ' + byte(x>>24)%95)
	}
	return text(b.String())
}

// at returns up to n bytes of body id from offset on.
func (t text) at(id, offset, n int) string {
	from := (id*7919 + offset) % len(t)
	return string(t[from:min(from+n, len(t))])
}

// whole returns the first n bytes of body id.
func (t text) whole(id, n int) string {
	var b strings.Builder
	b.Grow(n)
	for b.Len() < n {
		b.WriteString(t.at(id, b.Len(), n-b.Len()))
	}
	return b.String()
}

// proof compares what arrives with body id, piece by piece.
type proof struct {
	text  text
	id    int
	want  int // bytes
	got   int
	wrong bool
}

func (p *proof) take(s string) {
	for len(s) > 0 && !p.wrong {
		want := p.text.at(p.id, p.got, min(len(s), p.want-p.got))
		if want == "" || s[:len(want)] != want {
			p.wrong = true
			break
		}
		p.got += len(want)
		s = s[len(want):]
	}
}

// whole reports that exactly the body has arrived.
func (p *proof) whole() bool { return !p.wrong && p.got == p.want }
