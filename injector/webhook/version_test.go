package webhook

import (
	"errors"
	"testing"

	"github.com/larboard-proxy/larboard/injector"
)

// The cluster's version is part of the settings that pods are injected by, unless they have one.
func TestVersion(t *testing.T) {
	f := newFakeAPI()
	f.put("/version", map[string]any{"major": "1", "minor": "27+", "metadata": map[string]any{}})
	own := &injector.Settings{Image: "one"}
	r := start(t, f, func(o *Options) { o.Settings = own })
	if got := r.current(); got.Kubernetes != "1.27+" || got.Image != "one" {
		t.Errorf("%+v", got)
	}
	if own.Kubernetes != "" {
		t.Error("the settings have changed")
	}
	r.settings.Store(&injector.Settings{Kubernetes: "1.31"})
	if got := r.current().Kubernetes; got != "1.31" {
		t.Errorf("%q, and the settings say 1.31", got)
	}
}

// An API server that does not say is taken for a recent one; until it answers, the injector is
// not ready.
func TestVersionUnknown(t *testing.T) {
	r := start(t, newFakeAPI(), nil)
	if got := r.current().Kubernetes; got != "" {
		t.Errorf("%q", got)
	}
	f := newFakeAPI()
	f.away = true
	if _, err := f.api().version(t.Context()); err == nil || errors.As(err, new(*apiError)) {
		t.Errorf("an API server that is away: %v", err)
	}
	s, err := New(Options{Log: r.log, Settings: &injector.Settings{}, API: f.api(), CertFile: r.options.CertFile, KeyFile: r.options.KeyFile})
	if err != nil {
		t.Fatal(err)
	}
	if s.unready() == "" {
		t.Error("ready without a version")
	}
}
