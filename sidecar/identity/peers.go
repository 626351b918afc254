package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Peers is the set of SPIFFE IDs that one side accepts of the other. It is an
// immutable value; its zero value accepts nobody, so that a forgotten setting
// fails closed. Peers decides only after the certificate has been verified.
type Peers struct {
	ids      []spiffeid.ID // sorted, unique
	domains  []spiffeid.TrustDomain
	prefixes []prefix
	trusted  bool
	key      string
}

// prefix accepts what lies below path (which ends in a slash) in domain.
type prefix struct {
	domain spiffeid.TrustDomain
	path   string
}

// namedInErrors bounds how many accepted names an error text lists.
const namedInErrors = 4

// AnyOf accepts exactly the given IDs.
func AnyOf(ids ...spiffeid.ID) Peers {
	return Peers{ids: slices.Clone(ids)}.sealed()
}

// MemberOf accepts every workload of one trust domain.
func MemberOf(domain spiffeid.TrustDomain) Peers {
	return Peers{domains: []spiffeid.TrustDomain{domain}}.sealed()
}

// AnyTrusted accepts every peer whose trust domain has a bundle here. It serves
// listeners whose allow list is applied to each request later.
func AnyTrusted() Peers { return Peers{trusted: true}.sealed() }

// Pattern parses one accepted name: a SPIFFE ID, or one ending in "/*", which
// accepts everything below that path at any depth but not the path itself
// ("spiffe://example.org/ns/shop/*"; "spiffe://example.org/*" is the domain).
func Pattern(text string) (Peers, error) {
	stem, wild := strings.CutSuffix(text, "/*")
	id, err := spiffeid.FromString(stem)
	switch {
	case err != nil:
		return Peers{}, fmt.Errorf("identity: accepted peer %q: %w", text, err)
	case wild && id.Path() == "":
		return MemberOf(id.TrustDomain()), nil
	case wild:
		return Peers{prefixes: []prefix{{id.TrustDomain(), id.Path() + "/"}}}.sealed(), nil
	case id.Path() == "":
		return Peers{}, fmt.Errorf("identity: accepted peer %q names a trust domain; write %q for all its members", text, text+"/*")
	}
	return AnyOf(id), nil
}

// ParsePeers parses a list of patterns into one set. An empty list accepts nobody.
func ParsePeers(texts ...string) (Peers, error) {
	sets := make([]Peers, 0, len(texts))
	for _, text := range texts {
		p, err := Pattern(text)
		if err != nil {
			return Peers{}, err
		}
		sets = append(sets, p)
	}
	return Union(sets...), nil
}

// Union accepts whom any of the sets accepts.
func Union(sets ...Peers) Peers {
	var all Peers
	for _, p := range sets {
		all.ids = append(all.ids, p.ids...)
		all.domains = append(all.domains, p.domains...)
		all.prefixes = append(all.prefixes, p.prefixes...)
		all.trusted = all.trusted || p.trusted
	}
	return all.sealed()
}

// sealed sorts the parts and computes the key once, so that sets of the same
// content have the same key whatever the order they were written in.
func (p Peers) sealed() Peers {
	slices.SortFunc(p.ids, func(a, b spiffeid.ID) int { return strings.Compare(a.String(), b.String()) })
	p.ids = slices.Compact(p.ids)
	slices.SortFunc(p.domains, spiffeid.TrustDomain.Compare)
	p.domains = slices.Compact(p.domains)
	slices.SortFunc(p.prefixes, func(a, b prefix) int { return strings.Compare(a.String(), b.String()) })
	p.prefixes = slices.Compact(p.prefixes)
	p.key = strings.Join(p.names(), " ")
	if len(p.key) > 200 {
		sum := sha256.Sum256([]byte(p.key))
		p.key = "sha256:" + hex.EncodeToString(sum[:])
	}
	return p
}

func (p prefix) String() string { return p.domain.IDString() + p.path + "*" }

// names lists what is accepted, in the notation of Pattern.
func (p Peers) names() []string {
	names := make([]string, 0, len(p.ids)+len(p.domains)+len(p.prefixes)+1)
	if p.trusted {
		names = append(names, "any trusted peer")
	}
	for _, id := range p.ids {
		names = append(names, id.String())
	}
	for _, d := range p.domains {
		names = append(names, d.IDString()+"/*")
	}
	for _, x := range p.prefixes {
		names = append(names, x.String())
	}
	return names
}

// Accept reports whether a verified peer of this ID may speak with us. The zero
// ID is never accepted. It does not allocate.
func (p Peers) Accept(id spiffeid.ID) bool {
	if id.IsZero() {
		return false
	}
	if p.trusted || p.hasID(id) || slices.Contains(p.domains, id.TrustDomain()) {
		return true
	}
	for _, x := range p.prefixes {
		if id.MemberOf(x.domain) && len(id.Path()) > len(x.path) && strings.HasPrefix(id.Path(), x.path) {
			return true
		}
	}
	return false
}

func (p Peers) hasID(id spiffeid.ID) bool {
	_, found := slices.BinarySearchFunc(p.ids, id, func(a, b spiffeid.ID) int {
		return strings.Compare(a.String(), b.String())
	})
	return found
}

// Key identifies the content of the set: two sets accept the same names exactly
// when their keys are equal. It is short enough for the key of a pool.
func (p Peers) Key() string { return p.key }

// IsZero reports whether the set accepts nobody.
func (p Peers) IsZero() bool { return p.key == "" }

// String lists what is accepted, at most a handful of names, for logs and errors.
func (p Peers) String() string {
	names := p.names()
	if len(names) == 0 {
		return "nobody"
	}
	if len(names) <= namedInErrors {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:namedInErrors], ", "), len(names)-namedInErrors)
}
