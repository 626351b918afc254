package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/larboard-proxy/larboard/discovery/consul"
	"github.com/larboard-proxy/larboard/sidecar"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

// definitionWithin is how long `run` waits at its start for a definition that cannot
// be read: agent, service and proxy may be starting together.
const definitionWithin = time.Minute

// origin is where a configuration comes from: a file, the definition of a sidecar in
// Consul, or both. Its methods are safe for concurrent use.
type origin struct {
	// from the command line
	file       string // empty: none
	sidecarFor string // empty: the file says everything
	consul     string
	tokenFile  string
	getenv     func(string) string

	mu     sync.Mutex // guards what follows
	log    *slog.Logger
	client *consul.Client
	proxy  string             // ID
	read   *consul.Definition // the last one
	unused string             // what of it has no effect, as last said
}

// originFlags gives cmd the flags that say where its configuration comes from; call the
// result once they are parsed.
func originFlags(cmd *cobra.Command) func() (*origin, error) {
	o := &origin{getenv: os.Getenv, log: slog.New(slog.DiscardHandler)}
	file := configFlag(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.sidecarFor, "sidecar-for", "", "be the sidecar registered in Consul for the service with this `ID`")
	flags.StringVar(&o.consul, "consul", "", "`ADDRESS` of the Consul agent (with --sidecar-for)")
	flags.StringVar(&o.tokenFile, "token-file", "", "`FILE` with the ACL token (with --sidecar-for)")
	return func() (*origin, error) {
		if o.sidecarFor == "" && (o.consul != "" || o.tokenFile != "") {
			return nil, &ExitError{Code: exitUsage, Err: fmt.Errorf("--consul and --token-file go with --sidecar-for; a file says it under consul")}
		}
		if o.sidecarFor == "" || flags.Changed("config") {
			o.file = *file
		}
		return o, nil
	}
}

// name is what problems as a whole are reported of.
func (o *origin) name() string {
	if o.file == "" {
		return "sidecar of " + o.sidecarFor
	}
	return o.file
}

// load reads the configuration as it is now; an error is that of asking Consul.
func (o *origin) load() (*config.Config, config.Problems, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	name, data := o.name(), []byte(nil)
	if o.file != "" {
		var problems config.Problems
		if data, problems = readFile(o.file); problems != nil {
			return nil, problems, nil
		}
	}
	if o.sidecarFor == "" {
		c, problems := config.Load(name, data)
		return c, problems, nil
	}
	var err error
	c, problems := config.LoadWith(name, data, func(c *config.Config) (problems config.Problems) {
		if problems, err = o.add(c); err != nil {
			problems = config.Problems{{Message: err.Error()}} // a part is missing: no point in looking at the whole
		}
		return problems
	})
	if err != nil && len(problems) > 1 {
		return c, problems[1:], nil // those of the file do not wait for Consul
	}
	return c, problems, err
}

// checked is load that looks also into the files that the configuration names.
func (o *origin) checked() (*config.Config, config.Problems, error) {
	c, problems, err := o.load()
	if c != nil && err == nil {
		problems = append(problems, namedFiles(c)...)
		problems.Sort()
	}
	return c, problems, err
}

// add adds what Consul and its environment say. Called with mu held.
func (o *origin) add(c *config.Config) (config.Problems, error) {
	if err := o.reach(c); err != nil {
		if c.Given("consul") {
			return config.Problems{c.ProblemAt("consul", strings.TrimPrefix(err.Error(), "consul: "))}, nil
		}
		return nil, &ExitError{Code: exitUsage, Err: err}
	}
	ctx := context.Background()
	if o.proxy == "" {
		proxy, err := o.client.SidecarFor(ctx, o.sidecarFor)
		if err != nil {
			return nil, err
		}
		o.proxy = proxy
	}
	read, err := o.client.Definition(ctx, o.proxy)
	if err != nil {
		return nil, err
	}
	o.read = read
	ignored, problems := defined(read).AddTo(c)
	if unused := strings.Join(ignored, ", "); unused != o.unused {
		o.unused = unused
		o.log.Warn("settings of the definition have no effect", "proxy", o.proxy, "settings", ignored)
	}
	return problems, nil
}

// defined is a definition in the words of package config.
func defined(d *consul.Definition) *config.Definition {
	out := &config.Definition{
		ID: d.ID, Service: d.Service, Address: d.Address, Port: d.Port, LocalAddress: d.LocalAddress,
		LocalPort: d.LocalPort, LocalSocket: d.LocalSocket, Mode: d.Mode, Exposed: d.Exposed,
		Protocol: d.Protocol, Config: d.Config,
	}
	for _, u := range d.Upstreams {
		out.Upstreams = append(out.Upstreams, config.DefinedUpstream(u))
	}
	return out
}

// reach says in c how the agent is reached, where a file does not, and connects to it
// the first time. Called with mu held.
func (o *origin) reach(c *config.Config) error {
	if !c.Given("consul") {
		if err := consulEnvironment(&c.Consul, o.getenv); err != nil {
			return err
		}
	}
	if o.consul != "" {
		c.Consul.Address = o.consul
	}
	if o.tokenFile != "" {
		c.Consul.Token, c.Consul.TokenFile = "", o.tokenFile
	}
	if o.client != nil {
		return nil
	}
	client, err := sidecar.NewConsul(&c.Consul, o.log)
	o.client = client
	return err
}

// await is checked that gives Consul time; it says once what it waits for. What no
// time mends is not waited for.
func (o *origin) await(within time.Duration) (c *config.Config, problems config.Problems, err error) {
	deadline, said := time.Now().Add(within), ""
	for {
		c, problems, err = o.checked()
		if err == nil || errors.As(err, new(*ExitError)) || time.Now().After(deadline) {
			return c, problems, err
		}
		if text := err.Error(); text != said {
			said = text
			o.log.Warn("waiting for the sidecar's definition", "error", err)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// watch calls reload at each change of the definition, until ctx ends.
func (o *origin) watch(ctx context.Context, reload func()) error {
	o.mu.Lock()
	client, proxy, hash := o.client, o.proxy, o.read.Hash
	o.mu.Unlock()
	return client.WatchDefinition(ctx, proxy, hash, func() string {
		reload()
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.read.Hash
	})
}

// consulEnvironment takes over what the commands of Consul take from the environment.
func consulEnvironment(c *config.Consul, getenv func(string) string) error {
	for name, instead := range map[string]string{
		"CONSUL_HTTP_AUTH": "use a token", "CONSUL_CAPATH": "name one file with CONSUL_CACERT",
	} {
		if getenv(name) != "" {
			return fmt.Errorf("%s is not supported: %s", name, instead)
		}
	}
	if text := getenv("CONSUL_HTTP_SSL_VERIFY"); text != "" {
		if verify, err := strconv.ParseBool(text); err != nil || !verify {
			return fmt.Errorf("CONSUL_HTTP_SSL_VERIFY=%s is not supported: name the agent's authority with CONSUL_CACERT", text)
		}
	}
	if address := getenv("CONSUL_HTTP_ADDR"); address != "" {
		c.Address = address
	}
	if ssl, err := strconv.ParseBool(getenv("CONSUL_HTTP_SSL")); err == nil && ssl && !strings.HasPrefix(c.Address, "unix://") {
		_, host, found := strings.Cut(c.Address, "://")
		if !found {
			host = c.Address
		}
		c.Address = "https://" + host
	}
	c.Token = config.Secret(getenv("CONSUL_HTTP_TOKEN"))
	if file := getenv("CONSUL_HTTP_TOKEN_FILE"); file != "" {
		c.Token, c.TokenFile = "", file
	}
	c.Namespace, c.Partition = getenv("CONSUL_NAMESPACE"), getenv("CONSUL_PARTITION")
	t := config.ClientTLS{
		CA: getenv("CONSUL_CACERT"), Cert: getenv("CONSUL_CLIENT_CERT"), Key: getenv("CONSUL_CLIENT_KEY"),
		ServerName: getenv("CONSUL_TLS_SERVER_NAME"),
	}
	if t != (config.ClientTLS{}) && strings.HasPrefix(c.Address, "https://") {
		c.TLS = &t
	}
	return nil
}
