package injector

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// status is the annotation StatusKey: what has been put into a pod, and what it takes to have the
// pod back.
type status struct {
	Version    string   `json:"version,omitempty"`
	Form       Form     `json:"form"`
	Image      string   `json:"image"`
	Containers []string `json:"containers,omitempty"`
	Volumes    []string `json:"volumes,omitempty"`
	// Wrapped is the container whose command the proxy begins.
	Wrapped string `json:"wrapped,omitempty"`
	// DefaultContainer: kubectl has been told which container is meant without a name.
	DefaultContainer bool `json:"defaultContainer,omitempty"`
	// Delayed are the containers that have been given a hook.
	Delayed []string  `json:"delayed,omitempty"`
	Probes  originals `json:"probes,omitempty"`
}

const defaultContainer = "kubectl.kubernetes.io/default-container"

// statusOf reads the annotation; nil: there is none.
func statusOf(pod *corev1.Pod) (*status, error) {
	text, ok := pod.Annotations[StatusKey]
	if !ok {
		return nil, nil
	}
	var s status
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return nil, fmt.Errorf("larboard: the annotation %s, which an injection leaves, cannot be read; take it away: %w", StatusKey, err)
	}
	for _, name := range s.Containers {
		if !slices.Contains(ours, name) {
			return nil, fmt.Errorf("larboard: the annotation %s names the container %s, which is not ours; take the annotation away", StatusKey, name)
		}
	}
	for _, name := range s.Volumes {
		if !strings.HasPrefix(name, volumePrefix) {
			return nil, fmt.Errorf("larboard: the annotation %s names the volume %s, which is not ours; take the annotation away", StatusKey, name)
		}
	}
	return &s, nil
}

// Uninject returns a copy of pod without what Mutate has put into it; a pod without that comes
// back as it is. It is the inverse of Mutate also where others have added to the pod since, and
// what they added to our containers goes with these. An error is a status annotation that cannot
// be ours.
func Uninject(pod *corev1.Pod) (*corev1.Pod, error) {
	s, err := statusOf(pod)
	if err != nil {
		return nil, err
	}
	out := pod.DeepCopy()
	if s != nil {
		s.undo(out)
	}
	return out, nil
}

func (s *status) undo(pod *corev1.Pod) {
	spec := &pod.Spec
	added := func(c corev1.Container) bool { return slices.Contains(s.Containers, c.Name) }
	spec.InitContainers = without(spec.InitContainers, added)
	spec.Containers = without(spec.Containers, added)
	spec.Volumes = without(spec.Volumes, func(v corev1.Volume) bool { return slices.Contains(s.Volumes, v.Name) })
	s.Probes.restore(pod)
	for i := range spec.Containers {
		if slices.Contains(s.Delayed, spec.Containers[i].Name) {
			hasten(&spec.Containers[i])
		}
	}
	if s.Wrapped != "" {
		for i := range spec.Containers {
			if spec.Containers[i].Name == s.Wrapped {
				unwrap(&spec.Containers[i])
			}
		}
	}
	delete(pod.Annotations, StatusKey)
	if s.DefaultContainer {
		delete(pod.Annotations, defaultContainer)
	}
	if len(pod.Annotations) == 0 {
		pod.Annotations = nil
	}
}

// without is list without those that gone is true of; nil where nothing is left of something.
func without[T any](list []T, gone func(T) bool) []T {
	left := slices.DeleteFunc(list, gone)
	if len(left) == 0 {
		return nil
	}
	return left
}
