//go:build linux

package attack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// program is the path of larboard, built once for each run of the tests.
var program string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "attack")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "larboard")
	if out, err := exec.Command("go", "build", "-o", program, "../..").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// larboard is the victim: one process.
type larboard struct {
	t      testing.TB
	cmd    *exec.Cmd
	client *http.Client // of the admin socket
	exited chan struct{}
	mu     sync.Mutex
	log    bytes.Buffer
}

// Write takes the process log.
func (l *larboard) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.Write(p)
}

// start runs larboard with a configuration until the end of the test.
func start(t testing.TB, configuration string) *larboard {
	t.Helper()
	dir, err := os.MkdirTemp("", "lb") // short: a Unix socket's path is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file, admin := filepath.Join(dir, "larboard.yaml"), filepath.Join(dir, "admin.sock")
	if err := os.WriteFile(file, []byte(configuration+"\nadmin: {socket: admin.sock}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := &larboard{t: t, cmd: exec.Command(program, "run", "-c", file), exited: make(chan struct{})}
	l.client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", admin)
	}}}
	l.cmd.Dir, l.cmd.Stdout, l.cmd.Stderr = dir, io.Discard, l
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = l.cmd.Wait() // killed in the end, or the test fails for what that causes
		close(l.exited)
	}()
	t.Cleanup(func() {
		_ = l.cmd.Process.Kill()
		<-l.exited
		l.client.CloseIdleConnections()
		if t.Failed() {
			l.mu.Lock()
			defer l.mu.Unlock()
			text := l.log.String()
			t.Logf("end of the log:\n%s", text[max(0, len(text)-4000):])
		}
	})
	eventually(t, time.Minute, "ready", func() error {
		select {
		case <-l.exited:
			t.Fatalf("ended at its start:\n%s", l.log.String())
		default:
		}
		_, err := l.get("/readyz")
		return err
	})
	return l
}

// get asks the admin interface.
func (l *larboard) get(path string) (string, error) {
	resp, err := l.client.Get("http://localhost" + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %d %s", path, resp.StatusCode, body)
	}
	return string(body), err
}

// address is where a listener listens.
func (l *larboard) address(listener string) string {
	l.t.Helper()
	var v struct {
		Listeners []struct {
			Name      string
			Addresses []string
		}
	}
	text, err := l.get("/api/v1/listeners")
	if err == nil {
		err = json.Unmarshal([]byte(text), &v)
	}
	for _, one := range v.Listeners {
		if one.Name == listener && len(one.Addresses) > 0 {
			return one.Addresses[0]
		}
	}
	l.t.Fatalf("no listener %q: %v", listener, err)
	return ""
}

// samples are the metrics of one scrape, by series as written.
type samples map[string]float64

func (l *larboard) scrape() samples {
	l.t.Helper()
	text, err := l.get("/metrics")
	if err != nil {
		l.t.Fatal(err)
	}
	all := samples{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		cut := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || cut < 0 {
			continue
		}
		value, err := strconv.ParseFloat(line[cut+1:], 64)
		if err != nil {
			l.t.Fatalf("metrics: %q: %v", line, err)
		}
		all[line[:cut]] = value
	}
	return all
}

// sum adds the series of a metric.
func (s samples) sum(metric string) (total float64) {
	for series, value := range s {
		if name, _, _ := strings.Cut(series, "{"); name == metric {
			total += value
		}
	}
	return total
}

// byReason adds the series of a metric by their label reason.
func (s samples) byReason(metric string) map[string]int {
	all := map[string]int{}
	for series, value := range s {
		name, labels, _ := strings.Cut(series, "{")
		if _, after, ok := strings.Cut(labels, `reason="`); ok && name == metric && value > 0 {
			reason, _, _ := strings.Cut(after, `"`)
			all[reason] += int(value)
		}
	}
	return all
}

// minus is what has been counted since before.
func minus(now, before map[string]int) map[string]int {
	all := map[string]int{}
	for reason, n := range now {
		if n -= before[reason]; n > 0 {
			all[reason] = n
		}
	}
	return all
}

// resident is the process's memory in bytes.
func (l *larboard) resident() int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	line, _, _ := strings.Cut(rest, "kB")
	kb, _ := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	return kb << 10
}

// cpu is the time that the process has used, in ticks of 10 ms.
func (l *larboard) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", l.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// worst is the most memory seen until stop is called.
func (l *larboard) worst() (stop func() int64) {
	end, done := make(chan struct{}), make(chan int64)
	go func() {
		most := int64(0)
		beat := time.NewTicker(20 * time.Millisecond)
		defer beat.Stop()
		for {
			most = max(most, l.resident())
			select {
			case <-end:
				done <- most
				return
			case <-beat.C:
			}
		}
	}()
	return func() int64 {
		close(end)
		return <-done
	}
}

// load is what is alive: tasks of the engine, and connections of the attacked listener.
type load struct{ tasks, attacked float64 }

func (l *larboard) load() load {
	l.t.Helper()
	all := l.scrape()
	now := load{tasks: all.sum("larboard_engine_tasks")}
	for series, value := range all {
		if strings.HasPrefix(series, "larboard_connections_active{") && strings.Contains(series, `listener="in"`) {
			now.attacked += value
		}
	}
	return now
}

// alive fails the test where the process has ended or a task has panicked.
func (l *larboard) alive() {
	l.t.Helper()
	select {
	case <-l.exited:
		l.mu.Lock()
		defer l.mu.Unlock()
		text := l.log.String()
		l.t.Fatalf("larboard has ended:\n%s", text[max(0, len(text)-8000):])
	default:
	}
	if n := l.scrape().sum("larboard_engine_panics_total"); n != 0 {
		l.t.Errorf("%v panics", n)
	}
}

// calmed waits until nothing is left of an attack.
func (l *larboard) calmed(before load) {
	l.t.Helper()
	eventually(l.t, time.Minute, "everything is given back", func() error {
		// Ordinary requests go on, and take tasks.
		if now := l.load(); now.tasks > before.tasks+2*underway || now.attacked > before.attacked {
			return fmt.Errorf("%+v, was %+v", now, before)
		}
		return nil
	})
}

func eventually(t testing.TB, within time.Duration, what string, cond func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, within, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

var errNotYet = errors.New("not yet")
