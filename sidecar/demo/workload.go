package demo

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// answer is what a workload says: its own name and, for api, what stock said.
type answer struct {
	By    string  `json:"by"`
	Items int     `json:"items"`
	Via   *answer `json:"via,omitempty"`
}

// workload is a small application: it knows nothing of the mesh and speaks plain
// HTTP to its own sidecar.
type workload struct {
	name   string
	server *http.Server
	addr   string
	// next is where its sidecar listens for it; empty: it calls nobody.
	next   atomic.Pointer[string]
	client *http.Client
}

func startWorkload(name string) (*workload, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &workload{name: name, addr: l.Addr().String(), client: newClient()}
	w.server = &http.Server{Handler: w, ReadHeaderTimeout: 5 * time.Second}
	go w.server.Serve(l)
	return w, nil
}

func newClient() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
}

// kill ends the workload at once, as a crash would.
func (w *workload) kill() {
	w.server.Close()
	w.client.CloseIdleConnections()
}

// ServeHTTP implements http.Handler.
func (w *workload) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	a := answer{By: w.name, Items: 42}
	if next := w.next.Load(); next != nil {
		via, err := ask(r.Context(), w.client, *next)
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadGateway)
			return
		}
		a.Via = via
	}
	rw.Header().Set("content-type", "application/json")
	json.NewEncoder(rw).Encode(a)
}

// ask makes one call and insists on a whole, proper answer.
func ask(ctx context.Context, c *http.Client, addr string) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/items", nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, &badStatus{resp.StatusCode, resp.Header.Get("X-Larboard-Reason"), string(body)}
	}
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, err
	}
	return &a, nil
}
