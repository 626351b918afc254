package injector

import (
	"encoding/json"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Mutate puts pod, which is made in ns, into the mesh. It is pure, and a pod that it has made
// comes out unchanged; where others have damaged what it put there, it is repaired. The one given
// stays as it is. An error is what cannot be done right, as a sentence for whoever made the pod.
func Mutate(pod *corev1.Pod, ns Namespace, s *Settings) (Result, error) {
	before, err := statusOf(pod)
	if err != nil {
		return Result{}, err
	}
	out, err := Uninject(pod)
	if err != nil {
		return Result{}, err
	}
	w := newWish(out, ns, s)
	if reason := w.skip(); reason != "" {
		return Result{Pod: pod.DeepCopy(), Skipped: reason}, nil
	}
	w.findServices()
	w.clashes()
	if err := w.err(); err != nil {
		return Result{}, err
	}
	if len(w.ports) == 0 && len(w.upstreams) == 0 && w.Capture.Mode == CaptureNone && w.override == "" {
		return Result{Pod: pod.DeepCopy(), Skipped: "the pod has no TCP port, and names none with " + Prefix + "ports; nor does it call anybody with " + Prefix + "upstreams"}, nil
	}
	w.inject(out, pod, before)
	if err := w.err(); err != nil {
		return Result{}, err
	}
	return Result{Pod: out, Warnings: w.warnings}, nil
}

// inject changes pod, which has nothing of ours; was is the pod before that was taken away, and
// before what its annotation says.
func (w *wish) inject(pod, was *corev1.Pod, before *status) {
	checks, probes := w.rewriteProbes(pod)
	now := status{Version: w.Version, Form: w.form(), Image: w.image(), Probes: probes.since(before)}
	configuration := w.proxyConfig(checks)
	now.Delayed = w.delayAll(pod)
	var first []corev1.Container // of the init containers
	if w.Capture.Mode != CaptureNone {
		first = append(first, w.capture())
	}
	switch now.Form {
	case FormNative:
		first = append(first, w.sidecar(configuration))
	case FormClassic:
		pod.Spec.Containers = append([]corev1.Container{w.sidecar(configuration)}, pod.Spec.Containers...)
		now.Containers = append(now.Containers, sidecarName)
		now.DefaultContainer = w.nameDefault(pod)
	case FormWrapped:
		if c := w.application(pod); c != nil {
			w.wrap(c, configuration)
			now.Wrapped = c.Name
		}
		first = append(first, w.install())
	}
	for _, c := range first {
		now.Containers = append(now.Containers, c.Name)
	}
	if w.last || now.Form == FormClassic { // without a proxy nothing that is captured would get anywhere
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, first...)
	} else {
		pod.Spec.InitContainers = append(first, pod.Spec.InitContainers...)
	}
	for _, v := range w.volumes() {
		pod.Spec.Volumes = append(pod.Spec.Volumes, v.Volume)
		now.Volumes = append(now.Volumes, v.Name)
	}
	if before != nil {
		keep(pod, was, before)
	}
	text, err := json.Marshal(now)
	if err != nil {
		panic("injector: status: " + err.Error()) // plain texts and Kubernetes' own types
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[StatusKey] = string(text)
}

// nameDefault tells kubectl that the first container of the application is meant, not the proxy.
func (w *wish) nameDefault(pod *corev1.Pod) bool {
	if _, given := pod.Annotations[defaultContainer]; given || len(pod.Spec.Containers) < 2 {
		return false
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[defaultContainer] = pod.Spec.Containers[1].Name
	return true
}

// keep gives our containers in pod what others have added to those in was since an injection
// before: tokens, variables, limits, another registry.
func keep(pod, was *corev1.Pod, before *status) {
	for c := range containersOf(pod) {
		if !slices.Contains(before.Containers, c.Name) {
			continue
		}
		for old := range containersOf(was) {
			if old.Name == c.Name {
				keepContainer(c, old, before)
			}
		}
	}
	inOrder(pod.Spec.Volumes, was.Spec.Volumes, func(v corev1.Volume) string { return v.Name })
	for i := range pod.Spec.Containers {
		for j := range was.Spec.Containers {
			if c, old := &pod.Spec.Containers[i], &was.Spec.Containers[j]; c.Name == before.Wrapped && c.Name == old.Name {
				inOrder(c.Env, old.Env, func(v corev1.EnvVar) string { return v.Name })
				inOrder(c.VolumeMounts, old.VolumeMounts, func(m corev1.VolumeMount) string { return m.MountPath })
			}
		}
	}
}

func keepContainer(c, old *corev1.Container, before *status) {
	if old.Image != "" && old.Image != before.Image {
		c.Image = old.Image
	}
	for _, v := range old.Env {
		if !slices.ContainsFunc(c.Env, func(have corev1.EnvVar) bool { return have.Name == v.Name }) {
			c.Env = append(c.Env, v)
		}
	}
	for _, m := range old.VolumeMounts {
		same := func(have corev1.VolumeMount) bool { return have.MountPath == m.MountPath }
		if !strings.HasPrefix(m.Name, volumePrefix) && !slices.ContainsFunc(c.VolumeMounts, same) {
			c.VolumeMounts = append(c.VolumeMounts, m)
		}
	}
	keepResources(&c.Resources.Requests, old.Resources.Requests)
	keepResources(&c.Resources.Limits, old.Resources.Limits)
}

func keepResources(have *corev1.ResourceList, old corev1.ResourceList) {
	for name, q := range old {
		if _, ok := (*have)[name]; !ok {
			if *have == nil {
				*have = corev1.ResourceList{}
			}
			(*have)[name] = q
		}
	}
}

// inOrder puts those of list that were there before where they stood among each other, and the
// others behind them.
func inOrder[T any](list, before []T, name func(T) string) {
	places := make(map[string]int, len(before))
	for i, one := range before {
		places[name(one)] = i
	}
	place := func(one T) int {
		if i, ok := places[name(one)]; ok {
			return i
		}
		return len(before)
	}
	slices.SortStableFunc(list, func(a, b T) int { return place(a) - place(b) })
}
