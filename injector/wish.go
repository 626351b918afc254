package injector

import (
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// wish is what is wanted for one pod: the installation's settings, overridden by its namespace
// and by itself, and what only a pod can say.
type wish struct {
	Settings
	pod *corev1.Pod
	ns  Namespace

	service, portList, upstreamList string
	container                       string
	last                            bool
	override                        string

	ports     []port
	upstreams []upstream

	given    map[string]string // who has set the setting at a path
	warnings []string
	problems []string
}

func newWish(pod *corev1.Pod, ns Namespace, s *Settings) *wish {
	w := &wish{Settings: *s, pod: pod, ns: ns, given: map[string]string{}}
	w.take(ns.Annotations, "namespace "+ns.Name)
	w.take(pod.Annotations, "")
	w.Settings.check(func(path, message, suggestion string) {
		field, _, _ := strings.Cut(path, "[")
		if where := w.given[field]; where != "" {
			path = where
		}
		if suggestion != "" {
			message += fmt.Sprintf("; did you mean %q?", suggestion)
		}
		w.refuse("%s: %s", path, message)
	})
	return w
}

func (w *wish) refuse(format string, args ...any) {
	w.problems = append(w.problems, fmt.Sprintf(format, args...))
}

func (w *wish) warn(format string, args ...any) {
	w.warnings = append(w.warnings, fmt.Sprintf(format, args...))
}

// err is what cannot be done right, all of it; nil: nothing.
func (w *wish) err() error {
	if len(w.problems) == 0 {
		return nil
	}
	return errors.New("larboard cannot inject " + w.who() + ": " + strings.Join(w.problems, "; "))
}

// who names the pod for people; one that is to be made may have no name yet.
func (w *wish) who() string {
	switch {
	case w.pod.Name != "":
		return "pod " + w.pod.Name
	case w.pod.GenerateName != "":
		return "pods " + w.pod.GenerateName + "*"
	}
	return "the pod"
}

// form is the one that FormAuto stands for, or the one that is asked for.
func (w *wish) form() Form {
	if w.Form != FormAuto {
		return w.Form
	}
	second, known := minor(w.Kubernetes)
	switch {
	case !known || second >= 29:
		return FormNative
	case w.ends():
		return FormWrapped
	}
	return FormClassic
}

// ends reports whether the pod is to end by itself, as those of Jobs.
func (w *wish) ends() bool {
	return w.pod.Spec.RestartPolicy == corev1.RestartPolicyNever || w.pod.Spec.RestartPolicy == corev1.RestartPolicyOnFailure
}
