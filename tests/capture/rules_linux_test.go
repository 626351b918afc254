package capture

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/tests/real"
)

// everything are options of which every kind of rule comes.
func everything() []string {
	return []string{"--exclude-outbound-cidrs", "10.0.0.0/8,fd00::/16,192.0.2.1,172.16.0.0/12,2001:db8::1", "--exclude-outbound-ports", "5432,8000-8010",
		"--exclude-inbound-ports", "22", "--exclude-interfaces", "docker0", "--group", "7", "--exclude-users", "0,1001",
		"--only-outbound-ports", "80,443", "--only-outbound-cidrs", "240.0.0.0/4,2001:db8::/32", "--only-inbound-ports", "8080"}
}

// listed is what the system's own programs say of our rules, less what counts or dates.
func listed(n *real.NetworkNamespace) string {
	var text string
	if slices.Contains(strings.Fields(n.MustRun("nft", "list", "tables")), "larboard") {
		text = n.MustRun("nft", "list", "table", "inet", "larboard")
	}
	for _, program := range []string{"iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save"} {
		for line := range strings.Lines(n.MustRun(program, "-t", "nat")) {
			if strings.Contains(line, "LARBOARD_") {
				text += program + " " + line
			}
		}
	}
	return regexp.MustCompile(`packets \d+ bytes \d+|\[\d+:\d+\]`).ReplaceAllString(text, "counted")
}

// load has the system's own program read what --print writes.
func load(t *testing.T, n *real.NetworkNamespace, backend string, options []string) {
	t.Helper()
	var rules struct{ Nftables, Iptables, Ip6tables string }
	printed := capture(t, n, append([]string{"--print", "--output", "json"}, options...)...)
	if err := json.Unmarshal([]byte(printed), &rules); err != nil {
		t.Fatal(err)
	}
	read := func(input string, program string, args ...string) {
		t.Helper()
		cmd := n.Command(program, args...)
		cmd.Stdin = strings.NewReader(input)
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s\nof\n%s", program, err, said, input)
		}
	}
	if backend == "nftables" {
		read(rules.Nftables, "nft", "-f", "-")
		return
	}
	kind := strings.TrimPrefix(backend, "iptables")
	if rules.Iptables != "" {
		read(rules.Iptables, "iptables"+kind+"-restore", "--noflush")
	}
	if rules.Ip6tables != "" {
		read(rules.Ip6tables, "ip6tables"+kind+"-restore", "--noflush")
	}
}

// What we tell the kernel is what its own programs make of the rules that we print. It is
// found in place, and found missing where a rule is.
func TestAppliedIsWhatIsPrinted(t *testing.T) {
	for _, backend := range backends() {
		for name, options := range map[string][]string{"usual": nil, "everything": everything(), "IPv4": {"--ipv6=false"}, "IPv6": {"--ipv4=false", "--inbound-port=0"}} {
			t.Run(backend+" "+name, func(t *testing.T) {
				ours, theirs := real.Namespace(t), real.Namespace(t)
				options := append([]string{"--backend", backend}, options...)
				capture(t, ours, options...)
				load(t, theirs, backend, options)
				if got, want := listed(ours), listed(theirs); got != want || got == "" {
					t.Errorf("applied:\n%s\nprinted:\n%s", got, want)
				}
				if said := capture(t, ours, append(options, "--check")...); !strings.Contains(said, "in place") {
					t.Errorf("check says %q", said)
				}
				if ran := larboard(ours, nil, "capture", "--check", "--backend", backend, "--exclude-outbound-ports", "7"); ran.Code != 1 || !strings.Contains(ran.Stdout, "other rules") {
					t.Errorf("check of other options: exit code %d, %s", ran.Code, ran.Stdout)
				}
			})
		}
	}
}

// Applying again does nothing, applying others replaces, whatever was there of ours, and removal leaves
// what is not ours.
func TestApplyAndRemove(t *testing.T) {
	for _, backend := range backends() {
		t.Run(backend, func(t *testing.T) {
			n := real.Namespace(t)
			foreign(n)
			before := n.MustRun("nft", "-s", "list", "ruleset") + saved(n)
			if said := capture(t, n, "--remove"); !strings.Contains(said, "no rules of ours were there") {
				t.Errorf("removing nothing says %q", said)
			}
			if ran := larboard(n, nil, "capture", "--check"); ran.Code != 1 || !strings.Contains(ran.Stdout, "could apply them (nftables)") {
				t.Errorf("check: exit code %d, %s", ran.Code, ran.Stdout)
			}
			capture(t, n, "--backend", backend)
			handles := n.MustRun("nft", "-a", "list", "ruleset")
			if said := capture(t, n, "--backend", backend); !strings.Contains(said, "nothing was changed") {
				t.Errorf("applying again says %q", said)
			}
			if after := n.MustRun("nft", "-a", "list", "ruleset"); after != handles {
				t.Errorf("applying again has changed\n%s\nto\n%s", handles, after)
			}
			for _, next := range backends() {
				capture(t, n, append(everything(), "--backend", next)...)
				fresh := real.Namespace(t)
				capture(t, fresh, append(everything(), "--backend", next)...)
				if got, want := listed(n), listed(fresh); got != want {
					t.Errorf("%s after others:\n%s\nin an empty namespace:\n%s", next, got, want)
				}
			}
			capture(t, n, "--backend", backend)
			if said := capture(t, n, "--remove"); !strings.Contains(said, "removed ("+backend+")") {
				t.Errorf("removal says %q", said)
			}
			if after := n.MustRun("nft", "-s", "list", "ruleset") + saved(n); after != before {
				t.Errorf("before:\n%s\nafter the removal:\n%s", before, after)
			}
		})
	}
}

// foreign makes rules that are not ours, of each kind and in the same places.
func foreign(n *real.NetworkNamespace) {
	n.MustRun("nft", "add table inet other; add chain inet other out { type nat hook output priority -100; }; add rule inet other out tcp dport 9 redirect to :10")
	for _, kind := range []string{"iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"} {
		n.MustRun(kind, "-t", "nat", "-N", "OTHER")
		n.MustRun(kind, "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-j", "OTHER")
		n.MustRun(kind, "-t", "nat", "-A", "OTHER", "-p", "tcp", "--dport", "9", "-j", "REDIRECT", "--to-ports", "10")
		n.MustRun(kind, "-t", "nat", "-N", "STARBOARD_INBOUND")
		n.MustRun(kind, "-t", "nat", "-A", "PREROUTING", "-j", "STARBOARD_INBOUND")
	}
}

// saved are the rules of the old kind.
func saved(n *real.NetworkNamespace) string {
	text := n.MustRun("iptables-legacy-save", "-t", "nat") + n.MustRun("ip6tables-legacy-save", "-t", "nat")
	return regexp.MustCompile(`(?m)^#.*$|\[\d+:\d+\]`).ReplaceAllString(text, "")
}

// Without the right to change rules it is said what is missing, for each thing that can be asked.
func TestWithoutTheRight(t *testing.T) {
	n := real.Namespace(t)
	less := []string{"setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"}
	for _, args := range [][]string{nil, {"--check"}, {"--remove"}, {"--backend", "iptables-nft"}, {"--backend", "iptables-legacy"}} {
		ran := larboard(n, less, append([]string{"capture"}, args...)...)
		if ran.Code != 1 || !strings.Contains(ran.Stdout+ran.Stderr, "CAP_NET_ADMIN") {
			t.Errorf("capture %q: exit code %d\n%s%s", args, ran.Code, ran.Stdout, ran.Stderr)
		}
	}
	if rules := listed(n); rules != "" {
		t.Errorf("there are rules:\n%s", rules)
	}
}

// Where IPv6 is switched off, its rules do no harm.
func TestWithoutIPv6(t *testing.T) {
	for _, backend := range backends() {
		t.Run(backend, func(t *testing.T) {
			app, other := real.Namespace(t), real.Namespace(t)
			for _, n := range []*real.NetworkNamespace{app, other} {
				n.MustRun("sysctl", "-w", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
			}
			app.Join("cable", here+"/24", other, there+"/24")
			serve4(app, "outbound", 15001)
			capture(t, app, "--backend", backend)
			if got, want := get(app, application, there+":80"), "outbound "+there+":80"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			capture(t, app, "--backend", backend, "--check")
		})
	}
}

// The check counts what was redirected.
func TestCheckCounts(t *testing.T) {
	app, _ := machines(t)
	serve(app, "outbound", 15001)
	capture(t, app)
	for range 3 {
		get(app, application, elsewhere+":80")
	}
	var checked struct {
		InPlace    bool `json:"in_place"`
		Redirected int
		Backend    string
	}
	if err := json.Unmarshal([]byte(capture(t, app, "--check", "-o", "json")), &checked); err != nil {
		t.Fatal(err)
	}
	if !checked.InPlace || checked.Redirected != 3 || checked.Backend != "nftables" {
		t.Errorf("got %+v", checked)
	}
}

// The one right is enough, which is what an init container has.
func TestWithTheOneRight(t *testing.T) {
	n := real.Namespace(t)
	for _, args := range [][]string{nil, {"--check"}, {"--remove"}} {
		ran := larboard(n, []string{"setpriv", "--bounding-set", "-all,+net_admin", "--inh-caps", "-all"}, append([]string{"capture"}, args...)...)
		if ran.Code != 0 {
			t.Errorf("capture %q: exit code %d\n%s%s", args, ran.Code, ran.Stdout, ran.Stderr)
		}
	}
}
