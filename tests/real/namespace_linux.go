package real

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// NetworkNamespace is a network of a test's own, with interfaces, addresses, firewall
// rules and ports of its own. It has no name that could be left behind: it goes with the test's
// process and with those in it.
type NetworkNamespace struct {
	t    testing.TB
	file *os.File
}

// Namespace makes a network namespace in which loopback is up, and nothing else is. Tests of
// users who may not have one are skipped.
func Namespace(t testing.TB) *NetworkNamespace {
	t.Helper()
	Root(t)
	n := &NetworkNamespace{t: t}
	err := onOwnThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		n.file, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		return err
	})
	if errors.Is(err, unix.EPERM) {
		t.Skipf("needs network namespaces, which this container may not make")
	}
	if err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() { n.file.Close() })
	n.MustRun("ip", "link", "set", "lo", "up")
	return n
}

// Path names the namespace for programs that take a path: nsenter --net, ip link set netns.
// It is good for as long as the test runs.
func (n *NetworkNamespace) Path() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd())
}

// Join puts a cable between n and other: an interface of the same name in both, with an address each
// (10.0.0.1/24, or several with commas between), which can be used at once.
func (n *NetworkNamespace) Join(name, ours string, other *NetworkNamespace, theirs string) {
	n.t.Helper()
	n.MustRun("ip", "link", "add", name, "type", "veth", "peer", "name", name, "netns", other.Path())
	for _, end := range []struct {
		in        *NetworkNamespace
		addresses string
	}{{n, ours}, {other, theirs}} {
		for _, address := range strings.Split(end.addresses, ",") {
			args := []string{"addr", "add", address, "dev", name}
			if strings.Contains(address, ":") {
				args = append(args, "nodad") // no second of waiting whether somebody else has it
			}
			end.in.MustRun("ip", args...)
		}
		end.in.MustRun("ip", "link", "set", name, "up")
	}
}

// Command is a command that runs inside; it is the caller's to start. User and group ids other than
// root's are for Args: see As.
func (n *NetworkNamespace) Command(name string, args ...string) *exec.Cmd {
	n.t.Helper()
	return exec.Command(Installed(n.t, "nsenter"), append([]string{"--net=" + n.Path(), Installed(n.t, name)}, args...)...)
}

// As are the words before a command that make it run with a user id, which is its group id,
// too: n.Run(t, "setpriv", As(1337, "curl", ...)...).
func As(id int, command ...string) []string {
	return append([]string{fmt.Sprintf("--reuid=%d", id), fmt.Sprintf("--regid=%d", id), "--clear-groups"}, command...)
}

// Run runs a program inside to its end, as the package's Run does.
func (n *NetworkNamespace) Run(within time.Duration, name string, args ...string) Ran {
	n.t.Helper()
	return Run(n.t, within, "nsenter", append([]string{"--net=" + n.Path(), Installed(n.t, name)}, args...)...)
}

// MustRun runs a program inside, returns what it wrote, and ends the test where it fails.
func (n *NetworkNamespace) MustRun(name string, args ...string) string {
	n.t.Helper()
	ran := n.Run(30*time.Second, name, args...)
	if ran.Code != 0 {
		n.t.Fatalf("%s %q in the namespace: exit code %d\n%s%s", name, args, ran.Code, ran.Stdout, ran.Stderr)
	}
	return ran.Stdout
}

// Do calls f on a thread that is in the namespace. Sockets that f makes stay in it; goroutines
// that it starts are not in it. f must not end the test, and starts no processes: they would
// end with its thread.
func (n *NetworkNamespace) Do(f func() error) error {
	return onOwnThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the network namespace: %w", err)
		}
		return f()
	})
}

// Listen listens inside; the listener ends with the test.
func (n *NetworkNamespace) Listen(network, address string) net.Listener {
	n.t.Helper()
	var l net.Listener
	err := n.Do(func() (err error) {
		l, err = net.Listen(network, address)
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { l.Close() })
	return l
}

// Dial connects from inside to an IP address and a port, within half a minute.
func (n *NetworkNamespace) Dial(network, address string) (c net.Conn, err error) {
	err = n.Do(func() (err error) {
		c, err = net.DialTimeout(network, address, 30*time.Second)
		return err
	})
	return c, err
}

// onOwnThread calls f on a thread that nobody uses before or afterwards, so that it may be changed.
func onOwnThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		done <- f()
	}()
	return <-done
}
