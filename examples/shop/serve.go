package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// answer is what a service says: who it is, and what the one that it calls said.
type answer struct {
	By  string  `json:"by"`
	Via *answer `json:"via,omitempty"`
}

// passedOn are the fields that belong to a trace: the one thing that an application does for it.
var passedOn = []string{"Traceparent", "Tracestate"}

// serve is one service. It calls another at a URL of its own host, where its proxy listens.
func serve(ctx context.Context, args []string) error {
	f := flags("serve")
	name := f.String("name", "shop", "what it calls itself")
	address := f.String("listen", "127.0.0.1:8080", "where it listens")
	call := f.String("call", "", "URL that each request asks; empty: none")
	_ = f.Parse(args)
	return listen(ctx, *address, service(*name, *call))
}

func service(name, call string) http.Handler {
	client := newClient()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := answer{By: name}
		if call != "" && r.URL.Path != "/health" {
			body, err := get(r.Context(), client, call, r.Header)
			if err == nil {
				err = json.Unmarshal(body, &a.Via)
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
		}
		w.Header().Set("content-type", "application/json")
		_ = json.NewEncoder(w).Encode(a)
	})
}

func newClient() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
}

// get is the body of a GET that is answered with 200.
func get(ctx context.Context, client *http.Client, url string, from http.Header) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	for _, name := range passedOn {
		if v := from.Get(name); v != "" {
			req.Header.Set(name, v)
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s %s: %.200s", url, resp.Status, resp.Header.Get("X-Larboard-Reason"), body)
	}
	return body, nil
}
