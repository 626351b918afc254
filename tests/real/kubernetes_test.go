package real

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

// It starts, admits and keeps a pod without any node, and refuses whom it does not know.
func TestKubernetes(t *testing.T) {
	k := Kubernetes(t, KubernetesOptions{})
	k.Apply("apiVersion: v1\nkind: Pod\nmetadata: {name: one}\nspec: {containers: [{name: app, image: app}]}\n")
	var pod struct {
		Spec struct{ Containers []struct{ Name string } }
	}
	if err := k.Call(http.MethodGet, "/api/v1/namespaces/default/pods/one", nil, &pod); err != nil || len(pod.Spec.Containers) != 1 {
		t.Errorf("%v, %+v", err, pod)
	}
	if ran := k.Kubectl("", "get", "pods", "-o", "name"); !strings.Contains(ran.Stdout, "pod/one") {
		t.Errorf("kubectl: %+v", ran)
	}
	_, err := k.CallAs("nobody", http.MethodGet, "/api/v1/namespaces/default/pods/one", nil, nil)
	var status *StatusError
	if !errors.As(err, &status) || status.Code != http.StatusUnauthorized {
		t.Errorf("a stranger: %v", err)
	}
}

// With controllers, a Deployment gets its pods.
func TestKubernetesControllers(t *testing.T) {
	k := Kubernetes(t, KubernetesOptions{Controllers: true})
	k.Apply(`apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: app, image: app}]}
`)
	for late := time.Now().Add(startTime); ; time.Sleep(50 * time.Millisecond) {
		var pods struct{ Items []any }
		err := k.Call(http.MethodGet, "/api/v1/namespaces/default/pods?labelSelector=app%3Dweb", nil, &pods)
		if err == nil && len(pods.Items) == 2 {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("%d pods, %v", len(pods.Items), err)
		}
	}
}
