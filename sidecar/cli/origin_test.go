package cli

import (
	"testing"
	"time"
)

// Run waits for Consul, not for what no time mends: a mistake ends it at once, as it
// does without --sidecar-for.
func TestSidecarForSaysMistakesAtOnce(t *testing.T) {
	nobody := "127.0.0.1:1" // no agent is there
	for name, c := range map[string]struct {
		env  map[string]string
		file string
		args []string
		want []string
	}{
		"a variable": {map[string]string{"CONSUL_HTTP_SSL_VERIFY": "false"}, "", nil,
			[]string{"CONSUL_HTTP_SSL_VERIFY=false is not supported: name the agent's authority with CONSUL_CACERT"}},
		"an address": {nil, "", []string{"--consul", "ftp://nowhere"},
			[]string{`address "ftp://nowhere": want http, https or unix`}},
		"an address in the file": {nil, "consul: {address: \"ftp://nowhere\"}\n", nil,
			[]string{`larboard.yaml:1:1: consul: address "ftp://nowhere": want http, https or unix`, "larboard.yaml: 1 problem"}},
		"a field": {nil, "consul: {address: " + nobody + "}\nadmim: off\n", nil,
			[]string{`larboard.yaml:2:1: admim: unknown field`, `did you mean "admin"?`, "larboard.yaml: 1 problem"}},
	} {
		t.Run(name, func(t *testing.T) {
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			args := append([]string{"run", "--sidecar-for", "web"}, c.args...)
			if c.file != "" {
				args = append(args, "-c", "larboard.yaml")
			}
			began := time.Now()
			got := larboard(t, directory(t, map[string]string{"larboard.yaml": c.file}), args...)
			if took := time.Since(began); got.code != exitUsage || took > definitionWithin/2 {
				t.Errorf("exit code %d after %v", got.code, took)
			}
			contains(t, "stderr", got.stderr, c.want...)
		})
	}
}
