package dns

import (
	"fmt"
	"math"
	"strings"

	"github.com/miekg/dns"
)

// maxChain bounds the aliases (CNAME) followed for one name.
const maxChain = 8

// reply is what one answer says about a name and a type.
type reply struct {
	// name is the last of the chain of aliases.
	name    string
	records []dns.RR
	// why there is no record; empty: there are some, or none is known yet: ask for name.
	why string
	// ttl in seconds: the shortest of the records used or, without any, that of the
	// negative answer (RFC 2308 section 5).
	ttl uint32
}

// interpret reads m as the answer about a name. An error means that the resolver
// could not tell.
func interpret(m *dns.Msg, name string, kind uint16) (reply, error) {
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return reply{}, fmt.Errorf("answered %s", rcode(m.Rcode))
	}
	r := reply{name: name, ttl: math.MaxUint32}
	for range maxChain + 1 {
		alias := r.collect(m.Answer, kind)
		if len(r.records) > 0 {
			return r, nil
		}
		if alias == "" {
			r.negative(m, kind, name)
			return r, nil
		}
		r.name = alias
	}
	return reply{}, fmt.Errorf("more than %d aliases", maxChain)
}

// collect takes the records of r.name and returns its alias, where it has one.
func (r *reply) collect(list []dns.RR, kind uint16) (alias string) {
	for _, rr := range list {
		h := rr.Header()
		if h.Class != dns.ClassINET || !strings.EqualFold(h.Name, r.name) {
			continue
		}
		if h.Rrtype == kind {
			r.records = append(r.records, rr)
			r.ttl = min(r.ttl, h.Ttl)
		} else if c, ok := rr.(*dns.CNAME); ok && c.Target != "" {
			alias = c.Target
			r.ttl = min(r.ttl, h.Ttl)
		}
	}
	return alias
}

// negative explains an answer without a record. One that ends in an alias and says
// nothing about it leaves that to another query.
func (r *reply) negative(m *dns.Msg, kind uint16, asked string) {
	var soa *dns.SOA
	for _, rr := range m.Ns {
		if s, ok := rr.(*dns.SOA); ok {
			soa = s
		}
	}
	switch {
	case m.Rcode == dns.RcodeNameError:
		r.why = fmt.Sprintf("%s does not exist (NXDOMAIN)", r.name)
	case soa == nil && !strings.EqualFold(r.name, asked):
		return
	default:
		r.why = fmt.Sprintf("%s has no %s record", r.name, dns.TypeToString[kind])
	}
	ttl := uint32(0)
	if soa != nil {
		ttl = min(soa.Hdr.Ttl, soa.Minttl)
	}
	r.ttl = min(r.ttl, ttl)
}

func rcode(code int) string {
	if text, ok := dns.RcodeToString[code]; ok {
		return text
	}
	return fmt.Sprintf("code %d", code)
}
