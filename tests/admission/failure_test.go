package admission

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
)

// TestTrouble has what an installation goes through, one after the other.
func TestTrouble(t *testing.T) {
	m := install(t, manifests(t))
	first := m.start()
	m.namespace("shop", meshed)
	m.namespace("plain", "")
	t.Run("the bundle is repaired", func(t *testing.T) { m.with(t).testRepair(first) })
	t.Run("settings change", func(t *testing.T) { m.with(t).testSettings(first) })
	if code := first.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	t.Run("it is down", func(t *testing.T) { m.with(t).testDown() })
	t.Run("certificate of somebody else", func(t *testing.T) { m.with(t).testCertificate() })
}

// What an injector that is not there costs, with each failure policy: with Fail, pods in
// namespaces of the mesh are refused with a sentence, and nobody else's; with Ignore they run
// without a proxy. Once it is back, all is as before.
func (m *mesh) testDown() {
	m.policy(admissionregistrationv1.Fail)
	m.until("the policy Fail", func() error {
		_, _, err := m.create("shop", plain("one"), "?dryRun=All")
		if err == nil {
			return errors.New("a pod is let through")
		}
		return nil
	})
	ran := m.Kubectl(text(plain("one")), "-n", "shop", "create", "-f", "-")
	if ran.Code == 0 || !strings.Contains(ran.Stderr, `failed calling webhook "inject.larboard.io"`) {
		m.t.Errorf("Fail: %+v", ran)
	}
	before := m.ownPods()[0].UID
	if ran := m.Kubectl("", "-n", "larboard-system", "delete", "pods", "--all", "--now"); ran.Code != 0 {
		m.t.Errorf("%+v", ran)
	}
	for _, p := range m.ownPods() {
		if p.UID == before {
			m.t.Error("the injector's own pods are the old ones")
		}
	}
	for _, namespace := range []string{"plain", "kube-system"} {
		m.until("service account", func() error {
			return m.Call(http.MethodGet, "/api/v1/namespaces/"+namespace+"/serviceaccounts/default", nil, nil)
		})
		if _, _, err := m.create(namespace, plain("one"), ""); err != nil {
			m.t.Errorf("Fail: a pod of %s: %v", namespace, err)
		}
	}
	out := plain("out")
	out.Labels = map[string]string{"larboard.io/inject": "false"}
	if _, _, err := m.create("shop", out, ""); err != nil {
		m.t.Errorf("Fail: a pod that has opted out: %v", err)
	}

	m.policy(admissionregistrationv1.Ignore)
	var kept *corev1.Pod
	m.until("the policy Ignore", func() (err error) {
		kept, _, err = m.create("shop", plain("ignored"), "")
		return err
	})
	if sidecar(kept) != nil {
		m.t.Error("Ignore: injected by nobody")
	}

	m.policy(admissionregistrationv1.Fail)
	back := m.start()
	tries := 0
	m.until("injected again", func() error {
		tries++
		kept, _, err := m.create("shop", plain(fmt.Sprintf("back-%d", tries)), "")
		if err == nil && sidecar(kept) == nil {
			err = errors.New("not injected")
		}
		return err
	})
	back.lead(false)
	back.stop()
}

// Settings that change are read again; with a mistake in them the old ones hold.
func (m *mesh) testSettings(r *replica) {
	write := func(text string) {
		if err := os.WriteFile(m.settings, []byte(text), 0o600); err != nil {
			m.t.Fatal(err)
		}
	}
	image := func(want string) {
		m.t.Helper()
		m.until("the image "+want, func() error {
			kept, _, err := m.create("shop", plain("probe"), "?dryRun=All")
			if err == nil && sidecar(kept).Image != want {
				err = errors.New(sidecar(kept).Image)
			}
			return err
		})
	}
	write("image: registry.example/larboard:2\n")
	image("registry.example/larboard:2")
	refused := r.metric(`larboard_injector_settings_reads_total{result="refused"}`)
	write("imagee: registry.example/larboard:3\n")
	m.until("the mistake is told", func() error {
		if r.metric(`larboard_injector_settings_reads_total{result="refused"}`) == refused || !strings.Contains(r.log.String(), `did you mean`) {
			return errors.New("not yet")
		}
		return nil
	})
	image("registry.example/larboard:2")
	write("image: registry.example/larboard:4\n")
	image("registry.example/larboard:4")
}

// Whatever somebody does to the bundle is put right, and other webhooks of the configuration are left alone.
func (m *mesh) testRepair(r *replica) {
	good := m.hooks().Webhooks[0].ClientConfig.CABundle
	c := m.hooks()
	c.Webhooks[0].ClientConfig.CABundle = nil
	other := *c.Webhooks[0].DeepCopy()
	other.Name, other.ClientConfig.Service.Name, other.ClientConfig.CABundle = "other.example.com", "somebody-else", nil
	other.NamespaceSelector.MatchLabels = map[string]string{"no-such": "label"}
	c.Webhooks = append(c.Webhooks, other)
	if err := m.Call(http.MethodPut, configurations+c.Name, c, nil); err != nil {
		m.t.Fatal(err)
	}
	m.until("the bundle", func() error {
		if now := m.hooks().Webhooks[0].ClientConfig.CABundle; string(now) != string(good) {
			return fmt.Errorf("%q", now)
		}
		return nil
	})
	if now := m.hooks().Webhooks; len(now) != 3 || now[2].ClientConfig.CABundle != nil {
		m.t.Errorf("somebody else's webhook: %s", text(now))
	}
	if n := r.metric("larboard_injector_bundle_writes_total"); n < 2 {
		m.t.Errorf("bundle written %v times", n)
	}
	// The objects are applied once more, as an upgrade does: the bundles stay.
	m.Apply(manifests(m.t))
	for _, h := range m.hooks().Webhooks {
		if now := h.ClientConfig.CABundle; h.Name != other.Name && string(now) != string(good) {
			m.t.Errorf("after kubectl apply: %s: %q", h.Name, now)
		}
	}
}
