package capture

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// nft talks to the kernel's nf_tables, without any program.
type nft struct{}

func (nft) name() string { return FirewallNftables }

// what the kernel answers where it lacks something.
func lacks(err error) bool {
	for _, code := range []error{unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.ENOENT, unix.EINVAL, unix.ECONNREFUSED, unix.ENOPROTOOPT} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

func nftError(doing string, err error) error {
	switch {
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		return fmt.Errorf("nftables: %s: %w", doing, ErrPrivilege)
	case lacks(err):
		return fmt.Errorf("nftables: %s: %w (%w); the modules nf_tables, nft_chain_nat, nft_redir, nft_fib_inet and nf_conntrack are what it takes", doing, ErrKernel, err)
	}
	return fmt.Errorf("nftables: %s: %w", doing, err)
}

// add queues table t as the plan has it.
func (p *Plan) add(k *nftables.Conn, t *nftables.Table) {
	t = k.AddTable(t)
	accept, order := nftables.ChainPolicyAccept, nftables.ChainPriority(priority)
	for _, c := range p.Chains {
		chain := &nftables.Chain{Name: c.Name, Table: t}
		if c.Hook != "" {
			chain.Type, chain.Policy, chain.Priority, chain.Hooknum = nftables.ChainTypeNAT, &accept, &order, hook(c.Hook)
		}
		chain = k.AddChain(chain)
		for _, r := range p.nftRules(c) {
			r.add(k, t, chain)
		}
	}
}

func hook(h Hook) *nftables.ChainHook {
	return map[Hook]*nftables.ChainHook{Prerouting: nftables.ChainHookPrerouting, Output: nftables.ChainHookOutput}[h]
}

// try has the kernel take the plan and take it back in one transaction: nothing changes, but
// what it cannot do it refuses.
func (nft) try(p *Plan) error {
	return transaction("try the rules", func(k *nftables.Conn) {
		t := &nftables.Table{Name: Table + "_try", Family: nftables.TableFamilyINet}
		p.add(k, t)
		k.DelTable(t)
	})
}

// apply replaces what is ours in one transaction.
func (nft) apply(p *Plan) error {
	return transaction("apply the rules", func(k *nftables.Conn) {
		t := &nftables.Table{Name: Table, Family: nftables.TableFamilyINet}
		k.DelTable(k.AddTable(t)) // as it may not be there yet
		p.add(k, t)
	})
}

// remove reports whether there was something.
func (nft) remove() (bool, error) {
	there, err := ours()
	if err != nil || !there {
		return false, err
	}
	return true, transaction("remove the rules", func(k *nftables.Conn) {
		k.DelTable(&nftables.Table{Name: Table, Family: nftables.TableFamilyINet})
	})
}

func transaction(doing string, queue func(*nftables.Conn)) error {
	k, err := nftables.New()
	if err != nil {
		return nftError(doing, err)
	}
	queue(k)
	if err := k.Flush(); err != nil {
		return nftError(doing, err)
	}
	return nil
}

// ours reports whether our table is there.
func ours() (bool, error) {
	k, err := nftables.New()
	if err != nil {
		return false, nftError("look", err)
	}
	tables, err := k.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, nftError("look", err)
	}
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == Table }), nil
}

// look compares the kernel with the plan.
func (nft) look(p *Plan) (there bool, differences []string, err error) {
	if there, err = ours(); err != nil || !there {
		return there, nil, err
	}
	k, err := nftables.New()
	if err != nil {
		return true, nil, nftError("look", err)
	}
	all, err := k.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return true, nil, nftError("look", err)
	}
	chains := map[string]*nftables.Chain{}
	for _, c := range all {
		if c.Table.Name == Table {
			chains[c.Name] = c
		}
	}
	for _, c := range p.Chains {
		chain := chains[c.Name]
		delete(chains, c.Name)
		if chain == nil || !hooked(chain, c.Hook) {
			differences = append(differences, "missing: chain "+c.Name)
			continue
		}
		rules, err := k.GetRules(chain.Table, chain)
		if err != nil {
			return true, nil, nftError("look", err)
		}
		differences = append(differences, compareRules(p, c, rules)...)
	}
	for name := range chains {
		differences = append(differences, "not planned: chain "+name)
	}
	slices.Sort(differences)
	return true, differences, nil
}

func hooked(c *nftables.Chain, h Hook) bool {
	if h == "" {
		return c.Hooknum == nil
	}
	return c.Hooknum != nil && *c.Hooknum == *hook(h) && c.Type == nftables.ChainTypeNAT && c.Priority != nil && *c.Priority == priority
}

func compareRules(p *Plan, c Chain, kernels []*nftables.Rule) (differences []string) {
	wanted := p.nftRules(c)
	if len(wanted) != len(kernels) {
		differences = append(differences, fmt.Sprintf("chain %s has %d rules, planned are %d", c.Name, len(kernels), len(wanted)))
	}
	gate := len(wanted) - len(c.Rules)
	lines := p.nftGate()
	for i, w := range wanted[:min(len(wanted), len(kernels))] {
		if w.same(kernels[i]) {
			continue
		}
		var line string
		if i < gate {
			line = lines[i]
		} else {
			line = c.Rules[i-gate].nft(c.Hook)
		}
		return append(differences, fmt.Sprintf("chain %s: rule %d is not: %s", c.Name, i+1, line))
	}
	return differences
}

// redirected is how many connections our rules have redirected.
func (nft) redirected() (n uint64, err error) {
	k, err := nftables.New()
	if err != nil {
		return 0, nftError("look", err)
	}
	chains, err := k.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return 0, nftError("look", err)
	}
	for _, c := range chains {
		if c.Table.Name != Table {
			continue
		}
		rules, err := k.GetRules(c.Table, c)
		if err != nil {
			return 0, nftError("look", err)
		}
		for _, r := range rules {
			for _, e := range r.Exprs {
				if counter, ok := e.(*expr.Counter); ok {
					n += counter.Packets
				}
			}
		}
	}
	return n, nil
}
