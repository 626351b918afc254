package capture

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/tests/real"
)

// inside is the runner of a namespace. Programs that fail says so of are not run.
func inside(n *real.NetworkNamespace, fail func(program string, args []string) error) runner {
	return func(input, program string, args ...string) (string, error) {
		if err := fail(program, args); err != nil {
			return "", err
		}
		var stderr strings.Builder
		cmd := n.Command(program, args...)
		cmd.Stdin, cmd.Stderr = strings.NewReader(input), &stderr
		out, err := cmd.Output()
		if err != nil {
			err = said(program, stderr.String(), err)
		}
		return string(out), err
	}
}

func build(t *testing.T, o Options) *Plan {
	t.Helper()
	p, err := Build(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Where the kernel takes a part of the rules and refuses another, it keeps the old ones.
func TestRefusedRulesChangeNothing(t *testing.T) {
	n := real.Namespace(t)
	old := build(t, Options{OutboundPort: 15001, Users: []uint32{1337}, IPv4: true, IPv6: true})
	refused := build(t, all())
	last := &refused.Chains[len(refused.Chains)-1]
	last.add(Rule{Goto: "nowhere"})
	noop := func(string, []string) error { return nil }
	for _, b := range []firewall{nft{}, iptables{kindNft, kindNft, inside(n, noop)}, iptables{kindLegacy, kindLegacy, inside(n, noop)}} {
		t.Run(b.name(), func(t *testing.T) {
			err := n.Do(func() error {
				if err := b.apply(old); err != nil {
					return err
				}
				// The newer iptables' own --test asks the kernel nothing.
				if err := b.try(refused); err == nil && b.name() != FirewallIptables+kindNft {
					return errors.New("a rule that leads nowhere is found possible")
				}
				if err := b.apply(refused); err == nil {
					return errors.New("the kernel has taken a rule that leads nowhere")
				}
				if there, differences, err := b.look(old); !there || len(differences) > 0 || err != nil {
					return errors.New("the old rules are not there: " + strings.Join(differences, "; "))
				}
				_, err := b.remove()
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// Where IPv6 fails after IPv4 was done, IPv4 gets back what it had: other rules, or none.
func TestHalfIsUndone(t *testing.T) {
	for _, kind := range []string{kindNft, kindLegacy} {
		for _, before := range []*Plan{nil, build(t, Options{InboundPort: 7, IPv4: true, IPv6: true})} {
			n := real.Namespace(t)
			broken := errors.New("broken")
			failing := false
			i := iptables{kind, kind, inside(n, func(program string, args []string) error {
				if failing && strings.HasPrefix(program, "ip6tables") && strings.HasSuffix(program, "-restore") {
					return broken
				}
				return nil
			})}
			if before != nil {
				if err := i.apply(before); err != nil {
					t.Fatal(err)
				}
			}
			failing = true
			if err := i.apply(build(t, all())); !errors.Is(err, broken) {
				t.Errorf("%s: apply says %v", kind, err)
			}
			have, err := i.read(false)
			if err != nil {
				t.Fatal(err)
			}
			want := &state{}
			if before != nil {
				want = before.state(false)
			}
			if d := have.differs(want); len(d) > 0 {
				t.Errorf("%s: %q", kind, d)
			}
		}
	}
}

// A machine whose kernel has no nf_tables gets iptables, and hears of both where it has neither. Other
// failures end the search: another way would meet them, too.
func TestChoice(t *testing.T) {
	p := build(t, all())
	missing := func(string, string, ...string) (string, error) { return "", ErrKernel }
	k := &Kernel{FirewallIptables + kindLegacy, missing}
	if c := k.Check(p); c.Possible || c.InPlace || !strings.Contains(c.Problem, ErrKernel.Error()) {
		t.Errorf("check says %+v", c)
	}
	if _, err := k.Apply(p); !errors.Is(err, ErrKernel) {
		t.Errorf("apply says %v", err)
	}
	for _, c := range []struct{ said, want string }{
		{"iptables-restore v1.8.9 (legacy): iptables-restore: unable to initialize table 'nat'\n\nError occurred at line: 1", "unable to initialize table"},
		{"modprobe: FATAL: can't initialize ip6tables table `nat': Table does not exist (do you need to insmod?)", ErrKernel.Error()},
		{"iptables v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root)", ErrPrivilege.Error()},
		{"", "exit status 1"},
	} {
		if err := said("iptables-restore", c.said, errors.New("exit status 1")); !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q becomes %q", c.said, err)
		}
	}
	if _, err := NewKernel(context.Background(), "pf"); err == nil || !strings.Contains(err.Error(), "auto, nftables, iptables") {
		t.Errorf("got %v", err)
	}
	if _, err := command(t.Context())("", "no-such-program"); !errors.Is(err, ErrKernel) || errors.Is(err, exec.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}
