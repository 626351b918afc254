package proxy

import "github.com/larboard-proxy/larboard/policy"

// mayBegin refuses an exchange where buffers are short: one that has not begun is cheap to
// refuse, and those under way need what is left.
func (s *loopState) mayBegin() error {
	if s.loop.Short() {
		return &policy.Error{Reason: policy.BuffersShort, Phase: policy.PhaseRoute}
	}
	return nil
}

// quieter is a transport that can wait for bytes, and for room under the limit of buffers,
// without a buffer; see engine.
type quieter interface {
	Quiet() bool
	AwaitInput(size int) error
}

// lend gives b a buffer to read into, once there is something to read. While it waits it
// has none.
func (b *bare) lend() error {
	if q, ok := b.transport.(quieter); ok && (b.buf == nil || q.Quiet()) {
		b.release()
		if err := q.AwaitInput(tunnelBuffer); err != nil {
			return err
		}
	}
	if b.buf == nil {
		b.buf = b.loop.Buffer(tunnelBuffer)
	}
	return nil
}

// release gives the buffer back.
func (b *bare) release() {
	if b.buf != nil {
		b.loop.Release(b.buf)
		b.buf = nil
	}
}
