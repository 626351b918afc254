package capture

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

// all are options of which every kind of rule comes.
func all() Options {
	return Options{
		OutboundPort: 15001, InboundPort: 15006, IPv4: true, IPv6: true,
		Users: []uint32{1337, 0}, Groups: []uint32{7},
		ProxyPorts:        []Ports{{9901, 9901}, {20000, 20001}},
		OnlyOutbound:      []Ports{{80, 80}, {8000, 8010}},
		OnlyInbound:       []Ports{{8080, 8080}},
		OnlyOutboundTo:    []netip.Prefix{netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("2001:db8::/32")},
		ExcludeOutbound:   []Ports{{5432, 5432}, {5433, 5440}},
		ExcludeInbound:    []Ports{{22, 22}},
		ExcludeOutboundTo: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("172.16.0.0/12")},
		ExcludeInterfaces: []string{"docker0"},
	}
}

func TestPlans(t *testing.T) {
	usual := Options{OutboundPort: 15001, InboundPort: 15006, Users: []uint32{1337}, IPv4: true, IPv6: true,
		ProxyPorts: []Ports{{9901, 9901}, {15021, 15021}, {20000, 20000}}}
	outbound := usual
	outbound.InboundPort, outbound.IPv6 = 0, false
	outbound.OnlyOutboundTo = []netip.Prefix{netip.MustParsePrefix("240.0.0.0/4")}
	inbound := usual
	inbound.OutboundPort, inbound.Users, inbound.IPv4 = 0, nil, false
	for name, o := range map[string]Options{"usual": usual, "outbound": outbound, "inbound": inbound, "all": all()} {
		t.Run(name, func(t *testing.T) {
			p, err := Build(o)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+".nft", p.Nftables())
			if p.IPv4 {
				golden(t, name+".iptables", p.Iptables(false))
			}
			if p.IPv6 {
				golden(t, name+".ip6tables", p.Iptables(true))
			}
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is otherwise (-update writes it); got\n%s", file, got)
	}
}

func TestContradictions(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"no ports", func(o *Options) { o.InboundPort, o.OutboundPort = 0, 0 }, "nothing would be redirected"},
		{"one port", func(o *Options) { o.InboundPort = o.OutboundPort }, "both 15001"},
		{"no family", func(o *Options) { o.IPv4, o.IPv6 = false, false }, "neither IPv4 nor IPv6"},
		{"no user", func(o *Options) { o.Users, o.Groups = nil, nil }, "come back to it for ever"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := all()
			c.change(&o)
			if _, err := Build(o); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
}

// Whatever is in a kernel, one replacement leads to the plan and one to nothing, and both say so.
func TestReplacement(t *testing.T) {
	p, err := Build(all())
	if err != nil {
		t.Fatal(err)
	}
	wanted := p.state(false)
	saved := "# a comment\n*nat\n:PREROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n:LARBOARD_OLD - [0:0]\n:LARBOARD_INBOUND - [3:180]\n" +
		"-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n-A PREROUTING -p tcp -j LARBOARD_INBOUND\n-A OUTPUT -j LARBOARD_OLD\n" +
		"-A LARBOARD_OLD -p tcp -j REDIRECT --to-ports 1\nCOMMIT\n"
	there := parseState(saved)
	golden(t, "replace.iptables", wanted.replace(there))
	golden(t, "remove.iptables", (&state{}).replace(there))
	if there.empty() || !(&state{}).empty() {
		t.Error("empty is wrong")
	}
	if d := there.differs(wanted); len(d) < 10 || !strings.Contains(strings.Join(d, "\n"), "not planned: chain LARBOARD_OLD") {
		t.Errorf("differences %q", d)
	}
	if d := wanted.differs(wanted); len(d) != 0 {
		t.Errorf("a plan differs from itself by %q", d)
	}
	swapped := p.state(false)
	rules := swapped.rules["LARBOARD_OUTBOUND"]
	rules[0], rules[1] = rules[1], rules[0]
	if d := swapped.differs(wanted); len(d) != 1 || !strings.Contains(d[0], "another order") {
		t.Errorf("differences %q", d)
	}
}
