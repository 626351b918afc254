package cli

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/larboard-proxy/larboard/policy/captured"
	"github.com/larboard-proxy/larboard/sidecar/admin"
)

func newCtlCaptures() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "captures [IP[:PORT]]",
		Short: "Show which addresses a running proxy captures, and for whom",
		Long: `Captures shows the addresses whose captured connections a listener takes, where each
comes from (the configuration, a name, Consul), and what is wrong with it. With an
address it shows the entry that holds for connections to it, in each direction.`,
		Example: `  larboard ctl captures
  larboard ctl captures 10.96.0.10:80
  larboard ctl captures --admin unix:///run/larboard/admin.sock --output json`,
		Args: cobra.MaximumNArgs(1),
	}
	address, output := adminFlag(cmd), outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := output.valid(); err != nil {
			return err
		}
		called, err := calledAddress(args)
		if err != nil {
			return err
		}
		client, err := newAdminClient(*address)
		if err != nil {
			return err
		}
		var answer struct{ Captures []admin.CaptureView }
		if err := client.get(cmd.Context(), "/api/v1/captures", nil, &answer); err != nil {
			return err
		}
		rows := answer.Captures
		if len(args) > 0 {
			rows = holding(rows, called)
		}
		if output.value == "json" {
			return writeJSON(cmd.OutOrStdout(), append([]admin.CaptureView{}, rows...)) // [] rather than null
		}
		return writeCaptures(cmd.OutOrStdout(), rows, args)
	}
	return cmd
}

// calledAddress is the one asked about; not valid without one. Without a port it has port 0.
func calledAddress(args []string) (netip.AddrPort, error) {
	if len(args) == 0 {
		return netip.AddrPort{}, nil
	}
	if at, err := netip.ParseAddrPort(args[0]); err == nil {
		return at, nil
	}
	ip, err := netip.ParseAddr(args[0])
	if err != nil {
		return netip.AddrPort{}, &ExitError{Code: exitUsage, Err: fmt.Errorf("%q is neither IP nor IP:PORT", args[0])}
	}
	return netip.AddrPortFrom(ip, 0), nil
}

// holding are the rows that decide about connections to an address: one for each direction at most.
func holding(rows []admin.CaptureView, to netip.AddrPort) (all []admin.CaptureView) {
	for _, direction := range []string{"outbound", "inbound"} {
		var entries []captured.Entry
		for i, r := range rows {
			prefix, ok := prefixOf(r.Address)
			if ok && r.Direction == direction {
				entries = append(entries, captured.Entry{Prefix: prefix, Port: r.Port, To: i})
			}
		}
		if i, ok := captured.New(entries).Lookup(to); ok {
			all = append(all, rows[i])
		}
	}
	return all
}

// prefixOf reads the address of a row; that of all is the zero Prefix.
func prefixOf(text string) (p netip.Prefix, ok bool) {
	if text == "*" {
		return p, true
	}
	if ip, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(ip, ip.BitLen()), true
	}
	p, err := netip.ParsePrefix(text)
	return p, err == nil
}

func writeCaptures(w io.Writer, rows []admin.CaptureView, args []string) error {
	if len(rows) == 0 {
		text := "nothing is captured for a listener: see capture and captures of the configuration\n"
		if len(args) > 0 {
			text = fmt.Sprintf("no entry holds for %s: what capture says of the unknown becomes of it\n", args[0])
		}
		_, err := io.WriteString(w, text)
		return err
	}
	t := table{head: []string{"LISTENER", "DIRECTION", "ADDRESS", "PORT", "SOURCE", "PROBLEM"}, wrap: 1}
	for _, r := range rows {
		port := "every"
		if r.Port != 0 {
			port = strconv.Itoa(int(r.Port))
		}
		address, problem := r.Address, r.Error
		if address == "" {
			address = "-"
		}
		if problem == "" {
			problem = "-"
		}
		t.add(printable(r.Listener), printable(r.Direction), printable(address), port, printable(r.Source), printable(problem))
	}
	return t.write(w)
}
