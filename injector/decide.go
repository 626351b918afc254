package injector

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// skip says, as a sentence, why the pod is left as it is; "": it is not. What a pod asks for by
// itself and cannot have is a problem instead.
func (w *wish) skip() string {
	if w.ns.Name != "" && (w.ns.Name == w.Settings.Namespace || slices.Contains(w.Never, w.ns.Name)) {
		return fmt.Sprintf("pods of the namespace %s are never injected", w.ns.Name)
	}
	asked, reason := w.asked()
	if reason != "" {
		return reason
	}
	if reason = w.unfit(); reason != "" && asked {
		w.refuse("%s", reason)
		return ""
	}
	return reason
}

// asked reports whether the pod itself asks to be injected, and why it is not meant.
func (w *wish) asked() (asked bool, reason string) {
	of := "label"
	value := w.pod.Labels[InjectKey]
	if value == "" {
		of, value = "annotation", w.pod.Annotations[InjectKey]
	}
	switch value {
	case "true", "enabled":
		return true, ""
	case "false", "disabled":
		return false, fmt.Sprintf("the pod's %s %s is %q", of, InjectKey, value)
	case "":
	default:
		w.refuse("%s: %q is neither true nor false", InjectKey, value)
		return true, ""
	}
	switch value := w.ns.Labels[InjectKey]; {
	case value == "enabled" || value == "true":
	case value == "disabled" || value == "false":
		return false, fmt.Sprintf("the label %s of the namespace %s is %q", InjectKey, w.ns.Name, value)
	case value != "":
		w.warn("the label %s of the namespace %s is %q, neither enabled nor disabled", InjectKey, w.ns.Name, value)
		fallthrough
	case w.Inject != InjectAll:
		return false, fmt.Sprintf("neither the pod nor its namespace asks for it; the label %s says so", InjectKey)
	}
	return false, ""
}

// unfit says what keeps a pod from being injected at all.
func (w *wish) unfit() string {
	spec := &w.pod.Spec
	switch {
	case w.pod.Annotations[corev1.MirrorPodAnnotationKey] != "":
		return "the pod is the mirror of a static one, which its kubelet runs as it is written there"
	case spec.HostNetwork:
		return "the pod is in the node's network (hostNetwork), where ports are shared with everything on the node; run one larboard for the host instead (per-host.md)"
	case windows(spec):
		return "the pod is for Windows, for which there is no proxy"
	}
	return ""
}

func windows(spec *corev1.PodSpec) bool {
	return spec.OS != nil && spec.OS.Name == corev1.Windows || spec.NodeSelector["kubernetes.io/os"] == "windows"
}

// sidecars are containers that others inject to carry a pod's traffic.
var sidecars = []string{"istio-proxy", "linkerd-proxy", "kuma-sidecar", "consul-dataplane", "envoy-sidecar", "osm-envoy"}

// clashes reports what in the pod cannot stand beside the proxy.
func (w *wish) clashes() {
	for c := range w.containers() {
		if strings.HasPrefix(c.Name, "larboard") && slices.Contains(ours, c.Name) {
			w.refuse("the pod has a container %s that is not ours; give it another name, or take it away with `larboard inject --uninject` where an earlier injection made it", c.Name)
		}
		if slices.Contains(sidecars, c.Name) {
			if w.Capture.Mode != CaptureNone {
				w.refuse("the container %s carries the pod's traffic already, and two redirections would chase each other; choose one mesh, or %scapture: none", c.Name, Prefix)
			} else {
				w.warn("the container %s carries the pod's traffic, too; calls to the proxy's ports on 127.0.0.1 and those to the mesh port should be kept from it", c.Name)
			}
		}
		w.clashingPorts(c)
	}
	for _, v := range w.pod.Spec.Volumes {
		if strings.HasPrefix(v.Name, volumePrefix) {
			w.refuse("the pod has a volume %s, and names that begin with %s are ours; give it another name", v.Name, volumePrefix)
		}
	}
	if w.Capture.Mode != CaptureNone {
		w.clashesOfCapture()
	}
	w.hints()
}

// clashingPorts reports ports of c that the proxy listens on.
func (w *wish) clashingPorts(c *corev1.Container) {
	taken := map[int]string{AdminPort: "admin interface", ProbePort: "probes"}
	for i := range w.ports {
		taken[MeshPort+i] = "mesh listener"
	}
	if w.Capture.Mode != CaptureNone {
		taken[OutboundPort] = "captured connections"
	}
	if w.Capture.Mode == CaptureBoth {
		taken[InboundPort] = "captured connections"
	}
	for _, u := range w.upstreams {
		if what := taken[u.port]; what != "" {
			w.refuse("%supstreams: the port %d of %s is that of the proxy's %s", Prefix, u.port, u.service, what)
		} else if u.port > 0 {
			taken[u.port] = "upstream " + u.service
		}
	}
	for _, p := range c.Ports {
		if p.Protocol != "" && p.Protocol != corev1.ProtocolTCP {
			continue
		}
		if what := taken[int(p.ContainerPort)]; what != "" {
			w.refuse("the container %s has the port %d, which is that of the proxy's %s; change one of them", c.Name, p.ContainerPort, what)
		}
	}
}

func (w *wish) clashesOfCapture() {
	if w.form() == FormWrapped {
		w.refuse("the form wrapped runs the proxy as the application's user, whose connections capture could not tell from the application's; use %scapture: none, or another form", Prefix)
	}
	if len(w.ports) > 1 && w.identityByService() {
		w.refuse("with the identity %s each of the %d ports has a certificate of its own, and a captured connection of the application does not tell which one it is to be made with; name one port in %sports, or use %scapture: none", w.Identity.Source, len(w.ports), Prefix, Prefix)
	}
	var all *int64
	if c := w.pod.Spec.SecurityContext; c != nil {
		all = c.RunAsUser
	}
	for c := range w.containers() {
		user := all
		if c.SecurityContext != nil && c.SecurityContext.RunAsUser != nil {
			user = c.SecurityContext.RunAsUser
		}
		if user != nil && *user == userID {
			w.refuse("the container %s runs as user %d, the proxy's own, whose connections are not captured; run it as another", c.Name, userID)
		}
	}
	if level := w.ns.Labels[podSecurity]; level == "baseline" || level == "restricted" {
		w.warn("the namespace %s enforces the pod security standard %s, which refuses the NET_ADMIN that the init container %s needs", w.ns.Name, level, captureName)
	}
}

// hints warns of what works other than one may expect.
func (w *wish) hints() {
	if w.ends() && w.form() == FormClassic {
		w.warn("the pod is to end (restartPolicy %s), and in the form classic its proxy keeps it running; use the form native or wrapped", w.pod.Spec.RestartPolicy)
	}
	for c := range w.containers() {
		if w.Capture.Mode == CaptureBoth && c.Lifecycle != nil && (asksPod(c.Lifecycle.PostStart) || asksPod(c.Lifecycle.PreStop)) {
			w.warn("a hook of the container %s is an HTTP request of the kubelet, which capture refuses at a port of the mesh, since it is no mutual TLS; use a command, or %sexclude-inbound-ports", c.Name, Prefix)
		}
	}
	level := w.ns.Labels[podSecurity]
	if host := w.Identity.Source == IdentityHostPath || w.Identity.Source == IdentityDev; host && (level == "baseline" || level == "restricted") {
		w.warn("the namespace %s enforces the pod security standard %s, which refuses the hostPath volume of the identity %s; use %s", w.ns.Name, level, w.Identity.Source, IdentityCSI)
	}
	if w.Identity.Source == IdentityDev {
		w.warn("the identity dev is for trials: whoever reads its directory on the node can be anybody")
	}
}

func asksPod(h *corev1.LifecycleHandler) bool {
	return h != nil && h.HTTPGet != nil && h.HTTPGet.Host == ""
}

// containers are the pod's ordinary and init containers.
func (w *wish) containers() func(yield func(*corev1.Container) bool) { return containersOf(w.pod) }

func containersOf(pod *corev1.Pod) func(yield func(*corev1.Container) bool) {
	return func(yield func(*corev1.Container) bool) {
		for i := range pod.Spec.InitContainers {
			if !yield(&pod.Spec.InitContainers[i]) {
				return
			}
		}
		for i := range pod.Spec.Containers {
			if !yield(&pod.Spec.Containers[i]) {
				return
			}
		}
	}
}
