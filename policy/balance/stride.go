package balance

// strideUnit is what one pick costs an endpoint of weight 1. At 2^42 a weight of
// MaxWeight still has a stride of 2^22, and a pass lasts for 2^21 rounds of the
// lightest endpoint before rebase.
const strideUnit = 1 << 42

// stride is weighted round robin for large sets (stride scheduling): every
// endpoint has a pass; the lowest is picked and its pass grows by strideUnit /
// weight. A binary heap keeps the lowest on top.
type stride struct {
	stateless
	heap []strideItem
}

type strideItem struct {
	pass  int64
	step  int64
	index int
}

// newStride puts each endpoint in the middle of its first stride, so that heavy
// ones come first and light ones are spread.
func newStride(m []member) *stride {
	s := &stride{heap: make([]strideItem, len(m))}
	for k, x := range m {
		step := strideUnit / x.weight
		s.heap[k] = strideItem{pass: step / 2, step: step, index: x.index}
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

// Pick is O(log n) while the endpoints on top are usable. One that is not loses
// its turn; after as many lost turns as there are endpoints (nearly all are down)
// the rest is looked through one by one.
func (s *stride) Pick(ctx PickContext) (Token, bool) {
	for range s.heap {
		i := s.heap[0].index
		usable := ctx.usable(i)
		s.advance(0)
		if usable {
			return Token{Index: i}, true
		}
	}
	return s.scan(ctx)
}

// scan picks the usable endpoint with the lowest pass, in O(n).
func (s *stride) scan(ctx PickContext) (Token, bool) {
	best := -1
	for k := range s.heap {
		if ctx.usable(s.heap[k].index) && (best < 0 || s.heap[k].pass < s.heap[best].pass) {
			best = k
		}
	}
	if best < 0 {
		return Token{}, false
	}
	i := s.heap[best].index
	s.advance(best)
	return Token{Index: i}, true
}

// advance charges the item at k one turn.
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

// less breaks ties by index, so that the order depends on nothing else.
func (s *stride) less(a, b int) bool {
	x, y := &s.heap[a], &s.heap[b]
	return x.pass < y.pass || x.pass == y.pass && x.index < y.index
}
