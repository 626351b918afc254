package injector

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// The first of several headers of a name is sent, whatever the values of others are.
func TestHeadersOfAProbe(t *testing.T) {
	got := writeYAML(httpCheck(8080, &corev1.HTTPGetAction{HTTPHeaders: []corev1.HTTPHeader{
		{Name: "X-A", Value: "X-B"}, {Name: "X-B", Value: "c"}, {Name: "x-a", Value: "d"}, {Name: "HOST", Value: "web"}}}))
	if want := "port: 8080\npath: /\nhost: web\nheaders:\n  X-A: X-B\n  X-B: c\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
