package admission

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"github.com/larboard-proxy/larboard/tests/real"
)

// helm runs it as the administrator.
func (m *mesh) helm(args ...string) real.Ran {
	m.t.Helper()
	all := []string{"--kubeconfig", m.Files.Config[real.KubernetesAdmin], "--namespace", "larboard-system"}
	return real.Run(m.t, 3*time.Minute, real.Tool(m.t, "helm"), append(all, args...)...)
}

const chart = "../../deploy/helm/larboard"

// The chart is installed, changed and taken away by Helm; in between pods are injected as it says.
func TestChart(t *testing.T) {
	m := kubernetes(t)
	must := func(args ...string) {
		t.Helper()
		if ran := m.helm(args...); ran.Code != 0 {
			t.Fatalf("helm %q: %s%s", args, ran.Stdout, ran.Stderr)
		}
	}
	must("install", "larboard", chart, "--create-namespace", "--set", "webhook.failurePolicy=Ignore", "--set", "image.repository=registry.example/larboard")
	m.installed()
	m.start()
	m.namespace("shop", meshed)
	kept, _, err := m.create("shop", plain("one"), "")
	if err != nil || sidecar(kept) == nil || !strings.HasPrefix(sidecar(kept).Image, "registry.example/larboard:") {
		t.Errorf("%v: %s", err, text(kept))
	}
	for _, h := range m.hooks().Webhooks {
		if *h.FailurePolicy != admissionregistrationv1.Ignore {
			t.Errorf("%s: failure policy %s", h.Name, *h.FailurePolicy)
		}
	}
	before := m.hooks().Webhooks[0].ClientConfig.CABundle
	must("upgrade", "larboard", chart, "--set", "webhook.timeoutSeconds=3", "--set", "clean.enabled=true")
	after := m.hooks().Webhooks[0]
	if *after.TimeoutSeconds != 3 || *after.FailurePolicy != admissionregistrationv1.Fail {
		t.Errorf("after the upgrade: %s", text(after))
	}
	m.until("the bundle after the upgrade", func() error {
		if now := m.hooks().Webhooks[0].ClientConfig.CABundle; string(now) != string(before) {
			return fmt.Errorf("%q", now)
		}
		return nil
	})
	must("uninstall", "larboard", "--wait", "--timeout", "60s")
	m.until("a pod without the injector", func() error {
		_, _, err := m.create("shop", plain("alone"), "")
		return err
	})
	if err := m.Call(http.MethodGet, configurations+"larboard-injector", nil, nil); err == nil {
		t.Error("the webhook configuration is still there")
	}
}
