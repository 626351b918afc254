package injector

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// What works other than one may expect is said, and the pod injected.
func TestWarnings(t *testing.T) {
	edit := func(pod *corev1.Pod, f func(*corev1.PodSpec)) *corev1.Pod { f(&pod.Spec); return pod }
	restricted := shop()
	restricted.Labels[podSecurity] = "restricted"
	odd := shop()
	odd.Annotations = map[string]string{Prefix + "prots": "1", Prefix + "service": "web", Prefix + "capture": "none"}
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		ns   Namespace
		want string // "": nothing
	}{
		"nothing":            {webPod(), shop(), ""},
		"unknown of ns":      {webPod(), odd, "namespace shop: larboard.io/prots: unknown annotation"},
		"of pods only":       {webPod(), odd, "namespace shop: larboard.io/service: is for pods, not for namespaces"},
		"job":                {edit(webPod("form", "classic"), func(s *corev1.PodSpec) { s.RestartPolicy = corev1.RestartPolicyNever }), shop(), "in the form classic its proxy keeps it running"},
		"dev":                {webPod("identity", "dev"), shop(), "the identity dev is for trials"},
		"host path":          {webPod("identity", "spiffe-hostpath"), restricted, "refuses the hostPath volume of the identity spiffe-hostpath"},
		"capture":            {webPod("capture", "outbound"), restricted, "refuses the NET_ADMIN that the init container larboard-capture needs"},
		"beside another":     {edit(webPod(), func(s *corev1.PodSpec) { s.Containers = append(s.Containers, corev1.Container{Name: "linkerd-proxy"}) }), shop(), "the container linkerd-proxy carries the pod's traffic, too"},
		"probes of captured": {webPod("capture", "both", "rewrite-probes", "false"), shop(), "probes of the ports of the mesh are refused"},
		"probe of a stranger": {edit(webPod(), func(s *corev1.PodSpec) {
			s.Containers[0].LivenessProbe = httpProbe("http")
			s.Containers[0].LivenessProbe.HTTPGet.Host = "192.0.2.1"
		}), shop(), "the liveness probe of web asks the host 192.0.2.1"},
		"hook": {edit(webPod("capture", "both"), func(s *corev1.PodSpec) {
			s.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/stop"}}}
		}), shop(), "a hook of the container web is an HTTP request of the kubelet"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Mutate(test.pod, test.ns, DefaultSettings())
			if err != nil || r.Skipped != "" {
				t.Fatal(err, r.Skipped)
			}
			if all := strings.Join(r.Warnings, "\n"); test.want == "" && all != "" || !strings.Contains(all, test.want) {
				t.Errorf("got\n%s\nwant\n%s", all, test.want)
			}
		})
	}
}

// A pod as large as the API server takes is injected by a patch that does not repeat it.
func TestHugePod(t *testing.T) {
	pod := webPod("upstreams", "stock:9191")
	for range 4 {
		pod.Spec.Containers[0].Env = append(pod.Spec.Containers[0].Env, corev1.EnvVar{Name: "V" + strings.Repeat("x", len(pod.Spec.Containers[0].Env)), Value: strings.Repeat("v", 256<<10)})
	}
	for i := range 200 {
		c := *pod.Spec.Containers[0].DeepCopy()
		c.Name, c.Ports, c.Env = "c-"+strings.Repeat("x", i%50)+"-"+string(rune('a'+i%26))+"-"+strings.Repeat("y", i/50), nil, nil
		c.LivenessProbe = httpProbe("8080")
		pod.Spec.Containers = append(pod.Spec.Containers, c)
	}
	r, err := Mutate(pod, shop(), DefaultSettings())
	if err != nil {
		t.Fatal(err)
	}
	original, _ := json.Marshal(pod)
	patch, err := r.Patch(original)
	if err != nil || len(original) < 1<<20 || len(patch) == 0 || len(patch) > 200<<10 {
		t.Errorf("%v: %d bytes for %d", err, len(patch), len(original))
	}
	holds(t, pod, r, shop(), DefaultSettings())
}
