package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// iptables tells the kernel by the programs of that name. There are two kinds, whose rules do not know
// of each other.
type iptables struct {
	kind   string // kindNft or kindLegacy
	suffix string // of the programs' names: the kind, or nothing where the system's own are of it
	run    runner
}

// The kinds: over nf_tables, and what was before it.
const (
	kindNft    = "-nft"
	kindLegacy = "-legacy"
)

// newIptables returns that of a kind, or of the system's own kind for "".
func newIptables(kind string, run runner) iptables {
	if kind != "" {
		if _, err := find("iptables" + kind + "-restore"); err == nil {
			return iptables{kind, kind, run}
		}
	}
	own := kindLegacy
	if version, err := run("", "iptables", "--version"); err == nil && strings.Contains(version, "nf_tables") {
		own = kindNft
	}
	if kind == "" || kind == own {
		return iptables{own, "", run}
	}
	return iptables{kind, kind, run} // says that it is not installed when it is used
}

// runner runs a program with an input and returns its output; an error holds what it said.
type runner func(input, program string, args ...string) (string, error)

// command is the runner of this machine. Programs are also looked for where PATH of an ordinary
// user does not lead.
func command(ctx context.Context) runner {
	return func(input, program string, args ...string) (string, error) {
		path, err := find(program)
		if err != nil {
			return "", err
		}
		var stdout, stderr bytes.Buffer
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
		if err := cmd.Run(); err != nil {
			return "", said(program, stderr.String(), err)
		}
		return stdout.String(), nil
	}
}

func find(program string) (string, error) {
	for _, name := range []string{program, "/usr/sbin/" + program, "/sbin/" + program} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: %s is not installed here", ErrKernel, program)
}

// said makes an error of what iptables writes when it fails.
func said(program, message string, err error) error {
	message = strings.Join(strings.Fields(message), " ")
	switch {
	case strings.Contains(message, "Permission denied") || strings.Contains(message, "you must be root") || strings.Contains(message, "Operation not permitted"):
		return fmt.Errorf("%s: %w", program, ErrPrivilege)
	case strings.Contains(message, "do you need to insmod") || strings.Contains(message, "missing kernel module") || strings.Contains(message, "not supported"):
		return fmt.Errorf("%s: %w: %s", program, ErrKernel, message)
	case message == "":
		return fmt.Errorf("%s: %w", program, err)
	}
	return fmt.Errorf("%s: %w: %s", program, err, message)
}

func (i iptables) name() string { return FirewallIptables + i.kind }

// program is that of one family: iptables-legacy-save, ip6tables-restore.
func (i iptables) program(ipv6 bool, what string) string {
	return map[bool]string{false: "iptables", true: "ip6tables"}[ipv6] + i.suffix + "-" + what
}

// families are those of the plan that there are.
func (i iptables) families(p *Plan) (all []bool) {
	if p.IPv4 {
		all = append(all, false)
	}
	if p.IPv6 && kernelHasIPv6() {
		all = append(all, true)
	}
	return all
}

// kernelHasIPv6 is false where IPv6 was left out or switched off at boot.
func kernelHasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}

func (i iptables) read(ipv6 bool) (*state, error) {
	saved, err := i.run("", i.program(ipv6, "save"), "-t", "nat")
	if err != nil {
		return nil, hint(ipv6, err)
	}
	return parseState(saved), nil
}

// hint says what can be done where IPv6 alone is missing.
func hint(ipv6 bool, err error) error {
	if ipv6 && errors.Is(err, ErrKernel) {
		return fmt.Errorf("%w; where nothing is to be called over IPv6, --ipv6=false leaves it alone", err)
	}
	return err
}

// put has one family's rules replaced in one step, or with test only tried.
func (i iptables) put(ipv6 bool, wanted, there *state, test bool) error {
	args := []string{"--noflush", "-w", "10"}
	if test {
		args = append(args, "--test")
	}
	_, err := i.run(wanted.replace(there), i.program(ipv6, "restore"), args...)
	return hint(ipv6, err)
}

func (i iptables) try(p *Plan) error {
	for _, ipv6 := range i.families(p) {
		there, err := i.read(ipv6)
		if err != nil {
			return err
		}
		if err := i.put(ipv6, p.state(ipv6), there, true); err != nil {
			return err
		}
	}
	return nil
}

// apply replaces what is ours, each family in one step. Where the second family's fails, the first
// one gets back what it had.
func (i iptables) apply(p *Plan) error {
	before := map[bool]*state{}
	var done []bool
	for _, ipv6 := range []bool{false, true} {
		wanted := &state{}
		planned := p.IPv4 && !ipv6 || p.IPv6 && ipv6
		if planned {
			wanted = p.state(ipv6)
		}
		if ipv6 && !kernelHasIPv6() {
			continue
		}
		there, err := i.read(ipv6)
		if err == nil && (planned || !there.empty()) {
			before[ipv6] = there
			err = i.put(ipv6, wanted, there, false)
		}
		if err != nil && planned {
			return errors.Join(err, i.back(p, done, before))
		}
		done = append(done, ipv6)
	}
	return nil
}

// back undoes what apply has done.
func (i iptables) back(p *Plan, done []bool, before map[bool]*state) (err error) {
	for _, ipv6 := range done {
		if before[ipv6] != nil {
			err = errors.Join(err, i.put(ipv6, before[ipv6], p.state(ipv6), false))
		}
	}
	return err
}

// remove reports whether there was something. What cannot be read has nothing of ours, unless it is
// for want of a right.
func (i iptables) remove() (bool, error) {
	removed := false
	for _, ipv6 := range []bool{false, true} {
		there, err := i.read(ipv6)
		if errors.Is(err, ErrPrivilege) {
			return removed, err
		}
		if err != nil || there.empty() {
			continue
		}
		if err := i.put(ipv6, &state{}, there, false); err != nil {
			return removed, err
		}
		removed = true
	}
	return removed, nil
}

func (i iptables) look(p *Plan) (there bool, differences []string, err error) {
	for _, ipv6 := range i.families(p) {
		have, err := i.read(ipv6)
		if err != nil {
			return there, nil, err
		}
		there = there || !have.empty()
		for _, difference := range have.differs(p.state(ipv6)) {
			differences = append(differences, map[bool]string{false: "IPv4: ", true: "IPv6: "}[ipv6]+difference)
		}
	}
	return there, differences, nil
}
