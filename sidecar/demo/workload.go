package demo

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// answer is what a workload says: its own name and, for api, what stock said.
type answer struct {
	By    string  `json:"by"`
	Items int     `json:"items"`
	Via   *answer `json:"via,omitempty"`
}

// tryTimeout is how long web's sidecar waits for one instance of api before it asks
// another.
const tryTimeout = 2 * time.Second

// callTimeout is how long a workload waits for another.
const callTimeout = 10 * time.Second

// workload is a small application: it knows nothing of the mesh and speaks plain text to
// its own sidecar. api serves HTTP and calls stock, which serves gRPC.
type workload struct {
	name          string
	addr          string
	stop          func() // at once
	failing, slow atomic.Bool
	spoilt        atomic.Int64 // answers that it was made to fail, or to give late
	// stock is reached through the own sidecar; nil: the workload calls nobody.
	stock atomic.Pointer[grpc.ClientConn]
}

func startWorkload(name, service string) (*workload, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &workload{name: name, addr: l.Addr().String()}
	if service == "stock" {
		server := newStockServer(w)
		w.stop = server.Stop
		go server.Serve(l)
		return w, nil
	}
	server := &http.Server{Handler: w, ReadHeaderTimeout: 5 * time.Second}
	w.stop = func() { server.Close() }
	go server.Serve(l)
	return w, nil
}

// call makes the workload ask stock at addr, where its sidecar listens for it.
func (w *workload) call(addr string) error {
	client, err := newStockClient(addr)
	if err == nil {
		w.stock.Store(client)
	}
	return err
}

// kill ends the workload at once, as a crash would.
func (w *workload) kill() {
	w.stop()
	if client := w.stock.Load(); client != nil {
		client.Close()
	}
}

// ServeHTTP implements http.Handler for api.
func (w *workload) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if w.failing.Load() {
		w.spoilt.Add(1)
		http.Error(rw, "out of order", http.StatusInternalServerError)
		return
	}
	if r.Header.Get(outOfOrder) == w.name {
		http.Error(rw, "out of order", http.StatusServiceUnavailable)
		return
	}
	if w.slow.Load() {
		w.spoilt.Add(1)
		sleep(r.Context(), 3*tryTimeout)
	}
	a := answer{By: w.name, Items: 42}
	if client := w.stock.Load(); client != nil {
		// What a workload has to do for traces: to pass the context on.
		ctx := metadata.AppendToOutgoingContext(r.Context(), "traceparent", r.Header.Get("traceparent"))
		via, err := askStock(ctx, client)
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadGateway)
			return
		}
		a.Via = via
	}
	rw.Header().Set("content-type", "application/json")
	json.NewEncoder(rw).Encode(a)
}

// count implements counter for stock.
func (w *workload) count(context.Context, *question) (*answer, error) {
	return &answer{By: w.name, Items: 42}, nil
}

func newClient() *http.Client {
	return &http.Client{Timeout: callTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
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
