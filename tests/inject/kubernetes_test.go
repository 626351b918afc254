package inject

import (
	"encoding/json"

	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/larboard-proxy/larboard/tests/real"
)

// allKinds is a workload of each kind; KIND is where its pod is made.
const allKinds = `apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
# one of each
apiVersion: v1
kind: Pod
metadata:
  name: pod
  namespace: shop
spec: {containers: [{name: web, image: "web:1", ports: [{containerPort: 8080}], livenessProbe: {tcpSocket: {port: 8080}}}]}
---
apiVersion: v1
kind: List
items:
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: deployment, namespace: shop}
  spec: &apps
    selector: {matchLabels: {app: web}}
    template: &template
      metadata:
        labels: {app: web}
      spec:
        containers:
        - name: web # ours
          image: web:1
          ports:
          - containerPort: 8080
            name: http
          readinessProbe:
            httpGet: {path: /health, port: http}
- apiVersion: apps/v1
  kind: DaemonSet
  metadata: {name: daemonset, namespace: shop}
  spec: *apps
- apiVersion: apps/v1
  kind: ReplicaSet
  metadata: {name: replicaset, namespace: shop}
  spec: *apps
- apiVersion: v1
  kind: ReplicationController
  metadata: {name: replicationcontroller, namespace: shop}
  spec: {template: *template}
- apiVersion: apps/v1
  kind: StatefulSet
  metadata: {name: statefulset, namespace: shop}
  spec:
    <<: *apps
    serviceName: web
---
apiVersion: batch/v1
kind: Job
metadata: {name: job, namespace: shop}
spec:
  template:
    metadata: {annotations: {larboard.io/upstreams: "stock:9191"}}
    spec: {restartPolicy: Never, containers: [{name: job, image: "job:1"}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: cronjob, namespace: shop}
spec:
  schedule: "0 3 * * *"
  jobTemplate:
    spec:
      template:
        metadata: {annotations: {larboard.io/upstreams: "stock:9191"}}
        spec: {restartPolicy: Never, containers: [{name: job, image: "job:1"}]}
`

// A real API server takes what comes out, of every kind of workload; what it gives back is put in
// no second time, and taken out it takes that, too.
func TestKubernetesTakesIt(t *testing.T) {
	t.Parallel()
	k := real.Kubernetes(t, real.KubernetesOptions{})
	binary, dir := real.Program(t, "."), t.TempDir()
	write(t, filepath.Join(dir, "all.yaml"), allKinds)
	got := larboard(t, binary, dir, "inject", "-f", "all.yaml")
	if got.code != 0 || strings.Count(got.stderr, ": injected\n") != 8 {
		t.Fatalf("%+v", got)
	}
	k.Apply(got.stdout)
	const kinds = "pod,deployment,daemonset,replicaset,replicationcontroller,statefulset,job,cronjob"
	if pods := stored(t, k, kinds); len(pods) != 8 {
		t.Errorf("%d pods", len(pods))
	} else {
		for name, pod := range pods {
			if len(pod.InitContainers) != 1 || pod.InitContainers[0].RestartPolicy == nil || pod.InitContainers[0].Image == "" || len(pod.Volumes) != 1 {
				t.Errorf("%s: %+v", name, pod)
			}
			if p := pod.Containers[0].ReadinessProbe; p != nil && p.HTTPGet.Port.IntValue() != 15021 {
				t.Errorf("%s: %+v", name, p)
			}
		}
	}
	live := k.Kubectl("", "-n", "shop", "get", kinds, "-o", "yaml")
	write(t, filepath.Join(dir, "live.yaml"), live.Stdout)
	if again := larboard(t, binary, dir, "inject", "-f", "live.yaml", "--diff"); again.code != 0 || again.stdout != "" || strings.Count(again.stderr, ": unchanged\n") != 8 {
		t.Errorf("again: %+v", again)
	}
	out := larboard(t, binary, dir, "inject", "-f", "live.yaml", "--uninject")
	if out.code != 0 || strings.Count(out.stderr, ": restored\n") != 8 || strings.Contains(out.stdout, "LARBOARD_CONFIG\n") {
		t.Fatalf("%+v", out)
	}
	// Pods and templates of Jobs never change: the others are applied, these checked as new ones.
	const change = "deployment,daemonset,replicaset,replicationcontroller,statefulset,cronjob"
	some := k.Kubectl("", "-n", "shop", "get", change, "-o", "yaml")
	write(t, filepath.Join(dir, "some.yaml"), some.Stdout)
	k.Apply(larboard(t, binary, dir, "inject", "-f", "some.yaml", "--uninject").stdout)
	for name, pod := range stored(t, k, change) {
		if len(pod.InitContainers) != 0 || len(pod.Volumes) != 0 {
			t.Errorf("taken out: %s: %+v", name, pod)
		}
		if p := pod.Containers[0].ReadinessProbe; p != nil && (p.HTTPGet.Port.String() != "http" || p.HTTPGet.Path != "/health") {
			t.Errorf("taken out: %s: %+v", name, p)
		}
	}
}

// stored are the pods' specifications in what the API server has, by the object's kind and name.
func stored(t *testing.T, k *real.KubernetesServer, kinds string) map[string]corev1.PodSpec {
	t.Helper()
	got := k.Kubectl("", "-n", "shop", "get", kinds, "-o", "json")
	if got.Code != 0 {
		t.Fatalf("kubectl get: %s", got.Stderr)
	}
	var list struct {
		Items []struct {
			Kind     string
			Metadata struct{ Name string }
			Spec     json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(got.Stdout), &list); err != nil {
		t.Fatal(err)
	}
	all := map[string]corev1.PodSpec{}
	for _, o := range list.Items {
		var spec struct {
			corev1.PodSpec
			Template    struct{ Spec corev1.PodSpec }
			JobTemplate struct {
				Spec struct{ Template struct{ Spec corev1.PodSpec } }
			}
		}
		if err := json.Unmarshal(o.Spec, &spec); err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc([]corev1.PodSpec{spec.PodSpec, spec.Template.Spec, spec.JobTemplate.Spec.Template.Spec},
			func(s corev1.PodSpec) bool { return len(s.Containers) > 0 })
		all[o.Kind+" "+o.Metadata.Name] = []corev1.PodSpec{spec.PodSpec, spec.Template.Spec, spec.JobTemplate.Spec.Template.Spec}[i]
	}
	return all
}
