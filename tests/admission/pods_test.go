package admission

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// manifests are what a user applies.
func manifests(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile("../../deploy/kubernetes/larboard.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestAdmission has what needs one installation that works all the time.
func TestAdmission(t *testing.T) {
	m := install(t, manifests(t))
	m.start()
	m.namespace("shop", meshed)
	m.namespace("plain", "")
	for name, test := range map[string]func(*mesh){
		"workloads":      (*mesh).testWorkloads,
		"opting out":     (*mesh).testOptingOut,
		"again":          (*mesh).testAgain,
		"dry run":        (*mesh).testDryRun,
		"updates":        (*mesh).testUpdates,
		"refusals":       (*mesh).testRefusals,
		"other webhooks": (*mesh).testOtherWebhooks,
		"shapes":         (*mesh).testShapes,
	} {
		t.Run(name, func(t *testing.T) { test(m.with(t)) })
	}
}

// template is that of all workloads: with what is mutated beside the sidecar.
const template = `
  metadata: {labels: {app: %[1]s}}
  spec:
    containers:
    - name: app
      image: app:1
      ports: [{containerPort: 8080}]
      readinessProbe: {httpGet: {path: /health, port: 8080}, periodSeconds: 3}
      livenessProbe: {tcpSocket: {port: 8080}}`

// workloads are those of every kind, by name; their pods have the label app.
func workloads() map[string]string {
	selector := "\n  selector: {matchLabels: {app: %[1]s}}"
	in := func(indent, text string) string { return strings.ReplaceAll(text, "\n", "\n"+indent) }
	once := template + "\n    restartPolicy: Never"
	return map[string]string{
		"replicationcontroller": "apiVersion: v1\nkind: ReplicationController\nspec:\n  selector: {app: %[1]s}\n  template:" + in("  ", template),
		"replicaset":            "apiVersion: apps/v1\nkind: ReplicaSet\nspec:" + selector + "\n  template:" + in("  ", template),
		"deployment":            "apiVersion: apps/v1\nkind: Deployment\nspec:" + selector + "\n  template:" + in("  ", template),
		"statefulset":           "apiVersion: apps/v1\nkind: StatefulSet\nspec:\n  serviceName: x" + selector + "\n  template:" + in("  ", template),
		"daemonset":             "apiVersion: apps/v1\nkind: DaemonSet\nspec:" + selector + "\n  template:" + in("  ", template),
		"job":                   "apiVersion: batch/v1\nkind: Job\nspec:\n  template:" + in("  ", once),
		"cronjob":               "apiVersion: batch/v1\nkind: CronJob\nspec:\n  schedule: '0 0 1 1 *'\n  jobTemplate:\n    spec:\n      template:" + in("      ", once),
	}
}

// Pods of every kind of workload, made by Kubernetes' own controllers, are kept with their sidecar.
func (m *mesh) testWorkloads() {
	m.Apply("apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n") // for the DaemonSet
	all := workloads()
	for name, text := range all {
		m.Apply(fmt.Sprintf(text, name) + fmt.Sprintf("\nmetadata: {name: %s, namespace: shop}\n", name))
	}
	if ran := m.Kubectl("", "-n", "shop", "create", "job", "--from=cronjob/cronjob", "cronjob-now"); ran.Code != 0 {
		m.t.Fatalf("%+v", ran)
	}
	m.Apply("apiVersion: v1\nkind: Pod" + strings.ReplaceAll(fmt.Sprintf(template, "pod}, name: pod, namespace: shop, annotations: {"), "\n  ", "\n"))
	m.checkInjected("pod", m.pod("shop", "pod"))
	for name := range all {
		kept := m.podOf(name)
		m.checkInjected(name, kept)
		if len(kept.OwnerReferences) != 1 {
			m.t.Errorf("%s: owners %v", name, kept.OwnerReferences)
		}
	}
}

// podOf is a workload's pod as it is kept.
func (m *mesh) podOf(workload string) *corev1.Pod {
	m.t.Helper()
	var found *corev1.Pod
	m.until("a pod of the "+workload, func() error {
		all := m.pods("shop", "app%3D"+workload)
		if len(all) == 0 {
			return fmt.Errorf("none: %s", m.Kubectl("", "-n", "shop", "get", "events").Stdout)
		}
		found = &all[0]
		return nil
	})
	return found
}

// checkInjected judges a pod of template as the API server has kept it.
func (m *mesh) checkInjected(name string, p *corev1.Pod) {
	m.t.Helper()
	c := sidecar(p)
	if c == nil {
		m.t.Errorf("%s: no sidecar\n%s", name, text(p))
		return
	}
	if c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
		m.t.Errorf("%s: the sidecar is no native one", name)
	}
	if c.SecurityContext == nil || *c.SecurityContext.RunAsUser != 1337 || !*c.SecurityContext.ReadOnlyRootFilesystem || *c.SecurityContext.AllowPrivilegeEscalation {
		m.t.Errorf("%s: security context %s", name, text(c.SecurityContext))
	}
	app := p.Spec.Containers[0]
	for kind, probe := range map[string]*corev1.Probe{"readiness": app.ReadinessProbe, "liveness": app.LivenessProbe} {
		if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != "/probe/app/"+kind || probe.HTTPGet.Port.IntValue() != 15021 {
			m.t.Errorf("%s: %s probe %s", name, kind, text(probe))
		}
	}
	if app.ReadinessProbe != nil && app.ReadinessProbe.PeriodSeconds != 3 {
		m.t.Errorf("%s: the readiness probe's period is %d", name, app.ReadinessProbe.PeriodSeconds)
	}
	ours := 0
	for _, v := range p.Spec.Volumes {
		if strings.HasPrefix(v.Name, "larboard-") {
			ours++
		}
	}
	if ours == 0 || p.Annotations["larboard.io/status"] == "" {
		m.t.Errorf("%s: %d volumes of ours, annotations %v", name, ours, p.Annotations)
	}
}

// Whoever does not want it is left alone: by label, by annotation, by namespace; and whoever does
// is not, by label.
func (m *mesh) testOptingOut() {
	labelled, annotated := plain("labelled"), plain("annotated")
	labelled.Labels = map[string]string{"larboard.io/inject": "false"}
	annotated.Annotations = map[string]string{"larboard.io/inject": "false"}
	for namespace, pods := range map[string][]*corev1.Pod{"shop": {labelled, annotated}, "plain": {plain("one")}, "kube-system": {plain("one")}} {
		for _, p := range pods {
			m.until("service account", func() error {
				return m.Call(http.MethodGet, "/api/v1/namespaces/"+namespace+"/serviceaccounts/default", nil, nil)
			})
			kept, _, err := m.create(namespace, p, "")
			if err != nil {
				m.t.Fatal(err)
			}
			if sidecar(kept) != nil || kept.Annotations["larboard.io/status"] != "" {
				m.t.Errorf("%s/%s was injected", namespace, p.Name)
			}
		}
	}
	for _, p := range m.ownPods() {
		if sidecar(&p) != nil {
			m.t.Errorf("the injector's own pod %s was injected", p.Name)
		}
	}
	asking := plain("asking")
	asking.Labels = map[string]string{"larboard.io/inject": "true"}
	if kept, _, err := m.create("plain", asking, ""); err != nil || sidecar(kept) == nil {
		m.t.Errorf("a pod that asks for it elsewhere: %v, %s", err, text(kept))
	}
}

// ownPods are the injector's, which its Deployment has made; there is no node that runs them.
func (m *mesh) ownPods() (all []corev1.Pod) {
	m.t.Helper()
	m.until("the injector's own pods", func() error {
		all = m.pods("larboard-system", "app.kubernetes.io/name%3Dlarboard-injector")
		if len(all) != 2 {
			return fmt.Errorf("%d", len(all))
		}
		return nil
	})
	return all
}

// A pod that is made anew from what was kept is kept as it is.
func (m *mesh) testAgain() {
	first, _, err := m.create("shop", plain("again"), "")
	if err != nil {
		m.t.Fatal(err)
	}
	second := first.DeepCopy()
	second.ObjectMeta = *first.ObjectMeta.DeepCopy()
	second.Name, second.UID, second.ResourceVersion = "again-2", "", ""
	kept, _, err := m.create("shop", second, "")
	if err != nil {
		m.t.Fatal(err)
	}
	if before, after := text(first.Spec), text(kept.Spec); before != after {
		m.t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if before, after := first.Annotations["larboard.io/status"], kept.Annotations["larboard.io/status"]; before != after {
		m.t.Errorf("status before %s, after %s", before, after)
	}
}

// A dry run shows the pod as it would be kept.
func (m *mesh) testDryRun() {
	ran := m.Kubectl(text(plain("dry")), "-n", "shop", "apply", "--dry-run=server", "-o", "yaml", "-f", "-")
	if ran.Code != 0 || !strings.Contains(ran.Stdout, "name: larboard\n") || !strings.Contains(ran.Stdout, "restartPolicy: Always") {
		m.t.Errorf("%+v", ran)
	}
	if err := m.Call(http.MethodGet, "/api/v1/namespaces/shop/pods/dry", nil, nil); err == nil {
		m.t.Error("the pod of a dry run is there")
	}
}

// Updates of an injected pod go through as those of any other.
func (m *mesh) testUpdates() {
	before, _, err := m.create("shop", plain("updated"), "")
	if err != nil {
		m.t.Fatal(err)
	}
	for _, args := range [][]string{
		{"label", "pod", "updated", "color=red"},
		{"annotate", "pod", "updated", "larboard.io/inject=false"},
		{"set", "image", "pod/updated", "app=app:2"},
	} {
		if ran := m.Kubectl("", append([]string{"-n", "shop"}, args...)...); ran.Code != 0 {
			m.t.Errorf("%q: %+v", args, ran)
		}
	}
	after := m.pod("shop", "updated")
	if after.Spec.Containers[0].Image != "app:2" || text(after.Spec.InitContainers) != text(before.Spec.InitContainers) {
		m.t.Errorf("after: %s", text(after.Spec))
	}
}

// What cannot be done right is refused with our sentence, which kubectl shows; what should be
// known comes as a warning.
func (m *mesh) testRefusals() {
	p := plain("refused")
	p.Annotations = map[string]string{"larboard.io/protocol": "htp"}
	ran := m.Kubectl(text(p), "-n", "shop", "create", "-f", "-")
	const want = `admission webhook "inject.larboard.io" denied the request: `
	if ran.Code == 0 || !strings.Contains(ran.Stderr, want) || !strings.Contains(ran.Stderr, `"htp"`) || !strings.Contains(ran.Stderr, `"http"`) {
		m.t.Errorf("%+v", ran)
	}
	if err := m.Call(http.MethodGet, "/api/v1/namespaces/shop/pods/refused", nil, nil); err == nil {
		m.t.Error("the pod that was refused is there")
	}
	p = plain("warned")
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "istio-proxy", Image: "x"})
	ran = m.Kubectl(text(p), "-n", "shop", "create", "-f", "-")
	if ran.Code != 0 || !strings.Contains(ran.Stderr, "Warning: ") || !strings.Contains(ran.Stderr, "istio-proxy") {
		m.t.Errorf("%+v", ran)
	}
}
