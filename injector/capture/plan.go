package capture

import (
	"errors"
	"fmt"
	"net/netip"
)

// Plan is what the kernel is to do, whichever way it is told. All its rules are about the first
// packet of a TCP connection: nothing else is redirected, and connections that exist are not touched, nor
// are their answers.
type Plan struct {
	IPv4, IPv6 bool
	Chains     []Chain
}

// Chain is a list of rules, of which the first that holds and does something counts.
type Chain struct {
	// Name is in lower case, with underscores: what a rule of kind Goto names.
	Name string
	// Hook is where connections come to it; empty: by Goto alone.
	Hook  Hook
	Rules []Rule
}

// Hook is a place in the kernel that every packet passes.
type Hook string

// Where packets come from outside, and where processes of this machine send them.
const (
	Prerouting Hook = "prerouting"
	Output     Hook = "output"
)

// Rule holds where all that it names holds; the zero value of a field asks nothing.
type Rule struct {
	// Why is for people who read the rules.
	Why string
	// Interface of arrival in Prerouting, of departure in Output.
	Interface string
	// Destination is an address of this machine (Local), or is not (Remote).
	Destination Destination
	// User and Group are those of the process that connects; in Output alone.
	User, Group *uint32
	To          netip.Prefix
	Ports       Ports
	// Redirect is the port that gets the connection, Goto the chain whose rules follow. Neither: it
	// passes.
	Redirect uint16
	Goto     string
}

// Destination is a kind of address.
type Destination int

// The kinds of destinations.
const (
	Anywhere Destination = iota
	Local
	Remote
)

// Build makes the plan. It is pure. An error says which options contradict each other.
func Build(o Options) (*Plan, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	p := &Plan{IPv4: o.IPv4, IPv6: o.IPv6}
	if o.InboundPort != 0 {
		p.Chains = append(p.Chains, o.inbound())
	}
	if o.OutboundPort != 0 {
		p.Chains = append(p.Chains, o.outbound()...)
	}
	return p, nil
}

func (o *Options) check() error {
	switch {
	case o.InboundPort == 0 && o.OutboundPort == 0:
		return errors.New("neither an inbound nor an outbound port: nothing would be redirected")
	case o.InboundPort == o.OutboundPort:
		return fmt.Errorf("inbound and outbound port are both %d; the proxy tells the directions apart by them", o.InboundPort)
	case !o.IPv4 && !o.IPv6:
		return errors.New("neither IPv4 nor IPv6: nothing would be redirected")
	case o.OutboundPort != 0 && len(o.Users) == 0 && len(o.Groups) == 0:
		return errors.New("no user or group id of the proxy: its own connections would come back to it for ever")
	}
	return nil
}

// inbound is for what comes from elsewhere for this machine. What it only passes on, as for
// containers behind a bridge, is not the workload's.
func (o *Options) inbound() Chain {
	c := Chain{Name: "inbound", Hook: Prerouting}
	c.add(Rule{Why: "from this machine", Interface: "lo"})
	c.add(Rule{Why: "only passed on", Destination: Remote})
	for _, name := range o.ExcludeInterfaces {
		c.add(Rule{Why: "excluded interface", Interface: name})
	}
	own := append([]Ports{{o.InboundPort, o.InboundPort}}, o.ProxyPorts...)
	if o.OutboundPort != 0 {
		own = append(own, Ports{o.OutboundPort, o.OutboundPort})
	}
	c.ports("the proxy's own", merge(own), Rule{})
	c.ports("excluded port", merge(o.ExcludeInbound), Rule{})
	c.only(o.OnlyInbound, Rule{Redirect: o.InboundPort})
	return c
}

// outbound is for what processes begin here. What they begin with this machine itself is theirs.
func (o *Options) outbound() []Chain {
	c := Chain{Name: "outbound", Hook: Output}
	for _, id := range o.Users {
		c.add(Rule{Why: "the proxy, or excluded user", User: &id})
	}
	for _, id := range o.Groups {
		c.add(Rule{Why: "the proxy, or excluded group", Group: &id})
	}
	c.add(Rule{Why: "to this machine", Destination: Local})
	// Of such an address the kernel does not keep which interface it was meant for.
	c.add(Rule{Why: "of one link only", To: netip.MustParsePrefix("fe80::/10")})
	for _, name := range o.ExcludeInterfaces {
		c.add(Rule{Why: "excluded interface", Interface: name})
	}
	c.ports("DNS", []Ports{{53, 53}}, Rule{})
	c.ports("excluded port", merge(o.ExcludeOutbound), Rule{})
	for _, to := range o.ExcludeOutboundTo {
		c.add(Rule{Why: "excluded address", To: to})
	}
	redirect := Rule{Redirect: o.OutboundPort}
	if len(o.OnlyOutboundTo) == 0 {
		c.only(o.OnlyOutbound, redirect)
		return []Chain{c}
	}
	to := Chain{Name: "outbound_to"}
	if len(o.OnlyOutbound) > 0 {
		c.only(o.OnlyOutbound, Rule{Goto: to.Name})
	}
	for _, prefix := range o.OnlyOutboundTo {
		to.add(Rule{To: prefix, Redirect: o.OutboundPort})
	}
	if len(o.OnlyOutbound) > 0 {
		return []Chain{to, c}
	}
	c.Rules = append(c.Rules, to.Rules...)
	return []Chain{c}
}

func (c *Chain) add(r Rule) { c.Rules = append(c.Rules, r) }

// ports adds a rule for each range.
func (c *Chain) ports(why string, ranges []Ports, r Rule) {
	for _, ports := range ranges {
		r.Why, r.Ports = why, ports
		c.add(r)
	}
}

// only adds a rule for each range, or one for everything where there are none.
func (c *Chain) only(ranges []Ports, r Rule) {
	if len(ranges) == 0 {
		c.add(r)
		return
	}
	c.ports("", merge(ranges), r)
}
