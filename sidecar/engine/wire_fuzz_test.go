package engine

import "testing"

// FuzzFrames gives the same stream whole and in pieces: the counts must agree.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{23, 3, 3, 0, 2, 'a', 'b', 22, 3, 3, 0, 0, 23, 3}, uint8(1))
	f.Fuzz(func(t *testing.T, stream []byte, size uint8) {
		var whole, pieces frames
		whole.see(stream)
		for p := stream; len(p) > 0; {
			n := min(int(size)+1, len(p))
			pieces.see(p[:n])
			p = p[n:]
		}
		if whole.complete != pieces.complete || whole.left != pieces.left || whole.have != pieces.have {
			t.Errorf("whole %+v, in pieces %+v", whole, pieces)
		}
	})
}
