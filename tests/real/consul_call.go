package real

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Service is a registration as Consul's agent takes it; fields left out keep
// Consul's defaults.
type Service struct {
	ID         string            `json:",omitempty"`
	Name       string            `json:",omitempty"`
	Kind       string            `json:",omitempty"`
	Address    string            `json:",omitempty"`
	Port       int               `json:",omitempty"`
	SocketPath string            `json:",omitempty"`
	Tags       []string          `json:",omitempty"`
	Meta       map[string]string `json:",omitempty"`
	Weights    *Weights          `json:",omitempty"`
	Proxy      map[string]any    `json:",omitempty"`
	Connect    map[string]any    `json:",omitempty"`
	Checks     []Check           `json:",omitempty"`
}

// Weights are the shares of an instance by its state.
type Weights struct{ Passing, Warning int }

// Check is one health check of a Service; durations as "10s".
type Check struct {
	CheckID  string `json:",omitempty"`
	Name     string `json:",omitempty"`
	TTL      string `json:",omitempty"`
	HTTP     string `json:",omitempty"`
	TCP      string `json:",omitempty"`
	Interval string `json:",omitempty"`
	Timeout  string `json:",omitempty"`
	// Status is the first state: passing, warning or critical (Consul's default).
	Status string `json:",omitempty"`

	DeregisterCriticalServiceAfter string `json:",omitempty"`
}

// Register adds or replaces services.
func (c *ConsulAgent) Register(services ...Service) {
	c.t.Helper()
	for _, s := range services {
		c.must(http.MethodPut, "/v1/agent/service/register", s, nil)
	}
}

// Source is one rule of a destination's intentions. Exactly one of Action and
// Permissions is set.
type Source struct {
	Name        string
	Action      string           `json:",omitempty"` // allow or deny
	Permissions []map[string]any `json:",omitempty"`
}

// Intend replaces the intentions for a destination; without a source it has none.
func (c *ConsulAgent) Intend(destination string, sources ...Source) {
	c.t.Helper()
	if len(sources) == 0 {
		c.must(http.MethodDelete, "/v1/config/service-intentions/"+url.PathEscape(destination), nil, nil)
		return
	}
	c.must(http.MethodPut, "/v1/config", map[string]any{"Kind": "service-intentions", "Name": destination, "Sources": sources}, nil)
}

// Deregister takes services away by their ID.
func (c *ConsulAgent) Deregister(ids ...string) {
	c.t.Helper()
	for _, id := range ids {
		c.must(http.MethodPut, "/v1/agent/service/deregister/"+url.PathEscape(id), nil, nil)
	}
}

// SetCheck reports the state of a TTL check: passing, warning or critical.
func (c *ConsulAgent) SetCheck(id, state string) {
	c.t.Helper()
	c.must(http.MethodPut, "/v1/agent/check/update/"+url.PathEscape(id), map[string]string{"Status": state, "Output": "set by a test"}, nil)
}

// NewToken makes an ACL token with the given rules and returns its secret.
func (c *ConsulAgent) NewToken(name, rules string) (secret string) {
	c.t.Helper()
	c.must(http.MethodPut, "/v1/acl/policy", map[string]string{"Name": name, "Rules": rules}, nil)
	var token struct{ SecretID string }
	c.must(http.MethodPut, "/v1/acl/token", map[string]any{
		"Description": name, "Policies": []map[string]string{{"Name": name}},
	}, &token)
	return token.SecretID
}

func (c *ConsulAgent) must(method, path string, in, out any) {
	c.t.Helper()
	if err := c.Call(method, path, in, out); err != nil {
		c.t.Fatalf("consul: %v", err)
	}
}

// Call sends one request of Consul's HTTP API with the management token; in and
// out are JSON values, nil for none. Unlike the other methods it may be called from
// any goroutine.
func (c *ConsulAgent) Call(method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base()+path, body)
	if err != nil {
		return err
	}
	if c.Token != "" {
		req.Header.Set("X-Consul-Token", c.Token)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// base is the URL in front of an API path.
func (c *ConsulAgent) base() string {
	if c.options.Socket {
		return "http://localhost"
	}
	return c.Address
}

// httpClient reaches the agent by its socket or with its certificates.
func (c *ConsulAgent) httpClient() *http.Client {
	transport := &http.Transport{}
	if c.options.Socket {
		path := strings.TrimPrefix(c.Address, "unix://")
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	}
	if c.options.TLS {
		transport.TLSClientConfig = &tls.Config{RootCAs: c.Certificates.pool, Certificates: []tls.Certificate{c.Certificates.pair}}
	}
	return &http.Client{Transport: transport}
}
