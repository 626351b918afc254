//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"time"
)

// roleNetHTTP is the argument that makes this binary a proxy of net/http and its
// ReverseProxy, the one most Go proxies are made of: not a rival, but for orientation.
const roleNetHTTP = "net-http"

// netHTTPConfig is written as JSON.
const netHTTPConfig = `{"listeners": [
{"address": "{{.HTTP}}", "origin": "{{.Origin.HTTP}}"}{{if .WantH2}},
{"address": "{{.H2}}", "origin": "{{.Origin.H2}}", "http2": true},
{"address": "{{.H2Down}}", "origin": "{{.Origin.HTTP}}"},
{"address": "{{.H2TLS}}", "origin": "{{.Origin.HTTP}}", "cert": "{{.Files.Site.Cert}}", "key": "{{.Files.Site.Key}}"}{{end}}
]}`

// netHTTPListener is one listener; it takes both versions of HTTP.
type netHTTPListener struct {
	Address string `json:"address"`
	Origin  string `json:"origin"`
	HTTP2   bool   `json:"http2"` // towards the origin
	Cert    string `json:"cert"`
	Key     string `json:"key"`
}

// runNetHTTP serves what the file says until ctx ends.
func runNetHTTP(ctx context.Context, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("net/http: %w", err)
	}
	var config struct {
		Listeners []netHTTPListener `json:"listeners"`
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return fmt.Errorf("net/http: %w", err)
	}
	ended := make(chan error, len(config.Listeners))
	for _, l := range config.Listeners {
		server := l.server()
		defer server.Close()
		go func() {
			if l.Cert != "" {
				ended <- server.ListenAndServeTLS(l.Cert, l.Key)
			} else {
				ended <- server.ListenAndServe()
			}
		}()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		return fmt.Errorf("net/http: %w", err)
	}
}

func (l netHTTPListener) server() *http.Server {
	var down, up http.Protocols
	down.SetHTTP1(true)
	down.SetHTTP2(true)
	down.SetUnencryptedHTTP2(true)
	up.SetHTTP1(!l.HTTP2)
	up.SetUnencryptedHTTP2(l.HTTP2)
	proxy := &httputil.ReverseProxy{
		Transport: &http.Transport{
			Protocols: &up, MaxIdleConns: 1024, MaxIdleConnsPerHost: 1024, IdleConnTimeout: 10 * time.Minute, DisableCompression: true,
		},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: l.Origin})
			r.Out.Host = r.In.Host
			r.SetXForwarded()
			r.Out.Header.Set("X-Request-Id", randomID())
		},
		ErrorLog: log.New(os.Stderr, "", 0),
	}
	return &http.Server{Addr: l.Address, Handler: proxy, Protocols: &down, IdleTimeout: 10 * time.Minute, ReadHeaderTimeout: 10 * time.Second}
}

func randomID() string {
	a, b := rand.Uint64(), rand.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", a>>32, a>>16&0xffff, a&0xfff, 0x8000|b>>48&0x3fff, b&(1<<48-1))
}

// netHTTP is that proxy as a contender.
func netHTTP(self string) contender {
	return contender{name: "net-http", parts: []part{{name: "net-http", config: netHTTPConfig, listens: h2Only,
		argv: func(config string, _ *site) []string { return []string{self, roleNetHTTP, config} }}}}
}
