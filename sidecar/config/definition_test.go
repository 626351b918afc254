package config

import (
	"regexp"
	"strings"
	"testing"
)

// fromDefinition is what a definition comes to beside a file.
func fromDefinition(d *Definition, file string) (c *Config, ignored []string, problems Problems) {
	c, problems = LoadWith("rest.yaml", []byte(file), func(c *Config) (ps Problems) {
		ignored, ps = d.AddTo(c)
		return ps
	})
	return c, ignored, problems
}

// defaultFlags are lines of no interest here.
var defaultFlags = regexp.MustCompile(`(?m)^ *[a-z0-9_]+: false\n`)

func webDefinition() *Definition {
	return &Definition{ID: "web-sidecar-proxy", Service: "web", Port: 21000, LocalPort: 8000}
}

func TestDefinitionBecomesAConfiguration(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*Definition)
		file    string
		want    []string // parts of the printed expansion
		absent  string
		ignored string
	}{
		"the least": {nil, "", []string{
			"name: inbound\n    direction: inbound\n    address:\n      - 0.0.0.0:21000\n    protocol: tcp",
			"intentions:\n      service: web", "identity:\n  consul:\n    service: web", "address: 127.0.0.1:8000",
		}, "direction: outbound", ""},
		"settings of the proxy": {func(d *Definition) {
			d.Address, d.LocalAddress = "10.0.0.1", "127.0.0.2"
			d.Config = map[string]any{"protocol": "http", "bind_address": "127.0.0.9", "bind_port": 22000.0, "local_connect_timeout_ms": "250",
				"local_request_timeout_ms": 7000.0, "handshake_timeout_ms": 3000.0, "envoy_dogstatsd_url": "udp://127.0.0.1"}
		}, "", []string{"- 127.0.0.9:22000\n    protocol: http", "address: 127.0.0.2:8000", "connect: 250ms", "request: 7s", "request_head: 3s"},
			"", "Proxy.Config.envoy_dogstatsd_url"},
		"upstreams": {func(d *Definition) {
			d.Upstreams = []DefinedUpstream{
				{Name: "api", Port: 9191, Protocol: "grpc", Config: map[string]any{"connect_timeout_ms": 800.0}},
				{Name: "api", Port: 9192, Datacenter: "dc2", Address: "127.0.0.3", Protocol: "http"},
				{Name: "local", Port: 9193, Namespace: "team"},
				{Name: "mail", Socket: "/run/mail.sock", SocketMode: "0600"},
			}
		}, "", []string{
			"- 127.0.0.1:9191\n    protocol: http", "service: api\n        connect: true", "connect: 800ms",
			"name: api.dc2\n    direction: outbound\n    address:\n      - 127.0.0.3:9192\n    protocol: http",
			"service: api\n        datacenter: dc2", "name: local.team", "namespace: team",
			"- unix:///run/mail.sock\n    socket_mode: \"0600\"",
		}, "", ""},
		"no port: outbound only": {func(d *Definition) {
			d.Port, d.Upstreams = 0, []DefinedUpstream{{Name: "api", Port: 9191}}
		}, "", []string{"consul:\n    service: web"}, "inbound", ""},
		"a file with the rest": {nil, "admin: {socket: /run/a.sock}\ntimeouts: {request_head: 2s}\nidentity: {spiffe: {socket: unix:///run/s.sock}}", []string{
			"socket: /run/a.sock", "request_head: 2s", "spiffe:",
		}, "consul:\n    service: web", ""},
		"exposed paths":             {func(d *Definition) { d.Exposed = 1 }, "", nil, "", "Proxy.Expose"},
		"service-defaults say http": {func(d *Definition) { d.Protocol = "http" }, "", []string{"protocol: http"}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := webDefinition()
			if c.change != nil {
				c.change(d)
			}
			got, ignored, problems := fromDefinition(d, c.file)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			text := defaultFlags.ReplaceAllString(string(Print(Expand(got))), "")
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("lacks %q:\n%s", want, text)
				}
			}
			if c.absent != "" && strings.Contains(text, c.absent) {
				t.Errorf("holds %q:\n%s", c.absent, text)
			}
			if all := strings.Join(ignored, " "); all != c.ignored {
				t.Errorf("ignored %q, want %q", all, c.ignored)
			}
		})
	}
}

func TestDefinitionProblems(t *testing.T) {
	const at = `definition of "web-sidecar-proxy" in Consul: `
	one := func(u DefinedUpstream) func(*Definition) {
		return func(d *Definition) { d.Upstreams = []DefinedUpstream{u} }
	}
	for name, c := range map[string]struct {
		change func(*Definition)
		file   string
		want   string
	}{
		"no service":          {func(d *Definition) { d.Service = "" }, "", at + "Proxy.DestinationServiceName: is missing"},
		"transparent":         {func(d *Definition) { d.Mode = "transparent" }, "", at + `Proxy.Mode: "transparent" is not supported`},
		"no local port":       {func(d *Definition) { d.LocalPort = 0 }, "", at + `Proxy.LocalServicePort: is missing, and service "web" has no port either`},
		"a host name":         {func(d *Definition) { d.Address = "web.example" }, "", at + `Address: "web.example" is not an IP address`},
		"prepared query":      {one(DefinedUpstream{Type: "prepared_query", Name: "q", Port: 1}), "", at + `Proxy.Upstreams[0].DestinationType: "prepared_query"`},
		"a peer":              {one(DefinedUpstream{Name: "a", Peer: "far", Port: 1}), "", at + `Proxy.Upstreams[0].DestinationPeer: "far"`},
		"no bind port":        {one(DefinedUpstream{Name: "a"}), "", at + `Proxy.Upstreams[0].LocalBindPort: is missing`},
		"an unknown protocol": {func(d *Definition) { d.Config = map[string]any{"protocol": "thrift"} }, "", at + `Proxy.Config.protocol: "thrift" is none of`},
		"a protocol that is no text": {func(d *Definition) { d.Config = map[string]any{"protocol": 1.0} }, "",
			at + "Proxy.Config.protocol: must be a text, not 1"},
		"half a millisecond": {one(DefinedUpstream{Name: "a", Port: 1, Config: map[string]any{"connect_timeout_ms": 0.5}}), "",
			at + "Proxy.Upstreams[0].Config.connect_timeout_ms: must be a whole number"},
		"a port too large":   {func(d *Definition) { d.Config = map[string]any{"bind_port": "70000"} }, "", at + "Proxy.Config.bind_port: must be a whole number up to 65535"},
		"the file says both": {nil, "workload: {service: web, address: 127.0.0.1:1, listen: 127.0.0.1:2}", "rest.yaml:1:1: workload: comes from the definition in Consul"},
		"two on one port": {func(d *Definition) {
			d.Upstreams = []DefinedUpstream{{Name: "a", Port: 9}, {Name: "b", Port: 9}}
		}, "", "127.0.0.1:9 is already taken by upstreams[0].bind"},
	} {
		t.Run(name, func(t *testing.T) {
			d := webDefinition()
			if c.change != nil {
				c.change(d)
			}
			_, _, problems := fromDefinition(d, c.file)
			if !strings.Contains(problems.Error(), c.want) {
				t.Errorf("got\n%v\nwant\n%s", problems, c.want)
			}
		})
	}
}

// FuzzDefinition holds that no definition, whatever its free settings, brings more than
// problems.
func FuzzDefinition(f *testing.F) {
	f.Add("web", "api", "10.0.0.1", 21000, "protocol", "http", 250.0)
	f.Add("", "local", "::1", 0, "bind_port", "x", 1e300)
	f.Fuzz(func(t *testing.T, service, upstream, address string, port int, key, text string, number float64) {
		d := &Definition{ID: "p", Service: service, Address: address, Port: port, LocalPort: port, Config: map[string]any{key: text}}
		d.Upstreams = []DefinedUpstream{
			{Name: upstream, Port: port, Config: map[string]any{key: number, "connect_timeout_ms": number}},
			{Name: upstream, Address: address, Datacenter: text, Port: 1},
		}
		c, _, problems := fromDefinition(d, "")
		if len(problems) > 0 {
			return
		}
		if _, again := Load("again.yaml", Print(c)); len(again) > 0 {
			t.Errorf("what it becomes does not read back: %v", again)
		}
	})
}
