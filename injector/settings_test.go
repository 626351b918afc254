package injector

import (
	"reflect"
	"strings"
	"testing"
)

func TestLoadSettings(t *testing.T) {
	s, err := LoadSettings("settings.yaml", []byte(`
image: registry.example.org/larboard:0.6
form: classic
never: [kube-system, ingress]
consul: {address: "consul.example.org:8500", token_secret: larboard/token}
identity: {source: consul}
capture: {mode: outbound, exclude_outbound_ports: [5432]}
resources: {cpu_request: 50m}
config: |
  timeouts: {connect: 250ms}
`))
	if err != nil {
		t.Fatal(err)
	}
	if s.Image != "registry.example.org/larboard:0.6" || s.Form != FormClassic || len(s.Never) != 2 || s.Identity.Source != IdentityConsul ||
		s.Capture.ExcludeOutboundPorts[0] != 5432 || s.Resources.CPURequest != "50m" {
		t.Errorf("%+v", s)
	}
	if s.Resources.MemoryRequest != "32Mi" || s.Consul.Address != "consul.example.org:8500" || !s.Register {
		t.Errorf("defaults are lost: %+v", s)
	}
	if s, err := LoadSettings("settings.yaml", nil); err != nil || !reflect.DeepEqual(s, DefaultSettings()) {
		t.Errorf("%+v, %v", s, err)
	}
}

// Everything wrong with settings is said with its place and what was meant.
func TestLoadSettingsRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"imag: x":                               `s.yaml:1:1: imag: unknown field; did you mean "image"?`,
		"form: natve":                           `s.yaml:1:7: form: "natve" is none of auto, native, classic, wrapped; did you mean "native"?`,
		"pull_policy: ifnotpresent":             `s.yaml:1:14: pull_policy: "ifnotpresent" is none of Always, IfNotPresent, Never; did you mean "IfNotPresent"?`,
		"kubernetes: new":                       `s.yaml:1:13: kubernetes: "new" is no version of Kubernetes, like 1.30`,
		"inject: any":                           `s.yaml:1:9: inject: "any" is none of labelled, all`,
		"protocol: htp":                         `did you mean "http"?`,
		"identity: {source: spire}":             `s.yaml:1:20: identity.source: "spire" is none of spiffe-csi`,
		"identity: {directory: run/spire}":      `s.yaml:1:23: identity.directory: "run/spire" is no absolute path of a directory`,
		"identity: {socket: /run/agent.sock}":   `identity.socket: "/run/agent.sock" is no name of a socket; its directory is given apart; did you mean "agent.sock"?`,
		"identity: {upstream_id: example.org}":  `identity.upstream_id: "example.org" is no SPIFFE ID; did you mean "spiffe://example.org"?`,
		"identity: {source: files}":             `identity.secret: is missing`,
		"capture: {mode: inbound}":              `capture.mode: "inbound" is none of none, outbound, both`,
		"capture: {exclude_inbound_ports: [0]}": `s.yaml:1:35: capture.exclude_inbound_ports[0]: 0 is no port`,
		"resources: {cpu_limit: 1000}":          `resources.cpu_limit: "1000" is that many whole processors; did you mean "1000m"?`,
		"consul: {ca_secret: ca}":               `consul.ca_secret: is for an https:// address, and consul.address is "$(HOST_IP):8500"`,
		"consul: {address: consul}":             `s.yaml:1:1: consul.address: "consul" is not a host and a port, HOST:PORT`,
		"form: wrapped\ncapture: {mode: both}":  `the form wrapped runs the proxy as the application's user`,
		"stop_delay: 3s\nkubernetes: \"1.29\"":  `s.yaml:1:13: stop_delay: needs Kubernetes 1.30, and this is 1.29`,
		"log: {level: loud}":                    `log.level: "loud" is none of debug, info, warn, error`,
		"tracing: {sample: 2}":                  `tracing.sample: 2 is not between 0 and 1`,
		"config: |\n  timeouts: {conect: 1s}":   `config: timeouts.conect: unknown field; did you mean "connect"?`,
		"config: |\n  a: ]":                     `config: not YAML`,
	} {
		_, err := LoadSettings("s.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got\n%v\nwant\n%s", text, err, want)
		}
	}
}

func TestFormOfVersion(t *testing.T) {
	for version, want := range map[string]Form{"": FormNative, "1.29": FormNative, "v1.36.3": FormNative, "1.28+": FormClassic, "1.9": FormClassic} {
		s := DefaultSettings()
		s.Kubernetes = version
		if got := newWish(webPod(), shop(), s).form(); got != want {
			t.Errorf("%q: %s, want %s", version, got, want)
		}
	}
	s := DefaultSettings()
	s.Kubernetes = "1.28"
	job := webPod()
	job.Spec.RestartPolicy = "Never"
	if got := newWish(job, shop(), s).form(); got != FormWrapped {
		t.Errorf("a job is %s", got)
	}
}
