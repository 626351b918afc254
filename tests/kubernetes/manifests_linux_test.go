package kubernetes

import (
	"cmp"
	"fmt"
	"strings"
)

// workload describes one application in a namespace of the mesh.
type workload struct {
	name        string
	kind        string // Deployment (default) or Job
	replicas    int    // default 1
	annotations map[string]string
	env         map[string]string
	probes      string // default: readiness by HTTP
	command     []string
}

// readiness is the usual probe.
const readiness = "readinessProbe: {httpGet: {port: 8080, path: /health}, periodSeconds: 1}"

// namespaced is a namespace whose pods are injected.
func namespaced(name string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {larboard.io/inject: enabled}}\n---\n", name)
}

// manifest is a service account and the workload.
func (w workload) manifest(namespace string) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: %s, namespace: %s}\n---", w.name, namespace)
	if w.kind == "Job" {
		p("apiVersion: batch/v1\nkind: Job\nmetadata: {name: %s, namespace: %s}\nspec:\n  backoffLimit: 0", w.name, namespace)
	} else {
		p("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: %s, namespace: %s}\nspec:", w.name, namespace)
		p("  replicas: %d\n  selector: {matchLabels: {app: %s}}", max(w.replicas, 1), w.name)
		p("  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}")
	}
	p("  template:\n    metadata:\n      labels: {app: %s}\n      annotations:\n        larboard.io/service: %s", w.name, w.name)
	for key, value := range w.annotations {
		p("        larboard.io/%s: %q", key, value)
	}
	p("    spec:\n      serviceAccountName: %s", w.name)
	if w.kind == "Job" {
		p("      restartPolicy: Never")
	}
	p("      containers:\n      - name: app\n        image: %s\n        imagePullPolicy: Never", appImage)
	if len(w.command) > 0 {
		p("        command: [%s]", strings.Join(w.command, ", "))
	}
	if w.kind != "Job" {
		p("        ports: [{containerPort: 8080}]")
	}
	if w.kind != "Job" {
		p("        %s", cmp.Or(w.probes, readiness))
	}
	p("        env:\n        - {name: NAME, value: %s}", w.name)
	for key, value := range w.env {
		p("        - {name: %s, value: %q}", key, value)
	}
	p("---")
	return b.String()
}
