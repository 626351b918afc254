// Package injector decides how a workload is put into the mesh: which containers,
// volumes and variables a pod gets, and with which configuration its proxy begins. It
// is pure: pods in, pods out. It must not know who asks: the webhook
// (injector/webhook), or `larboard inject` on files (injector/manifest).
package injector

import (
	"encoding/json"
	"fmt"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
)

// Namespace is what counts of the namespace that a pod is made in.
type Namespace struct {
	Name                string
	Labels, Annotations map[string]string
}

// Counts reports whether a label or an annotation of a namespace counts for Mutate, by its name: a
// Namespace may leave out all others.
func Counts(name string) bool { return strings.HasPrefix(name, Prefix) || name == podSecurity }

// podSecurity is the label by which a namespace chooses a pod security standard.
const podSecurity = "pod-security.kubernetes.io/enforce"

// Result is what became of a pod.
type Result struct {
	// Pod is a new one, also where nothing has changed; the one given stays as it is.
	Pod *corev1.Pod
	// Skipped says why nothing was to be done, for people; empty: the pod was injected, now
	// or before.
	Skipped string
	// Warnings are what whoever made the pod should know.
	Warnings []string
}

// Patch is what turns the pod's JSON, as it was sent, into r's; nil: nothing. What our types do not know of
// it stays as it is.
// Source: RFC 6902.
func (r Result) Patch(original []byte) ([]byte, error) {
	mutated, err := json.Marshal(r.Pod)
	if err == nil {
		mutated, err = carried(original, mutated)
	}
	if err != nil {
		return nil, fmt.Errorf("injector: %w", err)
	}
	operations, err := jsonpatch.CreatePatch(original, mutated)
	if err != nil {
		return nil, fmt.Errorf("injector: %w", err)
	}
	if len(operations) == 0 {
		return nil, nil
	}
	return json.Marshal(operations)
}
