package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// identities checks the sources of our own identities.
func (v *validator) identities() {
	c := v.config
	v.exclusive("", "identity", "identities")
	if c.Identity != nil {
		v.identity("identity", c.Identity)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Identities)) {
		id, path := c.Identities[name], identityPath(name)
		v.name(path, name)
		v.identity(path, &id)
	}
	v.sameAuthority()
}

// identity checks one source.
func (v *validator) identity(path string, id *Identity) {
	sources := [...]string{"spiffe", "consul", "files", "dev"}
	for i, first := range sources {
		for _, second := range sources[i+1:] {
			v.exclusive(path, first, second)
		}
	}
	switch {
	case id.SPIFFE != nil:
		v.spiffe(join(path, "spiffe"), id.SPIFFE)
	case id.Consul != nil:
		v.consulIdentity(join(path, "consul.service"), id.Consul)
	case id.Files != nil:
		v.files(join(path, "files"), id.Files)
	case id.Dev != nil:
		v.dev(join(path, "dev"), id.Dev)
	default:
		v.incomplete(path, "needs a source: spiffe, consul, files or dev")
	}
}

// needsIdentity reports the field at path where the file says nothing of our own
// identity.
func (v *validator) needsIdentity(path string) {
	c := v.config
	if c.Identity == nil && len(c.Identities) == 0 && !v.broken("identity") && !v.broken("identities") {
		v.report(path, "needs an identity of our own; add identity with spiffe, consul, files or dev")
	}
}

// ownIdentity checks which of our identities is meant at path, whose entry identity
// holds name.
func (v *validator) ownIdentity(path, name string) {
	v.needsIdentity(path)
	at, c := join(path, "identity"), v.config
	names := slices.Sorted(maps.Keys(c.Identities))
	if _, known := c.Identities[name]; known || v.broken("identity") || v.broken("identities") {
		return
	}
	switch {
	case name == "" && len(names) > 1:
		v.report(at, fmt.Sprintf("is missing, and there are several: %s", strings.Join(names, ", ")))
	case name != "" && c.Identity != nil:
		v.report(at, fmt.Sprintf("no identity is named %q: that of the file has no name; leave this out, or name it under identities", name))
	case name != "" && len(names) > 0:
		message, meant := fmt.Sprintf("no identity is named %q", name), suggest(name, names)
		if meant == "" && len(names) <= 8 {
			message += "; there are " + strings.Join(names, ", ")
		}
		v.propose(at, message, meant)
	}
}

// sameAuthority reports development identities that would make two authorities of one
// trust domain and one set of keys.
func (v *validator) sameAuthority() {
	first := map[[2]string]string{}
	for _, name := range slices.Sorted(maps.Keys(v.config.Identities)) {
		d := v.config.Identities[name].Dev
		if d == nil {
			continue
		}
		key := [2]string{d.TrustDomain, d.State}
		other, known := first[key]
		if !known {
			first[key] = name
			continue
		}
		if ttl := v.config.Identities[other].Dev.TTL; ttl != d.TTL {
			v.report(identityPath(name)+".dev.ttl", fmt.Sprintf("%s, but %s has %s from the same authority", d.TTL, identityPath(other), ttl))
		}
	}
}

// maxHint is far more than any hint needs.
const maxHint = 256

func (v *validator) spiffe(path string, s *SPIFFEIdentity) {
	v.workloadSocket(join(path, "socket"), s.Socket)
	v.exclusive(path, "id", "hint")
	v.spiffeID(join(path, "id"), s.ID)
	if len(s.Hint) > maxHint {
		v.report(join(path, "hint"), fmt.Sprintf("is longer than %d bytes", maxHint))
	}
}

// workloadSocket checks an address of the Workload API (SPIFFE Workload Endpoint
// section 4).
func (v *validator) workloadSocket(path, socket string) {
	switch {
	case socket == "":
	case strings.HasPrefix(socket, "/"):
		v.propose(path, fmt.Sprintf("%q is not a URL", socket), "unix://"+socket)
	case strings.HasPrefix(socket, "tcp://"):
		v.address(path, strings.TrimPrefix(socket, "tcp://"), false)
	case !strings.HasPrefix(socket, "unix:///"):
		v.report(path, fmt.Sprintf("%q is neither unix:///PATH nor tcp://IP:PORT", socket))
	}
}

// consulIdentity checks the name of the certificate, whose default is the workload's.
func (v *validator) consulIdentity(path string, c *ConsulIdentity) {
	if c.Service == "" {
		v.report(path, "is missing; without the one workload that uses it, it has no default")
		return
	}
	if v.given(path) {
		v.name(path, c.Service)
	}
}

func (v *validator) files(path string, f *FilesIdentity) {
	v.required(join(path, "cert"), f.Cert)
	v.required(join(path, "key"), f.Key)
	v.required(join(path, "bundle"), f.Bundle)
	for domain := range f.Bundles {
		v.trustDomain(join(join(path, "bundles"), shown(domain)), domain)
	}
}

// minTTL leaves time to rotate before a certificate expires.
const minTTL = Duration(2 * time.Second)

func (v *validator) dev(path string, d *DevIdentity) {
	v.trustDomain(join(path, "trust_domain"), d.TrustDomain)
	v.spiffeID(join(path, "id"), d.ID)
	id, err := spiffeid.FromString(d.ID)
	if err == nil && d.TrustDomain != "" && id.TrustDomain().Name() != d.TrustDomain {
		v.report(join(path, "id"), fmt.Sprintf("%q is not of the trust domain %q", d.ID, d.TrustDomain))
	}
	v.socketPath(join(path, "socket"), d.Socket)
	if d.TTL < minTTL {
		v.report(join(path, "ttl"), fmt.Sprintf("%s is less than %s", d.TTL, minTTL))
	}
}

// allow checks an allow list. Its patterns may leave out our own trust domain.
func (v *validator) allow(path string, list []IDPattern) {
	if list == nil && v.given(path) && !v.broken(path) {
		v.report(path, "has no value, which would let in all of our own trust domain; name who may call, or leave it out to mean that")
	}
	if list != nil && len(list) == 0 {
		v.report(path, "the list is empty, which would let nobody in; leave it out to let in our own trust domain")
	}
	absolute := slices.Clone(list)
	for i, p := range list {
		if p == "*" || strings.HasPrefix(string(p), "/") {
			absolute[i] = ownDomain + IDPattern("/"+strings.TrimPrefix(string(p), "/"))
		}
	}
	v.patterns(path, absolute)
}

// ownDomain stands in for the trust domain that a pattern leaves out.
const ownDomain = "spiffe://own-trust-domain"

func (v *validator) patterns(path string, list []IDPattern) {
	for i, p := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		text := string(p)
		if slices.Contains(list[:i], p) {
			v.report(at, fmt.Sprintf("%q is given twice", text))
		}
		below, all := strings.CutSuffix(text, "/*")
		if strings.Contains(below, "*") {
			v.report(at, fmt.Sprintf("%q: a * stands only at the end, as the whole last segment", text))
			continue
		}
		if !all || strings.Count(below, "/") > 2 {
			v.spiffeID(at, below)
			continue
		}
		v.trustDomainID(at, text, below)
	}
}

// trustDomainID checks what stands before the /* of a pattern for a whole trust
// domain.
func (v *validator) trustDomainID(path, text, below string) {
	if _, err := spiffeid.FromString(below); err != nil {
		v.propose(path, spiffeMessage(text, err), withScheme(text))
	}
}

// spiffeID checks a SPIFFE ID that names a workload; empty is not given.
func (v *validator) spiffeID(path, text string) {
	if text == "" {
		return
	}
	id, err := spiffeid.FromString(text)
	switch {
	case err != nil:
		v.propose(path, spiffeMessage(text, err), withScheme(text))
	case id.Path() == "":
		v.report(path, fmt.Sprintf("%q names a trust domain and no workload; add a path, or /* for all of them", text))
	}
}

func spiffeMessage(text string, err error) string {
	return fmt.Sprintf("%q is not a SPIFFE ID: %v", text, err)
}

// withScheme returns text with the scheme it lacks, or nothing.
func withScheme(text string) string {
	_, rest, ok := strings.Cut(text, "://")
	if !ok {
		rest = text
	}
	if strings.HasPrefix(text, "spiffe://") || rest == "" || rest[0] == '/' {
		return ""
	}
	if _, err := spiffeid.FromString("spiffe://" + strings.TrimSuffix(rest, "/*")); err != nil {
		return ""
	}
	return "spiffe://" + rest
}

func (v *validator) trustDomain(path, text string) {
	domain, err := spiffeid.TrustDomainFromString(text)
	switch {
	case text == "":
	case err != nil:
		v.report(path, fmt.Sprintf("%q is not a trust domain: %v", text, err))
	case domain.Name() != text:
		v.propose(path, fmt.Sprintf("%q is not the bare name of a trust domain", text), domain.Name())
	}
}
