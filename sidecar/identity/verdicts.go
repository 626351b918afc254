package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"sync"
	"time"
)

// verdictLimit bounds the remembered chains of one snapshot; at the limit the
// table is emptied, which costs one verification a peer.
const verdictLimit = 1024

// verdicts remembers the chains that one snapshot has verified, so that a second
// connection of the same peer costs a hash in place of the signature checks
// (about 1 against 70 us for a chain of one P-256 authority). It lives and dies
// with its snapshot, whose pools never change; only successes are kept, keyed by
// the hash of everything the peer presented, and only while all of the chain is
// in its time. Possession of the key is proven by the handshake each time.
type verdicts struct {
	mu    sync.Mutex
	known map[verdictKey]verified
}

type verdictKey struct {
	usage x509.ExtKeyUsage
	chain [sha256.Size]byte
}

func keyOf(chain []*x509.Certificate, usage x509.ExtKeyUsage) verdictKey {
	h := sha256.New()
	for _, c := range chain {
		h.Write(c.Raw) // DER carries its own length
	}
	k := verdictKey{usage: usage}
	h.Sum(k.chain[:0])
	return k
}

func (t *verdicts) find(chain []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) (verified, bool) {
	k := keyOf(chain, usage)
	t.mu.Lock()
	v, ok := t.known[k]
	t.mu.Unlock()
	return v, ok && !now.Before(v.notBefore) && !now.After(v.notAfter)
}

func (t *verdicts) keep(chain []*x509.Certificate, usage x509.ExtKeyUsage, v verified) {
	k := keyOf(chain, usage)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil || len(t.known) >= verdictLimit {
		t.known = make(map[verdictKey]verified)
	}
	t.known[k] = v
}
