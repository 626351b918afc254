package balance

// Set is a set of endpoint indices: those already tried in one exchange. The zero
// value is empty. Indices below 64 cost no allocation; Reset keeps the space of
// the others.
type Set struct {
	low  uint64
	more []uint64 // bit i of more[k] is index 64*(k+1)+i
}

// Add puts i (at least 0) into s.
func (s *Set) Add(i int) {
	if i < 64 {
		s.low |= 1 << i
		return
	}
	k := i/64 - 1
	for len(s.more) <= k {
		s.more = append(s.more, 0)
	}
	s.more[k] |= 1 << (i % 64)
}

// Has reports whether i is in s; a nil set is empty.
func (s *Set) Has(i int) bool {
	if s == nil {
		return false
	}
	if i < 64 {
		return s.low&(1<<i) != 0
	}
	k := i/64 - 1
	return k < len(s.more) && s.more[k]&(1<<(i%64)) != 0
}

// Empty reports whether nothing is in s.
func (s *Set) Empty() bool {
	if s == nil {
		return true
	}
	for _, w := range s.more {
		if w != 0 {
			return false
		}
	}
	return s.low == 0
}

// Reset empties s.
func (s *Set) Reset() {
	s.low = 0
	clear(s.more)
}
