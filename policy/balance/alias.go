package balance

import "math/bits"

// alias draws places at random in exact proportion to weights, in constant time: Walker's
// method of aliases, in whole numbers (Vose 1991). Each of the n places is a column of the
// same height, the sum of the weights; below cut it stands for itself, above for alias.
type alias struct {
	columns []column // nil where all weights are equal
	n       uint64
	height  uint64
}

type column struct {
	cut   uint64
	alias int32
}

func newAlias(m []member) alias {
	a := alias{n: uint64(len(m))}
	if equal(m) {
		return a
	}
	for _, x := range m {
		a.height += uint64(x.weight)
	}
	a.columns = make([]column, len(m))
	var low, high []int32 // columns with room, and those that have too much
	for k, x := range m {
		a.columns[k] = column{cut: uint64(x.weight) * a.n, alias: int32(k)}
		if a.columns[k].cut < a.height {
			low = append(low, int32(k))
		} else {
			high = append(high, int32(k))
		}
	}
	for len(low) > 0 && len(high) > 0 {
		l, h := low[len(low)-1], high[len(high)-1]
		low = low[:len(low)-1]
		a.columns[l].alias = h
		a.columns[h].cut -= a.height - a.columns[l].cut
		if a.columns[h].cut < a.height {
			low, high = append(low, h), high[:len(high)-1]
		}
	}
	return a
}

// of is the place that a random number stands for; there is at least one place. The bias is
// beneath notice: n * sum of weights / 2^64.
func (a *alias) of(random uint64) int {
	k, rest := bits.Mul64(random, a.n)
	if a.columns == nil {
		return int(k)
	}
	if r, _ := bits.Mul64(rest, a.height); r >= a.columns[k].cut {
		return int(a.columns[k].alias)
	}
	return int(k)
}
