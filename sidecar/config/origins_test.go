package config

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// With the origins as comments a configuration reads back as without them, and each value
// has one.
func TestPrintedOriginsReadBack(t *testing.T) {
	for _, file := range cases(t, "*.good.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, problems := readCase(t, file)
			if err := problems.Err(); err != nil {
				t.Fatal(err)
			}
			text := PrintOrigins(c)
			again, problems := Load(c.source.file, text)
			if err := problems.Err(); err != nil {
				t.Fatalf("%v\nin\n%s", err, text)
			}
			if got, want := string(Print(again)), string(Print(Expand(c))); got != want {
				t.Errorf("read back:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func originsOf(c *Config) map[string]string {
	all := map[string]string{}
	for _, o := range Origins(c) {
		all[o.Path] = o.String()
	}
	return all
}

func TestOrigins(t *testing.T) {
	c := load(t, `timeouts:
  connect: 3s
identities: {only: {consul: {}}}
workload:
  service: web
  address: 127.0.0.1:8000
  listen: 127.0.0.1:20000
  timeouts: {request: 7s}
  health: {tcp: {}, interval: 500ms}
upstreams:
- service: api
  bind: 127.0.0.1:9191
  discovery: [consul: {tags: [v1]}]
- {service: mail, bind: 127.0.0.1:9192}
listeners:
- {name: l, address: 127.0.0.1:1, service: s}
services:
- name: s
  endpoints: [127.0.0.1:2]
  discovery: {consul: {filter: "a #@\\nb"}}
`)
	got := originsOf(c)
	for path, want := range map[string]string{
		"timeouts.connect":                      "line 2",
		"timeouts.idle":                         "default",
		"listeners[0].name":                     "line 16",
		"listeners[0].address[0]":               "line 16",
		"listeners[0].routes[0].service":        "listeners[0].service, line 16",
		"listeners[0].timeouts.idle":            "timeouts.idle, default",
		"listeners[1].name":                     "workload, line 4",
		"listeners[1].direction":                "default",
		"listeners[1].address[0]":               "workload.listen, line 7",
		"listeners[1].tls.spiffe.identity":      "identities.only, line 3",
		"listeners[2].direction":                "upstreams[0], line 11",
		"services[0].endpoints[0].address":      "line 19",
		"services[0].endpoints[0].weight":       "default",
		"services[0].discovery.consul.service":  "services[0].name, line 18",
		"services[0].discovery.consul.filter":   "line 20",
		"services[0].discovery.consul.connect":  "default",
		"services[0].timeouts.connect":          "timeouts.connect, line 2",
		"services[1].endpoints[0].address":      "workload.address, line 6",
		"services[1].timeouts.request":          "workload.timeouts.request, line 8",
		"services[1].timeouts.connect":          "timeouts.connect, line 2",
		"services[1].health.tcp":                "workload.health.tcp, line 9",
		"services[1].health.timeout":            "workload.health.interval, line 9",
		"services[1].health.rise":               "default",
		"services[2].discovery.consul.service":  "upstreams[0].service, line 11",
		"services[2].discovery.consul.connect":  "upstreams[0], line 11",
		"services[2].discovery.consul.tags[0]":  "upstreams[0].discovery[0].consul.tags[0], line 13",
		"services[3].discovery.consul.service":  "upstreams[1], line 14",
		"services[3].discovery.consul.on_empty": "default",
		"services[3].tls.spiffe.identity":       "identities.only, line 3",
		"identities.only.consul.service":        "workload.service, line 5",
	} {
		if got[path] != want {
			t.Errorf("%s: %q, want %q", path, got[path], want)
		}
	}
	again, problems := Load("f.yaml", PrintOrigins(c))
	if len(problems) > 0 || string(Print(again)) != string(Print(Expand(c))) {
		t.Errorf("%v\n%s", problems, PrintOrigins(c))
	}
}

func TestOriginsOfADefinition(t *testing.T) {
	d := webDefinition()
	d.Config = map[string]any{"handshake_timeout_ms": 3000.0, "local_request_timeout_ms": 7000.0}
	d.Upstreams = []DefinedUpstream{{Name: "api", Port: 9191}}
	c, problems := LoadWith("rest.yaml", []byte("log: {level: debug}\n"), func(c *Config) Problems {
		c.Consul.Address, c.Consul.Token = "127.0.0.1:8501", "secret"
		_, problems := d.AddTo(c)
		return problems
	})
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	got := originsOf(c)
	for path, want := range map[string]string{
		"log.level":                            "line 1",
		"log.format":                           "default",
		"timeouts.request_head":                "definition in Consul",
		"listeners[0].name":                    "definition in Consul",
		"listeners[0].address[0]":              "definition in Consul",
		"listeners[0].intentions.service":      "definition in Consul",
		"listeners[0].freebind":                "default",
		"listeners[0].timeouts.idle":           "timeouts.idle, default",
		"services[0].timeouts.request":         "definition in Consul",
		"services[0].timeouts.connect":         "timeouts.connect, default",
		"services[1].discovery.consul.service": "definition in Consul",
		"identity.consul.service":              "definition in Consul",
		"consul.address":                       "command line or environment",
		"consul.token":                         "command line or environment",
		"consul.wait":                          "default",
	} {
		if got[path] != want {
			t.Errorf("%s: %q, want %q", path, got[path], want)
		}
	}
}

// Every value that is printed has an origin in the JSON form, and no secret is in it.
func TestOriginsAsJSON(t *testing.T) {
	c := load(t, small+"consul: {token: 4f3c}\n")
	var got struct {
		Config  map[string]any
		Origins []Origin
	}
	text := PrintOriginsJSON(c)
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if got.Config["version"] != 1.0 || len(got.Origins) != len(leaves(Expand(c))) || strings.Contains(string(text), "4f3c") {
		t.Errorf("got %s", text)
	}
	want := Origin{Path: "listeners[0].timeouts.idle", Value: "1m", From: FromField, Source: "timeouts.idle"}
	if !slices.Contains(got.Origins, want) {
		t.Errorf("%+v is not in %s", want, text)
	}
}

// The manual shows what is printed, whatever the width of its column.
func TestManualOrigins(t *testing.T) {
	blocks := fenced.FindAllStringSubmatch(string(mustRead(t, manual)), -1)
	spaces := regexp.MustCompile(` +#`)
	shown := 0
	for i, block := range blocks {
		if block[1] != "origins" {
			continue
		}
		printed := spaces.ReplaceAllString(string(PrintOrigins(load(t, blocks[i-1][2]))), " #")
		for line := range strings.Lines(block[2]) {
			if shown++; !strings.Contains(printed, spaces.ReplaceAllString(line, " #")) {
				t.Errorf("%q is not printed:\n%s", line, printed)
			}
		}
	}
	if shown < 5 {
		t.Errorf("only %d lines were found", shown)
	}
}
