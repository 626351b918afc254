package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/larboard-proxy/larboard/injector/capture"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

// captureFlags are the words of the command line, before anything is made of them.
type captureFlags struct {
	outbound, inbound                                  string
	user, group, proxyPorts                            string
	excludeUsers, excludeInterfaces                    string
	excludeOutbound, excludeOutboundTo, excludeInbound string
	onlyOutbound, onlyOutboundTo, onlyInbound          string
	ipv4, ipv6                                         bool
	firewall                                           string
	remove, check, print                               bool
}

func newCapture() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "capture",
		Short: "Redirect this machine's (or pod's) TCP connections to its proxy",
		Long: `Capture tells the kernel to redirect TCP connections to the proxy: those that
processes here begin to its outbound port, those that come from elsewhere to its
inbound port. It is for the network namespace in which it runs, such as a pod's, and
needs CAP_NET_ADMIN. The proxy does not: it needs to run as the user given.

Left alone are: what the proxy's user begins, what is for this machine itself, DNS,
everything but TCP, and connections that exist. Applying again replaces the rules in
one step; where they are as they should be, nothing is done. With a port of 0 a direction is
left alone.

The exit code is 0 when it was done (--check: the rules are in place), 1 when it failed
(--check: they are not) and 2 for wrong options.`,
		Example: `  larboard capture                                    both directions
  larboard capture --inbound-port 0                   what processes here begin, no more
  larboard capture --exclude-outbound-ports 5432 --exclude-outbound-cidrs 10.0.0.0/8
  larboard capture --check                            are the rules there? could they be?
  larboard capture --print --backend iptables         show them, change nothing
  larboard capture --remove                           take away what is ours`,
		Args: noArguments,
	}
	var f captureFlags
	flags := cmd.Flags()
	text := func(to *string, name, value, usage string) { flags.StringVar(to, name, value, usage) }
	text(&f.outbound, "outbound-port", strconv.Itoa(capture.DefaultOutboundPort), "`PORT` of the proxy for what processes here begin; 0: none")
	text(&f.inbound, "inbound-port", strconv.Itoa(capture.DefaultInboundPort), "`PORT` of the proxy for what comes from elsewhere; 0: none")
	text(&f.user, "user", strconv.Itoa(capture.DefaultUser), "the proxy's user, by `ID` or name: its connections pass")
	text(&f.group, "group", "", "a group whose connections pass, by `ID` or name")
	text(&f.proxyPorts, "proxy-ports", "9901,15021,20000", "other `PORTS` of the proxy, such as its mesh listeners: never redirected")
	text(&f.excludeUsers, "exclude-users", "", "`USERS` whose connections pass: 0,1001,backup")
	text(&f.excludeInterfaces, "exclude-interfaces", "", "`INTERFACES` that are left alone: docker0,eth1")
	text(&f.excludeOutbound, "exclude-outbound-ports", "", "destination `PORTS` that pass: 5432,8000-8010")
	text(&f.excludeOutboundTo, "exclude-outbound-cidrs", "", "destinations that pass: `CIDRS` or addresses, IPv4 and IPv6")
	text(&f.excludeInbound, "exclude-inbound-ports", "", "`PORTS` of this machine that stay as they are")
	text(&f.onlyOutbound, "only-outbound-ports", "", "redirect nothing but these `PORTS`")
	text(&f.onlyOutboundTo, "only-outbound-cidrs", "", "redirect nothing but what is for these `CIDRS`")
	text(&f.onlyInbound, "only-inbound-ports", "", "redirect nothing but these `PORTS` of this machine")
	flags.BoolVar(&f.ipv4, "ipv4", true, "redirect IPv4")
	flags.BoolVar(&f.ipv6, "ipv6", true, "redirect IPv6, where the kernel has it")
	text(&f.firewall, "backend", capture.FirewallAuto, "how the kernel is told: "+strings.Join(capture.Firewalls(), ", "))
	flags.BoolVar(&f.remove, "remove", false, "take away all rules of ours, and nothing else")
	flags.BoolVar(&f.check, "check", false, "compare the kernel with the rules, and say whether they could be applied; change nothing")
	flags.BoolVar(&f.print, "print", false, "write the rules, as nft or iptables-restore read them; change nothing")
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := output.valid(); err != nil {
			return err
		}
		return f.run(cmd, output.value == "json")
	}
	return cmd
}

func (f *captureFlags) run(cmd *cobra.Command, asJSON bool) error {
	if f.remove && f.check || f.remove && f.print || f.check && f.print {
		return &ExitError{Code: exitUsage, Err: errors.New("capture: of --remove, --check and --print only one at a time")}
	}
	plan, err := f.plan()
	if err != nil {
		return &ExitError{Code: exitUsage, Err: fmt.Errorf("capture: %w", err)}
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	kernel, err := f.kernel(ctx)
	if err != nil {
		return &ExitError{Code: exitUsage, Err: fmt.Errorf("capture: %w", err)}
	}
	out := cmd.OutOrStdout()
	switch {
	case f.print:
		return f.show(out, plan, asJSON)
	case f.check:
		return sayChecked(out, kernel.Check(plan), asJSON)
	}
	var done capture.Applied
	if f.remove {
		done, err = kernel.Remove()
	} else {
		done, err = kernel.Apply(plan)
	}
	if err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	return f.sayDone(out, plan, done, asJSON)
}

// kernel refuses a backend that there is not, with what was probably meant.
func (f *captureFlags) kernel(ctx context.Context) (*capture.Kernel, error) {
	kernel, err := capture.NewKernel(ctx, f.firewall)
	if err == nil {
		return kernel, nil
	}
	if near := config.Suggest(f.firewall, capture.Firewalls()); near != "" {
		err = fmt.Errorf("--backend: %w; did you mean %q?", err, near)
	}
	return nil, err
}

// plan makes the plan of the flags.
func (f *captureFlags) plan() (*capture.Plan, error) {
	o := capture.Options{IPv4: f.ipv4, IPv6: f.ipv6}
	var first error
	note := func(flag string, err error) {
		if err != nil && first == nil {
			first = fmt.Errorf("--%s: %w", flag, err)
		}
	}
	o.OutboundPort = port("outbound-port", f.outbound, note)
	o.InboundPort = port("inbound-port", f.inbound, note)
	user := list("user", f.user, capture.ParseUsers, note)
	o.Users = append(user, list("exclude-users", f.excludeUsers, capture.ParseUsers, note)...)
	o.Groups = list("group", f.group, capture.ParseGroups, note)
	o.ProxyPorts = list("proxy-ports", f.proxyPorts, capture.ParsePorts, note)
	o.OnlyOutbound = list("only-outbound-ports", f.onlyOutbound, capture.ParsePorts, note)
	o.OnlyInbound = list("only-inbound-ports", f.onlyInbound, capture.ParsePorts, note)
	o.OnlyOutboundTo = list("only-outbound-cidrs", f.onlyOutboundTo, capture.ParsePrefixes, note)
	o.ExcludeOutbound = list("exclude-outbound-ports", f.excludeOutbound, capture.ParsePorts, note)
	o.ExcludeInbound = list("exclude-inbound-ports", f.excludeInbound, capture.ParsePorts, note)
	o.ExcludeOutboundTo = list("exclude-outbound-cidrs", f.excludeOutboundTo, capture.ParsePrefixes, note)
	o.ExcludeInterfaces = list("exclude-interfaces", f.excludeInterfaces, capture.ParseInterfaces, note)
	if first != nil {
		return nil, first
	}
	return capture.Build(o)
}

func list[T any](flag, value string, parse func(string) ([]T, error), note func(string, error)) []T {
	all, err := parse(value)
	note(flag, err)
	return all
}

// port is one port, or 0.
func port(flag, value string, note func(string, error)) uint16 {
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil {
		note(flag, fmt.Errorf("%q is no port: it is a number from 1 to 65535, or 0 for none", value))
	}
	return uint16(n)
}

// shown is the answer of --print for machines.
type shown struct {
	Nftables  string `json:"nftables"`
	Iptables  string `json:"iptables,omitempty"`
	Ip6tables string `json:"ip6tables,omitempty"`
}

func (f *captureFlags) show(w io.Writer, p *capture.Plan, asJSON bool) error {
	s := shown{Nftables: p.Nftables()}
	if p.IPv4 {
		s.Iptables = p.Iptables(false)
	}
	if p.IPv6 {
		s.Ip6tables = p.Iptables(true)
	}
	if asJSON {
		return writeJSON(w, s)
	}
	text := "# nft -f -\n" + s.Nftables
	if strings.HasPrefix(f.firewall, capture.FirewallIptables) {
		text = ""
		for _, family := range []struct{ program, rules string }{{"iptables-restore", s.Iptables}, {"ip6tables-restore", s.Ip6tables}} {
			if family.rules != "" {
				text += "# " + family.program + " --noflush\n" + family.rules
			}
		}
	}
	_, err := io.WriteString(w, text)
	return err
}

func (f *captureFlags) sayDone(w io.Writer, p *capture.Plan, done capture.Applied, asJSON bool) error {
	if asJSON {
		return writeJSON(w, done)
	}
	switch done.Action {
	case capture.ActionNothing:
		fmt.Fprintln(w, "capture: no rules of ours were there")
	case capture.ActionRemoved:
		fmt.Fprintf(w, "capture: rules removed (%s)\n", done.Firewall)
	default:
		what := "rules applied"
		if done.Action == capture.ActionUnchanged {
			what = "rules are in place; nothing was changed"
		}
		fmt.Fprintf(w, "capture: %s (%s): outbound %s, inbound %s\n", what, done.Firewall, to(f.outbound), to(f.inbound))
		if p.IPv6 && !done.IPv6 {
			fmt.Fprintln(w, "capture: this kernel has no IPv6; its rules are left out")
		}
	}
	return nil
}

func to(port string) string {
	if port == "0" {
		return "left alone"
	}
	return "to port " + port
}

// sayChecked answers with exit code 1 unless the rules are in place.
func sayChecked(w io.Writer, c capture.Checked, asJSON bool) error {
	var err error
	if asJSON {
		err = writeJSON(w, c)
	} else {
		_, err = io.WriteString(w, checkedText(c))
	}
	if err == nil && !c.InPlace {
		err = &ExitError{Code: exitFailed}
	}
	return err
}

func checkedText(c capture.Checked) string {
	switch {
	case c.Problem != "":
		return "capture: the rules cannot be applied here:\n" + c.Problem + "\n"
	case c.InPlace && c.Firewall == capture.FirewallNftables:
		return fmt.Sprintf("capture: the rules are in place (%s); %d connections redirected so far\n", c.Firewall, c.Redirected)
	case c.InPlace:
		return fmt.Sprintf("capture: the rules are in place (%s)\n", c.Firewall)
	case len(c.Differences) > 0:
		return fmt.Sprintf("capture: there are other rules of ours (%s); 'larboard capture' would replace them:\n%s\n", c.Firewall, strings.Join(c.Differences, "\n"))
	}
	return fmt.Sprintf("capture: there are no rules of ours; 'larboard capture' could apply them (%s)\n", c.Firewall)
}
