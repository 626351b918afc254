package quota

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
	"time"

	"github.com/larboard-proxy/larboard/sidecar/proxy"
)

// remembered is what is over its limit: the service need not be asked again before its own time is
// over. It is bounded in size and in time, so that a limit that is raised is seen soon.
type remembered struct {
	most time.Duration // 0: nothing is
	seed maphash.Seed

	mu   sync.Mutex
	over map[uint64]overLimit // by domain and descriptor
}

type overLimit struct {
	until int64 // Nanos
	limit int
}

// maxRemembered bounds the descriptors.
const maxRemembered = 10_000

func (r *remembered) init(most time.Duration) {
	r.most, r.seed, r.over = most, maphash.MakeSeed(), map[uint64]overLimit{}
}

// key tells a descriptor of a question. Each text is preceded by its length: no two of them look alike.
func (r *remembered) key(q *proxy.Question, d proxy.Descriptor) uint64 {
	var h maphash.Hash
	h.SetSeed(r.seed)
	text := func(s string) {
		var n [4]byte
		binary.LittleEndian.PutUint32(n[:], uint32(len(s)))
		h.Write(n[:])
		h.WriteString(s)
	}
	text(q.Domain)
	for _, p := range d {
		text(p.Key)
		text(p.Value)
	}
	return h.Sum64()
}

// find returns the answer to q where one of its descriptors is known to be over its limit. Called on
// loops: the lock is held for moments.
func (r *remembered) find(q *proxy.Question, now int64) (a proxy.Answer, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.over) == 0 {
		return a, false
	}
	for _, d := range q.Descriptors {
		k := r.key(q, d)
		o, there := r.over[k]
		switch left := time.Duration(o.until - now); {
		case !there:
		case left <= 0:
			delete(r.over, k)
		case left > a.Reset:
			a, known = proxy.Answer{OverLimit: true, Limit: o.limit, Reset: left}, true
		}
	}
	return a, known
}

// note keeps what a response says.
func (r *remembered) note(q *proxy.Question, answer *response, now int64) {
	if r.most == 0 || answer.code != codeOverLimit || len(answer.statuses) != len(q.Descriptors) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, s := range answer.statuses {
		if s.code != codeOverLimit || s.reset <= 0 {
			continue
		}
		if len(r.over) >= maxRemembered {
			r.makeRoom(now)
		}
		r.over[r.key(q, q.Descriptors[i])] = overLimit{now + int64(min(s.reset, r.most)), s.limit}
	}
}

// makeRoom forgets what is over, and where that is little, anything.
func (r *remembered) makeRoom(now int64) {
	for k, o := range r.over {
		if o.until <= now {
			delete(r.over, k)
		}
	}
	for k := range r.over {
		if len(r.over) <= maxRemembered*9/10 {
			return
		}
		delete(r.over, k)
	}
}
