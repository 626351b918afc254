package sim

import "container/heap"

// agenda holds what will happen, by time and then in the order in which it was decided.
type agenda struct {
	items  []happening
	serial uint64
}

type happening struct {
	at     int64
	serial uint64
	f      func()
}

func (a *agenda) add(at int64, f func()) {
	a.serial++
	heap.Push(a, happening{at, a.serial, f})
}

// take removes what is due at now, nil if nothing is.
func (a *agenda) take(now int64) func() {
	if len(a.items) == 0 || a.items[0].at > now {
		return nil
	}
	return heap.Pop(a).(happening).f
}

// next is the time of the first item, -1 if there is none.
func (a *agenda) next() int64 {
	if len(a.items) == 0 {
		return -1
	}
	return a.items[0].at
}

// The methods of heap.Interface.
func (a *agenda) Len() int      { return len(a.items) }
func (a *agenda) Swap(i, j int) { a.items[i], a.items[j] = a.items[j], a.items[i] }
func (a *agenda) Push(x any)    { a.items = append(a.items, x.(happening)) }
func (a *agenda) Less(i, j int) bool {
	x, y := &a.items[i], &a.items[j]
	return x.at < y.at || x.at == y.at && x.serial < y.serial
}
func (a *agenda) Pop() any {
	last := len(a.items) - 1
	x := a.items[last]
	a.items[last] = happening{}
	a.items = a.items[:last]
	return x
}
