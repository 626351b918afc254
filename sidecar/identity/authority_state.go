package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// statePoll is how often a process looks whether another one changed the shared
// roots; looking is one small read.
const statePoll = 2 * time.Second

// stateFile is the authority's roots on disk: authority.json (mode 0600, replaced
// atomically) beside authority.lock, whose flock serializes changes among
// processes. The kernel releases the lock with its process, so none is ever stale.
type stateFile struct {
	dir    string
	domain spiffeid.TrustDomain
	last   []byte // content last read or written
}

// savedState and savedRoot are the file's format.
type savedState struct {
	TrustDomain string      `json:"trust_domain"`
	Roots       []savedRoot `json:"roots"`
}

type savedRoot struct {
	Certificate string    `json:"certificate"`
	Key         string    `json:"key"`
	ActiveFrom  time.Time `json:"active_from"`
	RetireAt    time.Time `json:"retire_at,omitzero"`
}

// lock creates the directory where needed and takes the lock; the returned
// function releases it. It blocks while another process changes the state, which
// is a matter of milliseconds.
func (f *stateFile) lock() (func(), error) {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, fmt.Errorf("identity: authority state: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(f.dir, "authority.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("identity: authority state: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		file.Close()
		return nil, fmt.Errorf("identity: lock authority state: %w", err)
	}
	return func() { file.Close() }, nil
}

// load reads the roots; same reports that they are those last seen. No file means
// no roots yet; a file that cannot be understood is an error, never overwritten.
func (f *stateFile) load() (roots []root, same bool, err error) {
	path := filepath.Join(f.dir, "authority.json")
	content, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("identity: authority state: %w", err)
	case f.last != nil && bytes.Equal(content, f.last):
		return nil, true, nil
	}
	if err := onlyOwner(path); err != nil {
		return nil, false, err
	}
	var saved savedState
	if err := json.Unmarshal(content, &saved); err != nil {
		return nil, false, fmt.Errorf("identity: authority state %s: %w", path, err)
	}
	if saved.TrustDomain != f.domain.Name() {
		return nil, false, fmt.Errorf("identity: authority state %s is of trust domain %q, not %q", path, saved.TrustDomain, f.domain.Name())
	}
	for _, s := range saved.Roots {
		r, err := s.parse()
		if err != nil {
			return nil, false, fmt.Errorf("identity: authority state %s: %w", path, err)
		}
		roots = append(roots, r)
	}
	f.last = content
	return roots, false, nil
}

// onlyOwner refuses a key that others may read.
func onlyOwner(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("identity: authority state: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("identity: authority state %s has mode %#o and holds private keys; chmod 600 it", path, mode)
	}
	return nil
}

// save replaces the file; the lock is held.
func (f *stateFile) save(roots []root) error {
	saved := savedState{TrustDomain: f.domain.Name()}
	for _, r := range roots {
		s, err := r.save()
		if err != nil {
			return err
		}
		saved.Roots = append(saved.Roots, s)
	}
	content, err := json.MarshalIndent(saved, "", "  ")
	if err != nil {
		return fmt.Errorf("identity: authority state: %w", err)
	}
	temporary, err := os.CreateTemp(f.dir, ".authority-*") // mode 0600
	if err != nil {
		return fmt.Errorf("identity: authority state: %w", err)
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.Write(content)
	if err := errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return fmt.Errorf("identity: authority state: %w", err)
	}
	if err := os.Rename(temporary.Name(), filepath.Join(f.dir, "authority.json")); err != nil {
		return fmt.Errorf("identity: authority state: %w", err)
	}
	f.last = content
	return nil
}

func (r root) save() (savedRoot, error) {
	key, err := x509.MarshalPKCS8PrivateKey(r.key)
	if err != nil {
		return savedRoot{}, fmt.Errorf("identity: authority key: %w", err)
	}
	return savedRoot{
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.certificate.Raw})),
		Key:         string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
		ActiveFrom:  r.activeFrom, RetireAt: r.retireAt,
	}, nil
}

func (s savedRoot) parse() (root, error) {
	certificate, _ := pem.Decode([]byte(s.Certificate))
	secret, _ := pem.Decode([]byte(s.Key))
	if certificate == nil || secret == nil {
		return root{}, errors.New("a root without certificate or key")
	}
	c, err := x509.ParseCertificate(certificate.Bytes)
	if err != nil {
		return root{}, fmt.Errorf("root certificate: %w", err)
	}
	k, err := x509.ParsePKCS8PrivateKey(secret.Bytes)
	if err != nil {
		return root{}, fmt.Errorf("root key: %w", err)
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(c.PublicKey) {
		return root{}, errors.New("a root whose key is not its certificate's")
	}
	return root{certificate: c, key: key, activeFrom: s.ActiveFrom, retireAt: s.RetireAt}, nil
}

// sync brings the roots up to date with the shared state and the clock, applies
// change (may be nil) and stores the result; mu is held. In memory it only
// maintains.
func (a *Authority) sync(change func(now time.Time) error) error {
	if a.state == nil {
		return a.apply(change, func() error { return nil })
	}
	unlock, err := a.state.lock()
	if err != nil {
		return err
	}
	defer unlock()
	roots, same, err := a.state.load()
	if err != nil {
		return err
	}
	switch {
	case same:
	case len(roots) > 0:
		a.roots = roots
		a.announce()
	case len(a.roots) > 0: // the file was removed under us: the others need ours
		if err := a.state.save(a.roots); err != nil {
			return err
		}
	}
	return a.apply(change, func() error { return a.state.save(a.roots) })
}

// apply runs maintain and change, and save only if either altered the roots; on
// an error the roots are as before.
func (a *Authority) apply(change func(time.Time) error, save func() error) error {
	old := append([]root(nil), a.roots...)
	now := a.options.Now()
	changed, err := a.maintain(now)
	if err == nil && change != nil {
		n := len(a.roots)
		err = change(now)
		changed = changed || len(a.roots) != n
	}
	if err == nil && changed {
		err = save()
	}
	if err != nil {
		a.roots = old
		return err
	}
	if changed {
		a.announce()
	}
	return nil
}
