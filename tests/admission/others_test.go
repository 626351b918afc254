package admission

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larboard-proxy/larboard/tests/pki"
)

// A webhook of somebody else, built before native sidecars, loses what it does not know of init
// containers. The injector is asked once more, since the pod has changed, and puts it right.
func (m *mesh) testOtherWebhooks() {
	var stripped atomic.Int64
	address, authority := m.webhook(func(p *corev1.Pod) (patch []byte) {
		for i, c := range p.Spec.InitContainers {
			if c.RestartPolicy != nil {
				stripped.Add(1)
				return fmt.Appendf(nil, `[{"op":"remove","path":"/spec/initContainers/%d/restartPolicy"},{"op":"remove","path":"/spec/initContainers/%d/startupProbe"},
					{"op":"remove","path":"/spec/initContainers/%d/livenessProbe"}]`, i, i, i)
			}
		}
		return nil
	})
	m.Apply(fmt.Sprintf(`apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: somebody-else}
webhooks:
- name: strips.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  clientConfig: {url: "https://%s/", caBundle: %s}
  rules: [{apiGroups: [""], apiVersions: [v1], resources: [pods], operations: [CREATE]}]
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}
`, address, base64.StdEncoding.EncodeToString(authority)))
	defer m.Kubectl("", "delete", "mutatingwebhookconfiguration", "somebody-else")
	name := 0
	m.until("the other webhook's turn", func() error {
		name++
		p := plain(fmt.Sprintf("stripped-%d", name))
		kept, _, err := m.create("shop", p, "")
		if err != nil {
			m.t.Fatal(err)
		}
		if c := sidecar(kept); c == nil || c.RestartPolicy == nil || c.StartupProbe == nil {
			m.t.Fatalf("the sidecar was not put right: %s", text(c))
		}
		if stripped.Load() == 0 {
			return fmt.Errorf("not asked yet")
		}
		return nil
	})
}

// webhook serves another admission webhook and returns where, and whom to trust. change makes a
// JSON patch, or nil.
func (m *mesh) webhook(change func(*corev1.Pod) []byte) (address string, authority []byte) {
	ca := pki.New(m.t, "somebody else's authority")
	pair := ca.Issue(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} })
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		var pod corev1.Pod
		err := json.NewDecoder(r.Body).Decode(&review)
		if err == nil {
			err = json.Unmarshal(review.Request.Object.Raw, &pod)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer := &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
		if patch := change(&pod); patch != nil {
			kind := admissionv1.PatchTypeJSONPatch
			answer.Patch, answer.PatchType = patch, &kind
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Response: answer})
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	m.t.Cleanup(server.Close)
	return server.Listener.Addr().String(), pki.CertPEM(tls.Certificate{Certificate: [][]byte{ca.Cert.Raw}})
}
