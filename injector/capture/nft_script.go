package capture

import (
	"fmt"
	"strings"
)

// Table is the name of our table of nftables, of family inet. Nothing outside it is changed.
const Table = "larboard"

// priority is that of our chains: just before the others that change destinations (-100), such as
// Docker's and kube-proxy's, since the first one to do so wins, and the proxy wants the destination
// that was meant.
const priority = -101

// Nftables writes the plan as a script for `nft -f`, which replaces what is ours in one step. It
// is what Apply tells the kernel without that program.
func (p *Plan) Nftables() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s\ndelete table inet %s\ntable inet %s {\n", Table, Table, Table)
	for i, c := range p.Chains {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "\tchain %s {\n", c.Name)
		if c.Hook != "" {
			fmt.Fprintf(&b, "\t\ttype nat hook %s priority %d; policy accept;\n", c.Hook, priority)
			for _, line := range p.nftGate() {
				fmt.Fprintf(&b, "\t\t%s\n", line)
			}
		}
		for _, r := range c.Rules {
			fmt.Fprintf(&b, "\t\t%s\n", r.nft(c.Hook))
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// nftGate lets only first packets of TCP connections on, of the families wanted.
func (p *Plan) nftGate() (lines []string) {
	if !p.IPv4 {
		lines = append(lines, "meta nfproto ipv4 return")
	}
	if !p.IPv6 {
		lines = append(lines, "meta nfproto ipv6 return")
	}
	return append(lines, "meta l4proto != tcp return", "tcp flags & (fin | syn | rst | ack) != syn return")
}

func (r *Rule) nft(hook Hook) string {
	var words []string
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	if r.Interface != "" {
		add("%s %q", map[Hook]string{Prerouting: "iifname", Output: "oifname"}[hook], r.Interface)
	}
	switch r.Destination {
	case Local:
		add("fib daddr type local")
	case Remote:
		add("fib daddr type != local")
	}
	if r.User != nil {
		add("meta skuid %d", *r.User)
	}
	if r.Group != nil {
		add("meta skgid %d", *r.Group)
	}
	if r.To.IsValid() {
		add("%s daddr %s", map[bool]string{true: "ip", false: "ip6"}[r.To.Addr().Is4()], r.To)
	}
	switch {
	case r.Ports != Ports{}:
		add("tcp dport %s", r.Ports)
	case r.Redirect != 0:
		add("meta l4proto tcp") // the port that it is redirected to is one of TCP
	}
	switch {
	case r.Redirect != 0:
		add("counter redirect to :%d", r.Redirect)
	case r.Goto != "":
		add("goto %s", r.Goto)
	default:
		add("return")
	}
	if r.Why != "" {
		add("comment %q", r.Why)
	}
	return strings.Join(words, " ")
}
