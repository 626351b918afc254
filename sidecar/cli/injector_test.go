package cli

import (
	"path/filepath"
	"testing"
)

// What is wrong with flags and files is said before anybody is asked, with exit code 2.
func TestInjectorRefuses(t *testing.T) {
	dir := directory(t, map[string]string{
		"bad.yaml":    "imagee: x\nform: natve\n",
		"good.yaml":   "image: registry.example/larboard:1\n",
		"kubeconfig":  `{"apiVersion":"v1","kind":"Config","clusters":[{"name":"c","cluster":{"server":"https://127.0.0.1:1"}}],"contexts":[{"name":"c","context":{"cluster":"c"}}],"current-context":"c"}`,
		"no-contexts": "rubbish: [",
	})
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, test := range []struct {
		name   string
		args   []string
		stderr []string
	}{
		{"help", []string{"--help"}, nil},
		{"bad settings", []string{"--settings", in("bad.yaml")}, []string{`bad.yaml:1:1: imagee: unknown field; did you mean "image"?`}},
		{"no settings", []string{"--settings", in("none.yaml")}, []string{"settings: open"}},
		{"an argument", []string{"settings.yaml"}, []string{`unexpected argument "settings.yaml"; settings are given with --settings`}},
		{"a log level", []string{"--log-level", "loud"}, []string{`--log-level: "loud" is none of debug, info, warn, error`}},
		{"a log format", []string{"--log-format", "xml"}, []string{`--log-format: "xml" is none of text, json`}},
		{"no Kubernetes", []string{"--settings", in("good.yaml")}, []string{"this is no pod of Kubernetes", "--kubeconfig FILE"}},
		{"no such kubeconfig", []string{"--kubeconfig", in("none")}, []string{"kubeconfig", "none"}},
		{"a kubeconfig that is none", []string{"--kubeconfig", in("no-contexts")}, []string{"kubeconfig", "no-contexts"}},
		{"a certificate without its key", []string{"--kubeconfig", in("kubeconfig"), "--cert", in("c")}, []string{"both --cert and --key"}},
		{"a certificate that is not there", []string{"--kubeconfig", in("kubeconfig"), "--cert", in("c"), "--key", in("k")}, []string{"certificate", in("c")}},
		{"lives that do not fit", []string{"--kubeconfig", in("kubeconfig"), "--authority-life", "1h"}, []string{"longer (24h0m0s) than their authority (1h0m0s)"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := exitUsage
			if test.stderr == nil {
				want = exitDone
			}
			got := larboard(t, dir, append([]string{"injector"}, test.args...)...)
			if got.code != want {
				t.Errorf("exit code %d, want %d: %s", got.code, want, got.stderr)
			}
			contains(t, "stderr", got.stderr, test.stderr...)
		})
	}
}
