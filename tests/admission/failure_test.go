package admission

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
)

// What an injector that is not there costs, with each failure policy: with Fail, pods in
// namespaces of the mesh are refused with a sentence, and nobody else's; with Ignore they run
// without a proxy. Once it is back, all is as before.
func TestInjectorDown(t *testing.T) {
	m := install(t, manifests(t))
	first := m.start()
	m.namespace("shop", meshed)
	m.namespace("plain", "")
	if code := first.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
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
		t.Errorf("Fail: %+v", ran)
	}
	before := m.ownPods()[0].UID
	if ran := m.Kubectl("", "-n", "larboard-system", "delete", "pods", "--all", "--now"); ran.Code != 0 {
		t.Errorf("%+v", ran)
	}
	for _, p := range m.ownPods() {
		if p.UID == before {
			t.Error("the injector's own pods are the old ones")
		}
	}
	for _, namespace := range []string{"plain", "kube-system"} {
		m.until("service account", func() error {
			return m.Call(http.MethodGet, "/api/v1/namespaces/"+namespace+"/serviceaccounts/default", nil, nil)
		})
		if _, _, err := m.create(namespace, plain("one"), ""); err != nil {
			t.Errorf("Fail: a pod of %s: %v", namespace, err)
		}
	}
	out := plain("out")
	out.Labels = map[string]string{"larboard.io/inject": "false"}
	if _, _, err := m.create("shop", out, ""); err != nil {
		t.Errorf("Fail: a pod that has opted out: %v", err)
	}

	m.policy(admissionregistrationv1.Ignore)
	var kept *corev1.Pod
	m.until("the policy Ignore", func() (err error) {
		kept, _, err = m.create("shop", plain("ignored"), "")
		return err
	})
	if sidecar(kept) != nil {
		t.Error("Ignore: injected by nobody")
	}

	m.policy(admissionregistrationv1.Fail)
	m.start()
	tries := 0
	m.until("injected again", func() error {
		tries++
		kept, _, err := m.create("shop", plain(fmt.Sprintf("back-%d", tries)), "")
		if err == nil && sidecar(kept) == nil {
			err = errors.New("not injected")
		}
		return err
	})
}

// Whatever somebody does to the bundle is put right, and other webhooks of the configuration are left alone.
func TestBundleIsRepaired(t *testing.T) {
	m := install(t, manifests(t))
	r := m.start()
	m.namespace("shop", meshed)
	good := m.hooks().Webhooks[0].ClientConfig.CABundle
	c := m.hooks()
	c.Webhooks[0].ClientConfig.CABundle = nil
	other := *c.Webhooks[0].DeepCopy()
	other.Name, other.ClientConfig.Service.Name, other.ClientConfig.CABundle = "other.example.com", "somebody-else", nil
	other.NamespaceSelector.MatchLabels = map[string]string{"no-such": "label"}
	c.Webhooks = append(c.Webhooks, other)
	if err := m.Call(http.MethodPut, configurations+c.Name, c, nil); err != nil {
		t.Fatal(err)
	}
	m.until("the bundle", func() error {
		if now := m.hooks().Webhooks[0].ClientConfig.CABundle; string(now) != string(good) {
			return fmt.Errorf("%q", now)
		}
		return nil
	})
	if now := m.hooks().Webhooks; len(now) != 3 || now[2].ClientConfig.CABundle != nil {
		t.Errorf("somebody else's webhook: %s", text(now))
	}
	if n := r.metric("larboard_injector_bundle_writes_total"); n < 2 {
		t.Errorf("bundle written %v times", n)
	}
	// The objects are applied once more, as an upgrade does: the bundles stay.
	m.Apply(manifests(t))
	for _, h := range m.hooks().Webhooks {
		if now := h.ClientConfig.CABundle; h.Name != other.Name && string(now) != string(good) {
			t.Errorf("after kubectl apply: %s: %q", h.Name, now)
		}
	}
}
