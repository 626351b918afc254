package lifecycle

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/real"
)

func contains(p *process, text string) bool { return strings.Contains(p.out.String(), text) }

// plain needs no identity.
const plain = "timeouts: {drain: %s}\nlisteners: [{name: out, direction: outbound, address: 127.0.0.1:0, service: far}]\nservices: [{name: far, endpoints: [127.0.0.1:1]}]\n"

// says waits until the process has written something.
func says(t *testing.T, p *process, text string) {
	t.Helper()
	eventually(t, "it says "+text, func() error {
		if contains(p, text) {
			return nil
		}
		return fmt.Errorf("%q", p.out.String())
	})
}

// What run and wait end with is the command's exit code.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		command []string
		code    int
	}{
		{[]string{"true"}, 0},
		{[]string{"sh", "-c", "exit 7"}, 7},
		{[]string{"sh", "-c", "kill -USR2 $$"}, 128 + int(syscall.SIGUSR2)},
		{[]string{"no-such-command"}, 127},
		{[]string{"/"}, 126},
	} {
		p := run(t, fmt.Sprintf(plain, "1m"), nil, c.command...)
		if code := p.code(); code != c.code {
			t.Errorf("run -- %q: %d, want %d\n%s", c.command, code, c.code, p.out.String())
		}
		beside := run(t, fmt.Sprintf(plain, "1m"), nil)
		for _, quit := range []string{"--quit=false", "--quit"} {
			w := begin(t, nil, append([]string{binary, "wait", "--admin", "unix://" + beside.admin, quit, "--"}, c.command...)...)
			if code := w.code(); code != c.code {
				t.Errorf("wait %s -- %q: %d, want %d\n%s", quit, c.command, code, c.code, w.out.String())
			}
		}
		if c.code < 126 || c.code > 127 {
			if code := beside.code(); code != 0 {
				t.Errorf("the proxy beside it: %d", code)
			}
		}
	}
}

// obeys is a script that tells of each signal.
const obeys = `for s in TERM INT USR1 USR2 WINCH HUP QUIT; do trap "echo got $s" $s; done
trap "echo got TERM; exit 3" TERM
echo up; while :; do sleep 0.02; done`

func TestSignalsArePassedOn(t *testing.T) {
	t.Parallel()
	p := run(t, fmt.Sprintf(plain, "1m"), nil, "sh", "-c", obeys)
	says(t, p.process, "up\n")
	for name, s := range map[string]syscall.Signal{"USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "QUIT": syscall.SIGQUIT, "WINCH": syscall.SIGWINCH} {
		p.signal(s)
		says(t, p.process, "got "+name+"\n")
	}
	p.signal(syscall.SIGHUP)
	says(t, p.process, "configuration reloaded")
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != 3 || contains(p.process, "got HUP") {
		t.Errorf("exit code %d\n%s", code, p.out.String())
	}

	p = run(t, fmt.Sprintf(plain, "1m"), nil)
	w := begin(t, nil, binary, "wait", "--admin", "unix://"+p.admin, "--quit", "--", "sh", "-c", obeys)
	says(t, w, "up\n")
	w.signal(syscall.SIGHUP)
	says(t, w, "got HUP\n")
	w.signal(syscall.SIGTERM)
	if code := w.code(); code != 3 {
		t.Errorf("exit code %d\n%s", code, w.out.String())
	}
	if code := p.code(); code != 0 {
		t.Errorf("the proxy: exit code %d\n%s", code, p.out.String())
	}
}

// An application that does not end is killed at the deadline, or at the second signal.
func TestAStubbornApplication(t *testing.T) {
	t.Parallel()
	const stubborn = `trap "echo got TERM" TERM; echo up; while :; do sleep 0.02; done`
	p := run(t, fmt.Sprintf(plain, "5s"), nil, "sh", "-c", stubborn)
	says(t, p.process, "up\n")
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != 137 || !contains(p.process, "got TERM") {
		t.Errorf("at the deadline: exit code %d\n%s", code, p.out.String())
	}
	p = run(t, fmt.Sprintf(plain, "1h"), nil, "sh", "-c", stubborn)
	says(t, p.process, "up\n")
	p.signal(syscall.SIGTERM)
	says(t, p.process, "got TERM\n")
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != 1 {
		t.Errorf("at the second signal: exit code %d\n%s", code, p.out.String())
	}
}

// The proxy asked to end over the admin interface ends the application, too; one that is
// killed leaves none behind.
func TestTheApplicationDoesNotOutliveTheProxy(t *testing.T) {
	t.Parallel()
	p := run(t, fmt.Sprintf(plain, "1m"), nil, "sh", "-c", obeys)
	says(t, p.process, "up\n")
	quit := begin(t, nil, binary, "ctl", "quit", "--admin", "unix://"+p.admin)
	if code := quit.code(); code != 0 {
		t.Errorf("ctl quit: %d\n%s", code, quit.out.String())
	}
	if code := p.code(); code != 3 {
		t.Errorf("exit code %d\n%s", code, p.out.String())
	}

	gone := filepath.Join(shortDir(t), "gone")
	p = run(t, fmt.Sprintf(plain, "1m"), nil, "sh", "-c", fmt.Sprintf(`trap "touch %s; exit" TERM; echo up; while :; do sleep 0.02; done`, gone))
	says(t, p.process, "up\n")
	p.signal(syscall.SIGKILL)
	eventually(t, "the application is told", func() error {
		_, err := os.Stat(gone)
		return err
	})
}

// The service manager hears of readiness, reloads and the end.
func TestTheServiceManagerIsNotified(t *testing.T) {
	t.Parallel()
	path := filepath.Join(shortDir(t), "notify.sock")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	hears := func(want string) {
		t.Helper()
		b := make([]byte, 1024)
		if err := l.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		n, err := l.Read(b)
		if err != nil || !strings.HasPrefix(string(b[:n]), want) {
			t.Fatalf("heard %q (%v), want %q", b[:n], err, want)
		}
	}
	p := run(t, fmt.Sprintf(plain, "1m"), []string{"NOTIFY_SOCKET=" + path}, "sh", "-c", `echo "socket '$NOTIFY_SOCKET'"; `+obeys)
	hears("READY=1\n")
	says(t, p.process, "up\n")
	if !contains(p.process, "socket ''") {
		t.Errorf("the application has the socket, too:\n%s", p.out.String())
	}
	p.signal(syscall.SIGHUP)
	hears("RELOADING=1\nMONOTONIC_USEC=")
	hears("READY=1\n")
	p.signal(syscall.SIGTERM)
	hears("STOPPING=1\n")
	if code := p.code(); code != 3 {
		t.Errorf("exit code %d\n%s", code, p.out.String())
	}
}

// A proxy that cannot start starts no application.
func TestAProxyThatFails(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := run(t, strings.Replace(fmt.Sprintf(plain, "1m"), "127.0.0.1:0", l.Addr().String(), 1), nil, "echo", "started after all")
	if code := p.code(); code != 1 || !contains(p.process, "address already in use") || contains(p.process, "after all\n") {
		t.Errorf("exit code %d\n%s", code, p.out.String())
	}
}

// As the first process of a container the proxy reaps what others leave behind.
func TestOrphansAreReaped(t *testing.T) {
	real.Root(t)
	t.Parallel()
	file, _ := write(t, fmt.Sprintf(plain, "1m"))
	const leaves = `o=$(sh -c 'sleep 0.1 >/dev/null & echo $!'); echo "me $$, orphan $o"
while [ -e /proc/$o ]; do sleep 0.02; done; exit 9`
	p := begin(t, nil, "unshare", "--pid", "--fork", "--mount-proc", "--kill-child", binary, "run", "-c", file, "--", "sh", "-c", leaves)
	if code := p.code(); code != 9 {
		t.Errorf("exit code %d\n%s", code, p.out.String())
	}
}
