package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// The firewalls by which the kernel is told (--backend). Auto is nftables where the kernel answers it, else iptables.
const (
	FirewallAuto     = "auto"
	FirewallNftables = "nftables"
	FirewallIptables = "iptables"
)

// Firewalls are all that may be asked for: of iptables, what the system calls by that name or one of
// its two kinds.
func Firewalls() []string {
	return []string{FirewallAuto, FirewallNftables, FirewallIptables, FirewallIptables + kindNft, FirewallIptables + kindLegacy}
}

// ErrPrivilege is the answer to those who may not change rules.
var ErrPrivilege = errors.New("no right to read or change the kernel's rules here: it takes CAP_NET_ADMIN (on a host root; " +
	"in Kubernetes an init container with securityContext.capabilities.add: [NET_ADMIN] and user 0)")

// ErrKernel is the answer where the kernel, or a program, is missing something.
var ErrKernel = errors.New("not available here")

// firewall is one way to tell the kernel.
type firewall interface {
	name() string
	// try returns what would fail, and changes nothing.
	try(*Plan) error
	// apply replaces what is ours, or changes nothing.
	apply(*Plan) error
	// remove takes away what is ours and reports whether there was something.
	remove() (bool, error)
	// look reports whether something of ours is there, and how it differs from the plan.
	look(*Plan) (there bool, differences []string, err error)
}

// Kernel is that of the network namespace in which we run. Its methods block while programs run and
// while others change rules.
type Kernel struct {
	asked string
	run   runner
}

// NewKernel returns the kernel by one of Firewalls. Programs end with ctx.
func NewKernel(ctx context.Context, firewall string) (*Kernel, error) {
	if !slices.Contains(Firewalls(), firewall) {
		return nil, fmt.Errorf("%q is no backend; there are %s", firewall, strings.Join(Firewalls(), ", "))
	}
	return &Kernel{firewall, command(ctx)}, nil
}

// candidates are the firewalls in the order in which they are tried.
func (k *Kernel) candidates() []firewall {
	switch k.asked {
	case FirewallAuto:
		// Where the kernel has no nf_tables, iptables' kind that stands on it has none either.
		return []firewall{nft{}, newIptables(kindLegacy, k.run), newIptables(kindNft, k.run)}
	case FirewallNftables:
		return []firewall{nft{}}
	}
	return []firewall{newIptables(strings.TrimPrefix(k.asked, FirewallIptables), k.run)}
}

// choose returns the first one that can do the plan.
func (k *Kernel) choose(p *Plan) (firewall, error) {
	var failed error
	for _, b := range k.candidates() {
		err := b.try(p)
		if err == nil {
			return b, nil
		}
		if failed = errors.Join(failed, err); !errors.Is(err, ErrKernel) {
			break // another way leads to the same answer
		}
	}
	return nil, failed
}

// Applied is what came of Apply or Remove.
type Applied struct {
	// Firewall that was used; of Remove, those that had something of ours, with commas between.
	Firewall string `json:"backend"`
	Action   string `json:"action"`
	// IPv6 is false where the plan has it and the kernel has not.
	IPv6 bool `json:"ipv6"`
}

// The actions.
const (
	ActionApplied   = "applied"
	ActionUnchanged = "unchanged" // everything was as planned
	ActionRemoved   = "removed"
	ActionNothing   = "nothing to remove"
)

// Apply makes the kernel's rules what the plan says, in one step: it has the old ones or the new
// ones. What another firewall has of ours is removed afterwards, for connections are not to be
// redirected twice.
func (k *Kernel) Apply(p *Plan) (Applied, error) {
	b, err := k.choose(p)
	if err != nil {
		return Applied{}, err
	}
	a := Applied{Firewall: b.name(), Action: ActionUnchanged, IPv6: p.IPv6 && kernelHasIPv6()}
	there, differences, err := b.look(p)
	if err != nil {
		return Applied{}, err
	}
	if !there || len(differences) > 0 {
		if err := b.apply(p); err != nil {
			return Applied{}, err
		}
		a.Action = ActionApplied
	}
	_, err = k.removeAll(b.name())
	return a, err
}

// Remove takes away what is ours, in whatever firewall it is.
func (k *Kernel) Remove() (Applied, error) {
	removed, err := k.removeAll("")
	a := Applied{Firewall: strings.Join(removed, ","), Action: ActionNothing}
	if len(removed) > 0 {
		a.Action = ActionRemoved
	}
	return a, err
}

// removeAll removes everywhere but from one firewall. Those that are not there have nothing.
func (k *Kernel) removeAll(but string) (removed []string, err error) {
	for _, b := range k.holders() {
		if b.name() == but {
			continue
		}
		did, failed := b.remove()
		if did {
			removed = append(removed, b.name())
		}
		if failed != nil && !errors.Is(failed, ErrKernel) {
			err = errors.Join(err, failed)
		}
	}
	return removed, err
}

// holders are the firewalls that could have something of ours. Asking the old kind of iptables
// makes its tables where there are none, so it is asked only where they are.
func (k *Kernel) holders() []firewall {
	all := []firewall{nft{}, newIptables(kindNft, k.run)}
	for _, list := range []string{"/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"} {
		if names, err := os.ReadFile(list); err == nil && strings.Contains(string(names), "nat") {
			return append(all, newIptables(kindLegacy, k.run))
		}
	}
	return all
}

// Checked is what Check has found.
type Checked struct {
	// Firewall that has our rules, or that would be used.
	Firewall string `json:"backend,omitempty"`
	// InPlace: the kernel has what the plan says, and nothing else of ours.
	InPlace bool `json:"in_place"`
	// Possible: this machine could apply the plan now. Otherwise Problem says why not.
	Possible bool   `json:"possible"`
	Problem  string `json:"problem,omitempty"`
	// Differences are between the kernel and the plan; none and not in place: nothing of ours is there.
	Differences []string `json:"differences,omitempty"`
	// Redirected counts the connections since the rules were applied; nftables only.
	Redirected uint64 `json:"redirected,omitempty"`
}

// Check compares the kernel with the plan, and says whether it could be applied. It changes nothing.
func (k *Kernel) Check(p *Plan) Checked {
	b, err := k.choose(p)
	if err != nil {
		return Checked{Problem: err.Error()}
	}
	for _, other := range k.candidates() {
		if there, _, err := other.look(p); err == nil && there {
			b = other // which has our rules, whatever would be chosen today
			break
		}
	}
	c := Checked{Firewall: b.name(), Possible: true}
	there, differences, err := b.look(p)
	if err != nil {
		return Checked{Firewall: b.name(), Problem: err.Error()}
	}
	c.Differences = differences
	c.InPlace = there && len(differences) == 0
	if !there {
		c.Differences = nil
	}
	if n, ok := b.(interface{ redirected() (uint64, error) }); ok && there {
		c.Redirected, _ = n.redirected()
	}
	return c
}
