package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// identity checks the source of our own identity.
func (v *validator) identity() {
	id := v.config.Identity
	if id == nil {
		return
	}
	v.exclusive("identity", "spiffe", "files")
	v.exclusive("identity", "spiffe", "dev")
	v.exclusive("identity", "files", "dev")
	switch {
	case id.SPIFFE != nil:
		v.workloadSocket("identity.spiffe.socket", id.SPIFFE.Socket)
	case id.Files != nil:
		v.files(id.Files)
	case id.Dev != nil:
		v.dev(id.Dev)
	default:
		v.incomplete("identity", "needs a source: spiffe, files or dev")
	}
}

// needsIdentity reports the field at path where the file says nothing of our own
// identity.
func (v *validator) needsIdentity(path string) {
	if v.config.Identity == nil && !v.broken("identity") {
		v.report(path, "needs an identity of our own; add identity with spiffe, files or dev")
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

func (v *validator) files(f *FilesIdentity) {
	v.required("identity.files.cert", f.Cert)
	v.required("identity.files.key", f.Key)
	v.required("identity.files.bundle", f.Bundle)
	for domain := range f.Bundles {
		v.trustDomain(join("identity.files.bundles", shown(domain)), domain)
	}
}

// minTTL leaves time to rotate before a certificate expires.
const minTTL = Duration(2 * time.Second)

func (v *validator) dev(d *DevIdentity) {
	v.trustDomain("identity.dev.trust_domain", d.TrustDomain)
	v.spiffeID("identity.dev.id", d.ID)
	id, err := spiffeid.FromString(d.ID)
	if err == nil && d.TrustDomain != "" && id.TrustDomain().Name() != d.TrustDomain {
		v.report("identity.dev.id", fmt.Sprintf("%q is not of the trust domain %q", d.ID, d.TrustDomain))
	}
	v.socketPath("identity.dev.socket", d.Socket)
	if d.TTL < minTTL {
		v.report("identity.dev.ttl", fmt.Sprintf("%s is less than %s", d.TTL, minTTL))
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
