package injector

import (
	"encoding/json"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
)

func TestPatchLeadsToThePod(t *testing.T) {
	before := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app:1"}}}}
	after := before.DeepCopy()
	after.Spec.InitContainers = append(after.Spec.InitContainers, corev1.Container{Name: "larboard"})
	original, _ := json.Marshal(before)
	patch, err := Result{Pod: after}.Patch(original)
	if err != nil {
		t.Fatal(err)
	}
	p, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Apply(original)
	if err != nil {
		t.Fatal(err)
	}
	var pod corev1.Pod
	if err := json.Unmarshal(got, &pod); err != nil || len(pod.Spec.InitContainers) != 1 || pod.Spec.Containers[0].Image != "app:1" {
		t.Errorf("%v: %s", err, got)
	}
	if patch, err := (Result{Pod: before}).Patch(original); err != nil || patch != nil {
		t.Errorf("nothing changed: %s, %v", patch, err)
	}
}
