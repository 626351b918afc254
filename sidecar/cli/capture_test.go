package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

func TestCaptureOptions(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"argument", []string{"15001"}, `unexpected argument "15001"`},
		{"port", []string{"--outbound-port", "70000"}, `--outbound-port: "70000" is no port: it is a number from 1 to 65535, or 0 for none`},
		{"ports", []string{"--exclude-outbound-ports", "90-80"}, `--exclude-outbound-ports: "90-80": the range ends before it begins; did you mean "80-90"?`},
		{"addresses for ports", []string{"--exclude-outbound-ports", "10.0.0.0/8"}, "is an address; this list is of ports"},
		{"host for a network", []string{"--exclude-outbound-cidrs", "10.1.2.3/8"}, `did you mean "10.0.0.0/8", or "10.1.2.3"?`},
		{"name for a network", []string{"--only-outbound-cidrs", "db.local"}, "no address and no CIDR"},
		{"user", []string{"--user", "larbord"}, `--user: "larbord": this machine knows no such user; give its id`},
		{"backend", []string{"--backend", "iptabels"}, `did you mean "iptables"?`},
		{"no direction", []string{"--inbound-port", "0", "--outbound-port", "0"}, "nothing would be redirected"},
		{"one port for both", []string{"--inbound-port", "15001"}, "both 15001"},
		{"no user", []string{"--user", ""}, "come back to it for ever"},
		{"two things at once", []string{"--remove", "--check"}, "only one at a time"},
		{"output", []string{"-o", "xml"}, `"xml" is none of text, json`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := larboard(t, t.TempDir(), append([]string{"capture"}, c.args...)...)
			if got.code != exitUsage {
				t.Errorf("exit code %d, want %d", got.code, exitUsage)
			}
			contains(t, "stderr", got.stderr, c.want)
		})
	}
}

// --print is for everybody: it needs no right.
func TestCapturePrint(t *testing.T) {
	golden := func(name string) string {
		text, err := os.ReadFile(filepath.Join("../../injector/capture/testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, backend := range []string{"auto", "iptables"} {
		got := larboard(t, t.TempDir(), "capture", "--print", "--backend", backend)
		want := "# nft -f -\n" + golden("usual.nft")
		if backend == "iptables" {
			want = "# iptables-restore --noflush\n" + golden("usual.iptables") + "# ip6tables-restore --noflush\n" + golden("usual.ip6tables")
		}
		if got.code != 0 || got.stdout != want {
			t.Errorf("%s: exit code %d, %s\n%s", backend, got.code, got.stderr, got.stdout)
		}
	}
	var s shown
	got := larboard(t, t.TempDir(), "capture", "--print", "-o", "json", "--ipv6=false")
	if err := json.Unmarshal([]byte(got.stdout), &s); err != nil || s.Ip6tables != "" || s.Iptables != golden("usual.iptables") {
		t.Errorf("%v in\n%s", err, got.stdout)
	}
}
