package injector

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// A template as the API server gives it back, with its defaults filled in, comes out unchanged.
func TestDefaultedProbesAreNoChange(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: "web", Image: "web:1", Ports: []corev1.ContainerPort{{ContainerPort: 8080}},
		ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}},
	}}}}
	s := DefaultSettings()
	s.Inject = InjectAll
	first, err := Mutate(pod, Namespace{}, s)
	if err != nil {
		t.Fatal(err)
	}
	stored := first.Pod.DeepCopy()
	p := stored.Spec.Containers[0].ReadinessProbe
	p.TimeoutSeconds, p.PeriodSeconds, p.SuccessThreshold, p.FailureThreshold = 1, 10, 1, 3
	second, err := Mutate(stored, Namespace{}, s)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := second.Pod.Annotations[StatusKey], stored.Annotations[StatusKey]; got != want {
		t.Errorf("the status becomes\n%s\nand was\n%s", got, want)
	}
}
