package real

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Ran is what came of a program that has ended.
type Ran struct {
	Code           int
	Stdout, Stderr string
}

// Run runs a program to its end and ends the test when it cannot be started or does not
// end in time. The name is a path, or that of a program in PATH or /usr/sbin; where it
// is neither, the message says which package has it.
func Run(t testing.TB, within time.Duration, name string, args ...string) Ran {
	t.Helper()
	return RunInput(t, within, "", name, args...)
}

// RunInput is Run with something on standard input.
func RunInput(t testing.TB, within time.Duration, stdin, name string, args ...string) Ran {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, Installed(t, name), args...)
	cmd.SysProcAttr = dieWithUs()
	cmd.WaitDelay = time.Second // its children may hold the pipes
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, errors.Join(err, ctx.Err()), stdout.String(), stderr.String())
	}
	return Ran{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// packages are those of Debian that have a program under another name than theirs.
var packages = map[string]string{"halog": "haproxy", "h2load": "nghttp2-client", "nghttp": "nghttp2-client", "nghttpd": "nghttp2-server",
	"mariadbd": "mariadb-server", "mariadb": "mariadb-client", "redis-cli": "redis-tools",
	"ip": "iproute2", "nft": "nftables", "nsenter": "util-linux", "setpriv": "util-linux", "sysctl": "procps",
	"iptables-save": "iptables", "iptables-legacy-save": "iptables", "ip6tables-save": "iptables"}

// Installed is the path of a program of the system.
func Installed(t testing.TB, name string) string {
	t.Helper()
	for _, path := range []string{name, "/usr/sbin/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	holder := packages[name]
	if holder == "" {
		holder = name
	}
	t.Fatalf("%s is not installed; Debian has it in the package %s (.ci/packages %s)", name, holder, holder)
	return ""
}
