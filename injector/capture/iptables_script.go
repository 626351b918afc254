package capture

import (
	"fmt"
	"slices"
	"strings"
)

// ourChains is how the names of our chains in iptables' table nat begin. Nothing but them and the
// jumps to them is changed.
const ourChains = "LARBOARD_"

// firstPacket is of a TCP connection.
const firstPacket = "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN"

// Iptables writes the plan as input of `iptables-restore --noflush`, or with ipv6 of
// ip6tables-restore, for a kernel that has nothing of ours yet.
func (p *Plan) Iptables(ipv6 bool) string { return p.state(ipv6).replace(&state{}) }

// state is what is ours in table nat of one family: what iptables-save says of it, line by line.
type state struct {
	chains []string            // names
	rules  map[string][]string // of each chain, without "-A CHAIN "
	jumps  []string            // "PREROUTING -p tcp ... -j LARBOARD_INBOUND"
}

// state is what the plan comes to. Rules are written as iptables-save does.
func (p *Plan) state(ipv6 bool) *state {
	s := &state{rules: map[string][]string{}}
	for _, c := range p.Chains {
		name := ourChains + strings.ToUpper(c.Name)
		s.chains = append(s.chains, name)
		if c.Hook != "" {
			s.jumps = append(s.jumps, fmt.Sprintf("%s %s -j %s", strings.ToUpper(string(c.Hook)), firstPacket, name))
		}
		for _, r := range c.Rules {
			if !r.To.IsValid() || r.To.Addr().Is4() != ipv6 {
				s.rules[name] = append(s.rules[name], r.iptables(c.Hook))
			}
		}
	}
	return s
}

func (r *Rule) iptables(hook Hook) string {
	var words []string
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	if r.To.IsValid() {
		add("-d %s", r.To)
	}
	if r.Interface != "" {
		add("%s %s", map[Hook]string{Prerouting: "-i", Output: "-o"}[hook], r.Interface)
	}
	if r.Ports != (Ports{}) || r.Redirect != 0 {
		add("-p tcp")
	}
	switch r.Destination {
	case Local:
		add("-m addrtype --dst-type LOCAL")
	case Remote:
		add("-m addrtype ! --dst-type LOCAL")
	}
	if r.User != nil {
		add("-m owner --uid-owner %d", *r.User)
	}
	if r.Group != nil {
		add("-m owner --gid-owner %d", *r.Group)
	}
	if r.Ports != (Ports{}) {
		add("-m tcp --dport %s", strings.Replace(r.Ports.String(), "-", ":", 1))
	}
	switch {
	case r.Redirect != 0:
		add("-j REDIRECT --to-ports %d", r.Redirect)
	case r.Goto != "":
		add("-g %s%s", ourChains, strings.ToUpper(r.Goto))
	default:
		add("-j RETURN")
	}
	return strings.Join(words, " ")
}

// parseState reads what iptables-save has written of table nat.
func parseState(saved string) *state {
	s := &state{rules: map[string][]string{}}
	for line := range strings.Lines(saved) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, ":"+ourChains); ok {
			name, _, _ = strings.Cut(name, " ")
			s.chains = append(s.chains, ourChains+name)
			continue
		}
		rule, ok := strings.CutPrefix(line, "-A ")
		if !ok {
			continue
		}
		chain, spec, _ := strings.Cut(rule, " ")
		switch {
		case strings.HasPrefix(chain, ourChains):
			s.rules[chain] = append(s.rules[chain], spec)
		case strings.Contains(rule, " -j "+ourChains) || strings.Contains(rule, " -g "+ourChains):
			s.jumps = append(s.jumps, rule)
		}
	}
	return s
}

// empty reports whether nothing is ours.
func (s *state) empty() bool { return len(s.chains) == 0 && len(s.jumps) == 0 }

// replace is the input of iptables-restore --noflush that makes s of what is there, in one step.
func (s *state) replace(there *state) string {
	var b strings.Builder
	b.WriteString("*nat\n")
	for _, jump := range there.jumps {
		fmt.Fprintf(&b, "-D %s\n", jump)
	}
	gone := slices.DeleteFunc(slices.Clone(there.chains), func(name string) bool { return slices.Contains(s.chains, name) })
	for _, name := range append(slices.Clone(s.chains), gone...) {
		fmt.Fprintf(&b, ":%s - [0:0]\n", name) // made, or emptied
	}
	for _, name := range s.chains {
		for _, rule := range s.rules[name] {
			fmt.Fprintf(&b, "-A %s %s\n", name, rule)
		}
	}
	for _, jump := range s.jumps {
		chain, spec, _ := strings.Cut(jump, " ")
		fmt.Fprintf(&b, "-I %s 1 %s\n", chain, spec)
	}
	for _, name := range gone {
		fmt.Fprintf(&b, "-X %s\n", name)
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

// differs lists what has to change for s to be what is wanted, for people; empty: nothing.
func (s *state) differs(wanted *state) (all []string) {
	missing := func(have, want []string, format string) {
		for _, x := range want {
			if !slices.Contains(have, x) {
				all = append(all, fmt.Sprintf(format, x))
			}
		}
	}
	missing(s.jumps, wanted.jumps, "missing: -A %s")
	missing(wanted.jumps, s.jumps, "not planned: -A %s")
	missing(wanted.chains, s.chains, "not planned: chain %s")
	for _, name := range wanted.chains {
		have, want := s.rules[name], wanted.rules[name]
		missing(have, want, "missing: -A "+name+" %s")
		missing(want, have, "not planned: -A "+name+" %s")
		if len(all) == 0 && !slices.Equal(have, want) {
			all = append(all, "chain "+name+" has its rules in another order")
		}
	}
	if len(all) == 0 && len(s.jumps) != len(wanted.jumps) {
		all = append(all, "there are jumps to our chains twice")
	}
	return all
}
