package injector

import (
	"encoding/json"
	"strings"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
)

// What an API server knows and our types do not survives an injection, wherever it stands: also in
// elements that are no longer where they were.
func TestWhatIsNotKnownStays(t *testing.T) {
	original := []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","future":"1","labels":{}},
		"spec":{"future":{"a":["2"],"n":9007199254740993},"initContainers":[{"name":"first","image":"i","future":"3"}],
		"containers":[{"name":"app","image":"app","future":"4","ports":[{"containerPort":8080,"future":"5"}],"readinessProbe":{"httpGet":{"path":"/","port":8080},"future":"6"}}],
		"volumes":[{"name":"v","emptyDir":{"future":"7"}}],"tolerations":[{"key":"k","future":"8"}]}}`)
	var pod corev1.Pod
	if err := json.Unmarshal(original, &pod); err != nil {
		t.Fatal(err)
	}
	r, err := Mutate(&pod, Namespace{Name: "shop", Labels: map[string]string{InjectKey: "enabled"}}, DefaultSettings())
	if err != nil || r.Skipped != "" {
		t.Fatal(err, r.Skipped)
	}
	patch, err := r.Patch(original)
	if err != nil {
		t.Fatal(err)
	}
	p, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		t.Fatal(err)
	}
	after, err := p.Apply(original)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Metadata struct{ Future string }
		Spec     struct {
			Future struct {
				A []string
				N json.Number
			}
			InitContainers, Containers []struct {
				Name, Future   string
				Ports          []struct{ Future string }
				ReadinessProbe struct{ Future string }
			}
			Volumes []struct {
				EmptyDir struct{ Future string }
			}
			Tolerations []struct{ Future string }
		}
	}
	if err := json.Unmarshal(after, &got); err != nil {
		t.Fatal(err)
	}
	s := got.Spec
	if len(s.InitContainers) != 2 || s.InitContainers[0].Name != "larboard" || s.InitContainers[1].Name != "first" {
		t.Fatalf("not where it was expected: %s", after)
	}
	seen := got.Metadata.Future + s.Future.A[0] + s.InitContainers[1].Future + s.Containers[0].Future + s.Containers[0].Ports[0].Future +
		s.Containers[0].ReadinessProbe.Future + s.Volumes[0].EmptyDir.Future + s.Tolerations[0].Future
	if seen != "12345678" || s.Future.N != "9007199254740993" || s.InitContainers[0].Future != "" || strings.Count(string(after), "future") != 8 {
		t.Errorf("seen %q: %s", seen, after)
	}
}
