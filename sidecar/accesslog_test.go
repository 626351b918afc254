package sidecar

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// linesOf counts the lines of a file.
func linesOf(t testing.TB, path string) int {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(data, []byte("\n"))
}

// While requests go on, reloads replace one log by another, change its format and keep a third:
// each request has its line in the one that is in force, and in the third.
func TestReloadChangesAccessLogsWithoutLosingALine(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer origin.Close()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	conf := func(logs string) string {
		return fmt.Sprintf("loops: 2\naccess_log: [{name: kept, path: %q, format: json}%s]\nlisteners: [{name: in, address: 127.0.0.1:0, service: a}]\n"+
			"services: [{name: a, endpoints: [%s]}]\n", path("kept"), logs, origin.Listener.Addr())
	}
	r := start(t, conf(fmt.Sprintf(", {name: other, path: %q}", path("0"))))
	url := "http://" + r.address("in") + "/"
	var asked atomic.Int64
	var clients sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := http.Get(url)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				asked.Add(1)
			}
		})
	}
	const changes = 6
	for i := range changes {
		before := asked.Load()
		eventually(t, "requests", func() bool { return asked.Load() > before+20 })
		format := []string{"json", "text", "httplog"}[i%3]
		r.write(conf(fmt.Sprintf(", {name: other, path: %q, format: %s}", path(fmt.Sprint(i+1)), format)))
		if err := r.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	clients.Wait()
	eventually(t, "a line for each request", func() bool {
		c := r.access.set.Counts()
		return c["kept"].Written == uint64(asked.Load()) && c["other"].Written == uint64(asked.Load()) && c["other"].Dropped+c["other"].Failed == 0
	})
	sum := 0
	for i := range changes + 1 {
		sum += linesOf(t, path(fmt.Sprint(i)))
	}
	if kept := linesOf(t, path("kept")); kept != int(asked.Load()) || sum != kept {
		t.Errorf("%d requests, %d lines in the log that stayed, %d in those that changed", asked.Load(), kept, sum)
	}
}

// A log that cannot be opened refuses the whole reload, and the logs in force go on.
func TestReloadWithALogThatCannotBeOpenedIsRefused(t *testing.T) {
	dir := t.TempDir()
	conf := "access_log: [{path: %q}%s]\nlisteners: [{name: in, address: 127.0.0.1:0, service: a}]\nservices: [{name: a, endpoints: [127.0.0.1:1]}]\n"
	good := filepath.Join(dir, "good")
	r := start(t, fmt.Sprintf(conf, good, ""))
	r.write(fmt.Sprintf(conf, filepath.Join(dir, "new"), fmt.Sprintf(", {path: %q}", filepath.Join(dir, "none", "log"))))
	if err := r.Reload(); err == nil || !strings.Contains(err.Error(), "access log") {
		t.Fatalf("Reload: %v", err)
	}
	resp, err := http.Get("http://" + r.address("in") + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	eventually(t, "the line in the old log", func() bool { return linesOf(t, good) == 1 })
}

func TestReopenLogs(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "d", "log")
	if err := os.Mkdir(filepath.Dir(log), 0o700); err != nil {
		t.Fatal(err)
	}
	r := start(t, fmt.Sprintf("access_log: [{path: %q}, {name: out, path: off}]\nlisteners: [{name: in, address: 127.0.0.1:0, service: a}]\n"+
		"services: [{name: a, endpoints: [127.0.0.1:1]}]\n", log))
	if names, err := r.ReopenLogs(); err != nil || len(names) != 1 || names[0] != "access" {
		t.Errorf("%v, %v", names, err)
	}
	if err := os.Rename(filepath.Dir(log), filepath.Join(dir, "away")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReopenLogs(); err == nil {
		t.Error("no error without a directory")
	}
}
