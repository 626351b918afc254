package balance

// strideUnit is what one pick costs an endpoint of weight 1 that is alone with it. At 2^52
// a weight of MaxWeight, of thousands of endpoints, still has a stride of 2^20, and a pass
// lasts for 2^10 turns of the lightest before rebase.
const strideUnit = 1 << 52

// stride is weighted round robin for large sets (stride scheduling) among groups of
// endpoints of one weight: every group has a pass; the lowest is picked and its pass grows
// by strideUnit / weight of the whole group. Within a group the endpoints take turns. A
// binary heap keeps the lowest pass on top; there are as many groups as weights, hence few.
type stride struct {
	stateless
	heap   []strideItem
	groups []strideGroup
	n      int // endpoints
}

type strideItem struct {
	pass  int64
	step  int64
	group int
}

// strideGroup are the endpoints of one weight.
type strideGroup struct {
	indexes []int
	next    int
}

// newStride puts each group in the middle of its first stride, so that heavy ones come
// first and light ones are spread.
func newStride(m []member) *stride {
	s := &stride{n: len(m)}
	of := map[int64]int{}
	for _, x := range m {
		k, known := of[x.weight]
		if !known {
			k = len(s.groups)
			of[x.weight] = k
			s.groups = append(s.groups, strideGroup{})
		}
		s.groups[k].indexes = append(s.groups[k].indexes, x.index)
	}
	s.heap = make([]strideItem, len(s.groups))
	for weight, k := range of {
		step := strideUnit / (weight * int64(len(s.groups[k].indexes)))
		s.heap[k] = strideItem{pass: step / 2, step: step, group: k}
	}
	for k := len(s.heap)/2 - 1; k >= 0; k-- {
		s.sink(k)
	}
	return s
}

func (s *stride) skip(n int) {
	for range n {
		s.Pick(PickContext{Load: allUsable{}})
	}
}

// Pick is O(log of the number of weights) while the endpoints whose turn it is are usable.
// One that is not loses its turn; after as many lost turns as there are endpoints (nearly
// all are down) the rest is looked through one by one.
func (s *stride) Pick(ctx PickContext) (Token, bool) {
	for range s.n {
		i := s.groups[s.heap[0].group].turn()
		usable := ctx.usable(i)
		s.advance(0)
		if usable {
			return Token{Index: i}, true
		}
	}
	return s.scan(ctx)
}

// turn is the endpoint of g whose turn it is; the next one's is next.
func (g *strideGroup) turn() int {
	i := g.indexes[g.next]
	if g.next++; g.next == len(g.indexes) {
		g.next = 0
	}
	return i
}

// scan picks a usable endpoint of the group with the lowest pass that has any, in O(n).
func (s *stride) scan(ctx PickContext) (Token, bool) {
	best, at := -1, 0
	for k := range s.heap {
		if best >= 0 && s.heap[k].pass >= s.heap[best].pass {
			continue
		}
		g := &s.groups[s.heap[k].group]
		for range g.indexes {
			if i := g.turn(); ctx.usable(i) {
				best, at = k, i
				break
			}
		}
	}
	if best < 0 {
		return Token{}, false
	}
	s.advance(best)
	return Token{Index: at}, true
}

// advance charges the group at k one turn.
func (s *stride) advance(k int) {
	s.heap[k].pass += s.heap[k].step
	rebase := s.heap[k].pass > 1<<62
	s.sink(k)
	if rebase {
		s.rebase()
	}
}

// rebase brings all passes down by the lowest, which changes no order.
func (s *stride) rebase() {
	low := s.heap[0].pass
	for k := range s.heap {
		s.heap[k].pass -= low
	}
}

// sink moves the item at k down to where no item below it is less.
func (s *stride) sink(k int) {
	for {
		least := k
		for child := 2*k + 1; child <= 2*k+2 && child < len(s.heap); child++ {
			if s.less(child, least) {
				least = child
			}
		}
		if least == k {
			return
		}
		s.heap[k], s.heap[least] = s.heap[least], s.heap[k]
		k = least
	}
}

// less breaks ties by group, so that the order depends on nothing else.
func (s *stride) less(a, b int) bool {
	x, y := &s.heap[a], &s.heap[b]
	return x.pass < y.pass || x.pass == y.pass && x.group < y.group
}
