package authz

import (
	"errors"
	"fmt"
	"strings"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// AllowList names who may call. It is immutable, and safe for use by all loops.
type AllowList struct {
	own   spiffeid.TrustDomain
	exact map[spiffeid.ID]string
	below []pattern // in the order of the configuration

	// Texts of the default rules, made once: Allow allocates nothing.
	everyMember, notNamed, foreign string
}

// pattern is everything below a path in one trust domain.
type pattern struct {
	domain spiffeid.TrustDomain
	prefix string // ends with a slash
	text   string // as configured
}

// Compile reads the patterns of workload.allow:
//
//	spiffe://example.org/web      exactly this one
//	spiffe://example.org/ns/a/*   every ID below this path
//	spiffe://example.org/*        every member of this trust domain
//	/web, /ns/a/*, *              the same inside our own trust domain
//
// A star stands only at the end, for one or more whole segments, so that a
// foreign trust domain is always named. No pattern at all allows every member of
// our own trust domain. Every bad pattern is reported (errors.Join).
func Compile(allow []string, own spiffeid.TrustDomain) (*AllowList, error) {
	if own.IsZero() {
		return nil, errors.New("authz: our own trust domain is not known")
	}
	l := &AllowList{
		own:      own,
		exact:    map[spiffeid.ID]string{},
		notNamed: "default deny: no pattern names the caller",
		foreign:  "default deny: foreign trust domain",
	}
	if len(allow) == 0 {
		l.everyMember = "default: every member of " + own.Name()
	}
	var problems []error
	for _, text := range allow {
		if err := l.add(text); err != nil {
			problems = append(problems, fmt.Errorf("authz: pattern %q: %w", text, err))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *AllowList) add(text string) error {
	full := text
	switch {
	case text == "*":
		full = l.own.IDString() + "/*"
	case strings.HasPrefix(text, "/"):
		full = l.own.IDString() + text
	}
	base, star := strings.CutSuffix(full, "/*")
	id, err := spiffeid.FromString(base)
	switch {
	case err != nil && strings.Contains(base, "*"):
		return errors.New("a star stands only for whole segments at the end, as in /ns/a/*")
	case err != nil:
		return err
	case star:
		l.below = append(l.below, pattern{domain: id.TrustDomain(), prefix: id.Path() + "/", text: text})
	case id.Path() == "":
		return errors.New("names a trust domain, not a member; end it with /* to mean them all")
	default:
		if _, ok := l.exact[id]; !ok {
			l.exact[id] = text
		}
	}
	return nil
}

// Allow decides on a caller whose identity has been verified; the zero ID (nobody)
// is denied, and so is a trust domain's own ID, which no workload may carry
// (X509-SVID section 2). An exact pattern is named before a wider one. Called on a loop; it
// neither blocks nor allocates.
func (l *AllowList) Allow(id spiffeid.ID) Verdict {
	if id.IsZero() {
		return deny(policy.TLSNoID, "default deny: no identity")
	}
	if rule, ok := l.exact[id]; ok {
		return allow(id, rule)
	}
	domain, path := id.TrustDomain(), id.Path()
	if path == "" {
		return deny(policy.TLSNoID, "default deny: the ID is that of a trust domain, not of a member")
	}
	for i := range l.below {
		p := &l.below[i]
		if p.domain == domain && len(path) > len(p.prefix) && strings.HasPrefix(path, p.prefix) {
			return allow(id, p.text)
		}
	}
	switch {
	case domain != l.own:
		return deny(policy.NotAllowed, l.foreign)
	case l.everyMember == "":
		return deny(policy.NotAllowed, l.notNamed)
	}
	return allow(id, l.everyMember)
}

func allow(id spiffeid.ID, rule string) Verdict {
	return Verdict{permit: Permit{id: id, rule: rule}, rule: rule}
}
