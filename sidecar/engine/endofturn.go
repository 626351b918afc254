package engine

// EndOfTurn runs f once on the loop, after the tasks of this turn and before the loop waits
// for events: what they have written for one connection can then leave in one piece. A
// function that is handed in by another one of these runs at the end of the next turn, which
// comes at once. f must not park; a func value that is kept and handed in again allocates
// nothing. Loop only.
func (l *Loop) EndOfTurn(f func()) {
	checkOwner(l)
	l.endings.push(f)
}

func (l *Loop) runEndings() {
	for n := l.endings.len(); n > 0; n-- {
		l.guard(inEnding, l.endings.pop())
	}
}

// Cutter is what the User of a connection may be, to be told where the engine itself closes
// the connection while it belongs to no task: at the end of a drain, or because the function
// of OnReadable panicked. Cut is called on the loop, once, with the connection closed; it must
// not park.
type Cutter interface{ Cut(err error) }

// cut closes a connection over its owner's head.
func (l *Loop) cut(c *Conn, err error) {
	if c.flags&flagClosed != 0 {
		return
	}
	c.Close()
	if owner, ok := c.user.(Cutter); ok {
		l.guard(inLoop, func() { owner.Cut(err) })
	}
}
