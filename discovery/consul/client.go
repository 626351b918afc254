// Package consul finds endpoints in Consul with blocking queries, in the steady
// presence of agents that hang, restart, lose their leader or forget everything.
// It is the only importer of Consul's client library, and it must not know of
// configuration files, balancing or the proxy.
package consul

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

// DefaultWait is how long a blocking query waits for a change. Consul's own
// default is five minutes; an agent that hangs without closing its connection is
// noticed only after the wait, so it is shorter here, at the price of one small
// query a minute and service.
const DefaultWait = time.Minute

// MaxWait is the longest wait that Consul accepts.
const MaxWait = 10 * time.Minute

// Options say how to reach an agent. The zero value is the agent on this host,
// without token and TLS.
//
// Of Consul's environment variables only CONSUL_NAMESPACE and CONSUL_PARTITION
// have an effect, where the fields here are empty.
type Options struct {
	// Address is host:port, http://host:port, https://host:port or unix:///path;
	// empty: 127.0.0.1:8500.
	Address string
	// Token is the ACL token; it must not be combined with TokenFile.
	Token string
	// TokenFile holds the ACL token. It is read for each query, so that a rotated
	// token takes effect by itself; while it cannot be read the last token is used.
	TokenFile string
	// Datacenter, Namespace and Partition apply to every query that names none.
	Datacenter, Namespace, Partition string
	// TLS applies to https addresses.
	TLS TLS
	// Wait is the longest a blocking query waits; 0: DefaultWait.
	Wait time.Duration
	// Log gets the state changes; nil discards. The token is never logged.
	Log *slog.Logger
	// Rand returns numbers in [0, 1) for jitter; nil: math/rand. It must be safe for
	// concurrent use.
	Rand func() float64

	// transport replaces the network in tests.
	transport http.RoundTripper
}

// TLS names the files for an https agent. The key pair is read at each handshake,
// the CA once.
type TLS struct {
	CA, Cert, Key string
	// ServerName is verified instead of the address's host.
	ServerName string
}

// Client talks to one agent. It is safe for concurrent use.
type Client struct {
	// immutable after New
	options Options
	address string // for messages: never holds a secret
	target  target
	api     *api.Client
	http    *http.Client // beneath api
	token   *tokenSource
	log     *slog.Logger
	rand    func() float64
	idle    func()
	pace    *shared // of all watches together

	mu      sync.Mutex        // guards what follows
	reaches map[string]*reach // by datacenter
}

// New checks o and returns a client; it reads the CA file and opens no connection.
func New(o Options) (*Client, error) {
	target, err := parseAddress(o.Address)
	if err != nil {
		return nil, err
	}
	if o.Token != "" && o.TokenFile != "" {
		return nil, errors.New("consul: token and token file are both given")
	}
	if o.Wait < 0 || o.Wait > MaxWait {
		return nil, fmt.Errorf("consul: wait %v is not between 0 and %v", o.Wait, MaxWait)
	}
	if o.Wait == 0 {
		o.Wait = DefaultWait
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	c := &Client{options: o, address: target.String(), target: target, log: o.Log, rand: o.Rand, idle: func() {},
		pace: &shared{bucket: newBucket(allBurst, allRefill)}, reaches: map[string]*reach{}}
	c.token = &tokenSource{fixed: o.Token, file: o.TokenFile, log: o.Log}
	if err := c.connect(target); err != nil {
		return nil, err
	}
	return c, nil
}

// connect makes the library's client over a transport of our own.
func (c *Client) connect(target target) error {
	base := c.options.transport
	if base == nil {
		t, err := newTransport(target, c.options.TLS)
		if err != nil {
			return err
		}
		base, c.idle = t, t.CloseIdleConnections
	}
	c.http = &http.Client{
		Transport: transport{base: base, token: c.token},
		// The token must not follow a redirect to another host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	library, err := api.NewClient(&api.Config{
		Address:    target.host,
		Scheme:     target.scheme,
		HttpClient: c.http,
		// Keeps the library from looking for a token in its environment; the transport
		// replaces it.
		Token: "set-by-the-transport",
	})
	if err != nil {
		return fmt.Errorf("consul: %w", err)
	}
	c.api = library
	return nil
}

// reach is what is known of a datacenter; empty: the agent's own.
func (c *Client) reach(datacenter string) *reach {
	datacenter = firstOf(datacenter, c.options.Datacenter)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaches[datacenter] == nil {
		c.reaches[datacenter] = newReach()
	}
	return c.reaches[datacenter]
}

// Close closes idle connections. Sources that still run are not disturbed.
func (c *Client) Close() { c.idle() }

// Namespace is the one that applies to queries that name none; empty: the agent's default.
func (c *Client) Namespace() string { return c.options.Namespace }

// key identifies the settings of c without giving its token away.
func (c *Client) key() string {
	o := c.options
	return fmt.Sprintf("%q %x %q %q %q %q %q %v", c.address, sha256.Sum256([]byte(o.Token)), o.TokenFile,
		o.Datacenter, o.Namespace, o.Partition, []string{o.TLS.CA, o.TLS.Cert, o.TLS.Key, o.TLS.ServerName}, o.Wait)
}

// target is a parsed address.
type target struct {
	scheme string // http or https
	host   string // host:port; of a socket: localhost
	socket string // path of the Unix socket
}

func (t target) String() string {
	if t.socket != "" {
		return "unix://" + t.socket
	}
	return t.scheme + "://" + t.host
}

// parseAddress reads the forms that Options.Address takes.
func parseAddress(address string) (target, error) {
	if address == "" {
		address = "127.0.0.1:8500"
	}
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		if !strings.HasPrefix(path, "/") || len(path) == 1 {
			return target{}, fmt.Errorf("consul: address %q: want unix:///path", address)
		}
		return target{scheme: "http", host: "localhost", socket: path}, nil
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		// The parser's message repeats the address, which may hold a password.
		return target{}, errors.New("consul: address: not a valid URL")
	}
	return checkURL(u)
}

// checkURL refuses what an agent's address cannot have.
func checkURL(u *url.URL) (target, error) {
	switch {
	case u.User != nil:
		return target{}, fmt.Errorf("consul: address %q: user and password are not supported, use a token", u.Redacted())
	case u.Scheme != "http" && u.Scheme != "https":
		return target{}, fmt.Errorf("consul: address %q: want http, https or unix", u)
	case u.Hostname() == "":
		return target{}, fmt.Errorf("consul: address %q: no host", u)
	case u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return target{}, fmt.Errorf("consul: address %q: only host and port are expected", u)
	}
	host := u.Host
	if u.Port() == "" {
		port := map[string]string{"http": ":8500", "https": ":8501"}[u.Scheme]
		host = strings.TrimSuffix(host, ":") + port
	}
	return target{scheme: u.Scheme, host: host}, nil
}
