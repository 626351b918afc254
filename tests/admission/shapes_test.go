package admission

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"

	"github.com/larboard-proxy/larboard/injector"
)

// shape is a pod to be injected, as package injector's examples have them.
type shape struct {
	Namespace injector.Namespace
	Settings  string
	Pod       *corev1.Pod
}

// shapes are the examples of package injector, and every form with every source of identity and
// mode of capture.
func shapes(t testing.TB) map[string]shape {
	t.Helper()
	all := map[string]shape{}
	files, err := filepath.Glob("../../injector/testdata/*.pod.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d examples: %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var tree any
		if err := yaml.Unmarshal(data, &tree); err != nil {
			t.Fatal(err)
		}
		object, err := json.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		var s shape
		if err := json.Unmarshal(object, &s); err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(file)] = s
	}
	for _, form := range []string{"native", "classic", "wrapped"} {
		for _, identity := range []string{"spiffe-csi", "spiffe-hostpath", "consul", "files", "dev"} {
			for _, capture := range []string{"none", "outbound", "both"} {
				p := plain(form)
				p.Spec.Containers[0].Command = []string{"/app"}
				p.Annotations = map[string]string{"larboard.io/form": form, "larboard.io/identity": identity, "larboard.io/identity-secret": "tls",
					"larboard.io/capture": capture, "larboard.io/ports": "8080, 8081/tcp", "larboard.io/upstreams": "stock:9191", "larboard.io/stop-delay": "3s"}
				if capture != "none" && (identity == "consul" || identity == "dev") {
					p.Annotations["larboard.io/ports"] = "8080"
				}
				if form != "wrapped" || capture == "none" {
					all[strings.Join([]string{form, identity, capture}, " ")] = shape{Namespace: injector.Namespace{Name: "shop"}, Pod: p}
				}
			}
		}
	}
	return all
}

// The API server takes every pod that an injection makes, and what it makes of that an
// injection leaves as it is: every default has been given.
func (m *mesh) testShapes() {
	for name, s := range shapes(m.t) {
		settings, err := injector.LoadSettings(name, []byte(s.Settings))
		if err != nil {
			m.t.Fatal(err)
		}
		delete(s.Pod.Annotations, "larboard.io/inject") // of the webhook, which is not asked here
		s.Namespace.Labels = map[string]string{"larboard.io/inject": "enabled"}
		injected, err := injector.Mutate(s.Pod, s.Namespace, settings)
		if err != nil || injected.Skipped != "" {
			m.t.Errorf("%s: %v%s", name, err, injected.Skipped)
			continue
		}
		kept, _, err := m.create("plain", injected.Pod, "?dryRun=All")
		if err != nil {
			m.t.Errorf("%s: %v", name, err)
			continue
		}
		original, err := json.Marshal(kept)
		if err != nil {
			m.t.Fatal(err)
		}
		again, err := injector.Mutate(kept, s.Namespace, settings)
		if err != nil {
			m.t.Errorf("%s: again: %v", name, err)
			continue
		}
		if patch, err := again.Patch(original); err != nil || patch != nil {
			m.t.Errorf("%s: again it changes: %v %s", name, err, fmt.Sprintf("%.2000s", patch))
		}
	}
}
