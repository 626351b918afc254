package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/load"
)

const (
	bulk     = 1 << 30
	tailRate = 400
)

// TestBulkBesideSmallRequests: one connection downloads 1 GiB, again and again, while
// 100 connections send small requests through the same listener. Phases with and
// without it alternate. What is measured should be the proxy: the sender and the
// reader of the bulk, elsewhere in real life, are processes of their own and of the
// lowest priority. They still take memory bandwidth and, on two CPUs, the proxy its
// processor; so the third kind of phase downloads past the proxy, for comparison.
func TestBulkBesideSmallRequests(t *testing.T) {
	small, sender, reader := startWorkload(t, "small"), startWorkload(t, "sender"), startWorkload(t, "reader")
	sender.yield(t)
	reader.yield(t)
	p := start(t, "proxy", fmt.Sprintf("listeners:\n- {name: in, address: 127.0.0.1:0, routes: [{match: {path: /bulk}, service: bulk}, {service: small}]}\n"+
		"services: [{name: small, endpoints: [%q]}, {name: bulk, endpoints: [%q]}]\n", small.address, sender.address))
	rounds, length := 3, time.Second
	if long() {
		rounds, length = 11, 4*time.Second
	}
	kinds := []struct{ name, download string }{
		{"alone", ""}, {"beside the download", p.address("in")}, {"beside a download past the proxy", sender.address},
	}
	tails, moved := make([][]time.Duration, len(kinds)), make([]int64, len(kinds))
	for range rounds {
		for i, k := range kinds {
			downloaded := func() int64 { return 0 }
			if k.download != "" {
				downloaded = reader.download(t, k.download, length)
			}
			r := load.HTTP(context.Background(), load.Options{Addr: p.address("in"), Conns: 100, Rate: tailRate, Duration: length, WantBody: []byte("small")})
			moved[i] += downloaded()
			mustBeClean(t, r)
			tails[i] = append(tails[i], r.P99)
		}
	}
	medians := make([]time.Duration, len(kinds))
	for i, k := range kinds {
		slices.Sort(tails[i])
		medians[i] = tails[i][rounds/2]
		t.Logf("%s: p99 %v (median of %d, from %v to %v), %.1f GiB moved", k.name, medians[i], rounds, tails[i][0], tails[i][rounds-1], float64(moved[i])/bulk)
	}
	t.Logf("ratios: %.2f to alone, %.2f to the download past the proxy", ratio(medians[1], medians[0]), ratio(medians[1], medians[2]))
	if long() && moved[1] < bulk {
		t.Errorf("only %d bytes were downloaded", moved[1])
	}
	// The claim is 2; the bound is for a machine that does other work beside.
	if long() && ratio(medians[1], medians[0]) > 4 {
		t.Errorf("p99 %v beside the download, %v alone", medians[1], medians[0])
	}
}

// yield gives all threads of the workload, and those that they will make, the lowest
// priority.
func (w *workload) yield(t testing.TB) {
	t.Helper()
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", w.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range threads {
		id, err := strconv.Atoi(one.Name())
		if err == nil {
			err = syscall.Setpriority(syscall.PRIO_PROCESS, id, 19)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

// bulky is a workload's handler that also moves bulk: /bulk answers with 1 GiB, and
// /fetch?from=ADDRESS&for=DURATION downloads that from elsewhere, again and again
// over one connection, and answers with the number of bytes.
func bulky(next http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/bulk":
			sendBulk(w)
		case "/fetch":
			n, err := fetchBulk(r.Context(), r.FormValue("from"), r.FormValue("for"))
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			_, _ = fmt.Fprint(w, n)
		default:
			next.ServeHTTP(w, r)
		}
	}
}

func sendBulk(w http.ResponseWriter) {
	w.Header().Set("Content-Length", strconv.Itoa(bulk))
	piece := make([]byte, 256<<10)
	for range bulk / len(piece) {
		if _, err := w.Write(piece); err != nil {
			return
		}
	}
}

func fetchBulk(ctx context.Context, from, length string) (total int64, err error) {
	d, err := time.ParseDuration(length)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{ReadBufferSize: 256 << 10}}
	defer client.CloseIdleConnections()
	buf := make([]byte, 256<<10)
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+from+"/bulk", nil)
		if err != nil {
			return total, err
		}
		resp, err := client.Do(request)
		if ctx.Err() != nil {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		for err == nil {
			var n int
			n, err = resp.Body.Read(buf)
			total += int64(n)
		}
		resp.Body.Close()
		if ctx.Err() != nil {
			return total, nil
		}
		if err != io.EOF {
			return total, err
		}
	}
}

// download has the workload download from an address for a while; moved waits for
// it and returns the bytes.
func (w *workload) download(t testing.TB, from string, length time.Duration) (moved func() int64) {
	type result struct {
		n   int64
		err error
	}
	done := make(chan result, 1)
	go func() {
		resp, err := http.Get(fmt.Sprintf("http://%s/fetch?from=%s&for=%v", w.address, from, length))
		if err != nil {
			done <- result{err: err}
			return
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%d %s", resp.StatusCode, text)
		}
		n, _ := strconv.ParseInt(string(text), 10, 64)
		done <- result{n, err}
	}()
	return func() int64 {
		t.Helper()
		r := <-done
		if r.err != nil {
			t.Errorf("download from %s: %v", from, r.err)
		}
		return r.n
	}
}
