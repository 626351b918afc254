package injector

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/larboard-proxy/larboard/sidecar/config"
)

// FuzzMutate holds, for any pod that can be injected: again it stays, uninjected it is what it
// was, the proxy takes its configuration, and Kubernetes takes the pod.
func FuzzMutate(f *testing.F) {
	for seed := range uint64(150) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		g := generator{rand.New(rand.NewPCG(seed, 1))}
		pod, s := g.pod(), g.settings()
		r, err := Mutate(pod, shop(), s)
		if err != nil {
			return
		}
		holds(t, pod, r, shop(), s)
		if r.Skipped != "" {
			return
		}
		patched(t, pod, r)
		kubernetesTakes(t, r.Pod)
		proxyTakes(t, r.Pod, "10.1.2.3")
		proxyTakes(t, r.Pod, "fd00::1")
		g.repaired(t, r.Pod, s)
	})
}

// Most generated pods can be injected; otherwise the above would prove little.
func TestGeneratorIsUseful(t *testing.T) {
	injected, forms := 0, map[Form]int{}
	for seed := range uint64(400) {
		g := generator{rand.New(rand.NewPCG(seed, 1))}
		r, err := Mutate(g.pod(), shop(), g.settings())
		if err == nil && r.Skipped == "" {
			injected++
			st, _ := statusOf(r.Pod)
			forms[st.Form]++
		}
	}
	if injected < 250 || len(forms) != 3 {
		t.Errorf("%d of 400, %v", injected, forms)
	}
}

type generator struct{ *rand.Rand }

func (g generator) some(percent int) bool { return g.IntN(100) < percent }

func pick[T any](g generator, of ...T) T { return of[g.IntN(len(of))] }

func (g generator) settings() *Settings {
	s := DefaultSettings()
	s.Version = pick(g, "", "1.2.3")
	s.Kubernetes = pick(g, "", "1.28", "1.36")
	s.IPv6, s.Register, s.RewriteProbes = g.some(30), g.some(80), g.some(80)
	s.Identity.Source = pick(g, identitySources...)
	s.Identity.Secret = "web-tls"
	if g.some(30) {
		s.Identity.UpstreamID = "spiffe://example.org/ns/{namespace}/sa/{service}"
	}
	if g.some(30) {
		s.Consul.TokenSecret, s.Consul.Address, s.Consul.CASecret = "consul/key", "https://consul:8501", "consul-ca"
	}
	if g.some(30) {
		s.Tracing.OTLP, s.Metrics.OTLP = "grpc://collector:4317", "http://collector:4318"
	}
	if g.some(30) {
		s.Config = "timeouts: {connect: 250ms}\nlimits: {connections: 100}\n"
	}
	return s
}

func (g generator) pod() *corev1.Pod {
	pod := webPod()
	pod.Spec.Containers = nil
	if g.some(50) {
		pod.GenerateName, pod.Name = "", "web-"+strings.Repeat("x", g.IntN(180))+"0"
	}
	port := int32(8000)
	for i := range 1 + g.IntN(3) {
		pod.Spec.Containers = append(pod.Spec.Containers, g.container(fmt.Sprintf("app-%d", i), &port))
	}
	for i := range g.IntN(3) {
		c := g.container(fmt.Sprintf("init-%d", i), &port)
		if always := corev1.ContainerRestartPolicyAlways; g.some(50) {
			c.RestartPolicy = &always
		} else {
			c.StartupProbe, c.ReadinessProbe, c.LivenessProbe, c.Lifecycle = nil, nil, nil, nil
		}
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
	}
	for i := range g.IntN(3) {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: fmt.Sprintf("data-%d", i)})
	}
	pod.Spec.RestartPolicy = pick(g, "", corev1.RestartPolicyAlways, corev1.RestartPolicyNever, corev1.RestartPolicyOnFailure)
	if g.some(30) {
		grace := int64(g.IntN(100))
		pod.Spec.TerminationGracePeriodSeconds = &grace
	}
	for name, values := range map[string][]string{
		"form": {"native", "classic", "wrapped"}, "capture": {"outbound", "both"}, "place": {"last"}, "ports": {"8000", "8000/http, 8001/tcp, 9999=other", "none"},
		"upstreams": {"stock:9191, db:5432/tcp", "api:9192/grpc"}, "protocol": {"http", "grpc", "tcp"}, "allow": {"/web, spiffe://example.org/ns/*"},
		"cpu-request": {"none"}, "stop-delay": {"3s"}, "memory-limit": {"64Mi"}, "exclude-outbound-ports": {"5432"}, "config": {"log: {level: debug}\nupstreams: null\n"},
	} {
		if g.some(25) {
			if pod.Annotations == nil {
				pod.Annotations = map[string]string{}
			}
			pod.Annotations[Prefix+name] = pick(g, values...)
		}
	}
	return pod
}

func (g generator) container(name string, port *int32) corev1.Container {
	c := corev1.Container{Name: name, Image: "app:1"}
	if g.some(80) {
		c.Command = []string{"/app", "--flag"}
	}
	if g.some(30) {
		hook := &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/hook"}}}
		c.Lifecycle = pick(g, &corev1.Lifecycle{PostStart: hook}, &corev1.Lifecycle{PreStop: hook})
	}
	for range g.IntN(3) {
		c.Ports = append(c.Ports, corev1.ContainerPort{Name: fmt.Sprintf("p%d", *port), ContainerPort: *port, Protocol: pick(g, "", corev1.ProtocolTCP, corev1.ProtocolUDP)})
		*port++
	}
	for _, kind := range probeKinds {
		if g.some(50) {
			*kind.of(&c) = g.probe(c.Ports)
		}
	}
	if g.some(30) {
		c.Env = []corev1.EnvVar{{Name: "A", Value: "$(B)"}}
		c.VolumeMounts = []corev1.VolumeMount{{Name: "data-0", MountPath: "/data"}}
	}
	return c
}

func (g generator) probe(ports []corev1.ContainerPort) *corev1.Probe {
	p := &corev1.Probe{PeriodSeconds: int32(g.IntN(5)), TimeoutSeconds: int32(g.IntN(5))}
	if g.some(50) { // as the API server hands them out
		p = withTimings(p)
	}
	port := intstr.FromInt32(8080)
	if len(ports) > 0 && g.some(60) {
		port = intstr.FromString(ports[0].Name)
	}
	switch g.IntN(4) {
	case 0:
		p.Exec = &corev1.ExecAction{Command: []string{"/check"}}
	case 1:
		p.TCPSocket = &corev1.TCPSocketAction{Port: port, Host: pick(g, "", "127.0.0.1", "10.1.2.3")}
	case 2:
		service := "shop.Stock"
		p.GRPC = &corev1.GRPCAction{Port: 9000, Service: pick(g, nil, &service)}
	default:
		p.HTTPGet = &corev1.HTTPGetAction{Port: port, Path: pick(g, "", "/", "health", "/a?b=$(c)"), Scheme: pick(g, "", corev1.URISchemeHTTPS)}
		if g.some(50) {
			p.HTTPGet.HTTPHeaders = []corev1.HTTPHeader{{Name: "host", Value: "web.example.org"}, {Name: "X-A", Value: "b"}, {Name: "X-A", Value: "c"}}
		}
	}
	return p
}

// repaired damages what an injection has made, as other webhooks do, adds what they add, and
// expects all of it to be there in the end.
func (g generator) repaired(t *testing.T, pod *corev1.Pod, s *Settings) {
	t.Helper()
	damaged := pod.DeepCopy()
	token := corev1.VolumeMount{Name: "token", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true}
	damaged.Spec.Volumes = append(damaged.Spec.Volumes, corev1.Volume{Name: "token"})
	for c := range containersOf(damaged) {
		for _, kind := range probeKinds {
			if at := kind.of(c); *at != nil && (*at).HTTPGet != nil && (*at).HTTPGet.Port.IntValue() == ProbePort && (*at).FailureThreshold > 0 && g.some(50) {
				*at = nil
			}
		}
		c.VolumeMounts = append(c.VolumeMounts, token)
		if c.Name == sidecarName {
			c.RestartPolicy, c.SecurityContext, c.Args = nil, nil, nil
			c.Image = "mirror.example.org/" + c.Image
			c.Env = append(c.Env[1:], corev1.EnvVar{Name: "HTTP_PROXY", Value: "x"})
		}
	}
	r, err := Mutate(damaged, shop(), s)
	if err != nil {
		t.Fatalf("damaged: %v", err)
	}
	want := pod.DeepCopy()
	want.Spec.Volumes = damaged.Spec.Volumes
	for c := range containersOf(want) {
		if c.Name == sidecarName {
			c.Env = append(c.Env, corev1.EnvVar{Name: "HTTP_PROXY", Value: "x"})
			c.Image = "mirror.example.org/" + c.Image
		}
		c.VolumeMounts = append(c.VolumeMounts, token)
	}
	if !equality.Semantic.DeepEqual(r.Pod, want) {
		t.Errorf("repaired:\n%s\nwant\n%s", shownResult(t, r), shownResult(t, Result{Pod: want}))
	}
	holds2, err := Mutate(r.Pod, shop(), s)
	if err != nil || !equality.Semantic.DeepEqual(holds2.Pod, r.Pod) {
		t.Errorf("a repaired one changes again: %v", err)
	}
}

var reference = regexp.MustCompile(`\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)`)

// proxyTakes loads the configuration as the proxy will, with the variables that the kubelet
// replaces.
func proxyTakes(t *testing.T, pod *corev1.Pod, ip string) {
	t.Helper()
	found := false
	values := map[string]string{"metadata.name": "web-0", "metadata.namespace": "shop", "metadata.uid": "9d2c", "status.podIP": ip, "status.hostIP": "10.0.0.1", "spec.nodeName": "node"}
	for c := range containersOf(pod) {
		known := map[string]string{}
		for _, v := range c.Env {
			value := reference.ReplaceAllStringFunc(v.Value, func(ref string) string {
				if ref == "$$" {
					return "$"
				}
				if value, ok := known[strings.Trim(ref, "$()")]; ok {
					return value
				}
				return ref
			})
			if v.ValueFrom != nil {
				value = values[v.ValueFrom.FieldRef.FieldPath]
			}
			known[v.Name] = value
		}
		text, ok := known[configEnv]
		if !ok {
			continue
		}
		found = true
		if _, problems := config.Load("pod", []byte(text)); len(problems) > 0 {
			t.Errorf("%v in\n%s", problems, text)
		}
		if strings.Contains(text, "$(POD_") || strings.Contains(text, "$(LARBOARD_") {
			t.Errorf("a variable is left in\n%s", text)
		}
	}
	if !found {
		t.Error("there is no configuration")
	}
}

// kubernetesTakes holds a pod against the rules of the API server that an injection could break.
func kubernetesTakes(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	names, ports, volumes := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, v := range pod.Spec.Volumes {
		if len(validation.IsDNS1123Label(v.Name)) > 0 || volumes[v.Name] {
			t.Errorf("volume %q", v.Name)
		}
		volumes[v.Name] = true
	}
	for c := range containersOf(pod) {
		if len(validation.IsDNS1123Label(c.Name)) > 0 || names[c.Name] {
			t.Errorf("container %q", c.Name)
		}
		names[c.Name] = true
		for _, p := range c.Ports {
			if p.Name != "" && (len(validation.IsValidPortName(p.Name)) > 0 || ports[p.Name]) {
				t.Errorf("port %q of %s", p.Name, c.Name)
			}
			ports[p.Name] = true
		}
		mounts := map[string]bool{}
		for _, m := range c.VolumeMounts {
			if mounts[m.MountPath] || strings.HasPrefix(m.Name, volumePrefix) && !volumes[m.Name] {
				t.Errorf("mount %q of %s", m.MountPath, c.Name)
			}
			mounts[m.MountPath] = true
		}
		for _, e := range c.Env {
			if len(validation.IsEnvVarName(e.Name)) > 0 || e.Value != "" && e.ValueFrom != nil {
				t.Errorf("variable %q of %s", e.Name, c.Name)
			}
		}
		for _, kind := range probeKinds {
			if p := *kind.of(c); p != nil && p.HTTPGet != nil && p.HTTPGet.Port.IntValue() == ProbePort && len(validation.IsValidPortNum(p.HTTPGet.Port.IntValue())) > 0 {
				t.Errorf("%s probe of %s: %v", kind.name, c.Name, p)
			}
		}
	}
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy == nil && (c.StartupProbe != nil || c.ReadinessProbe != nil || c.LivenessProbe != nil || c.Lifecycle != nil) {
			t.Errorf("the init container %s ends, and has probes", c.Name)
		}
	}
	size := 0
	for key, value := range pod.Annotations {
		if len(validation.IsQualifiedName(key)) > 0 {
			t.Errorf("annotation %q", key)
		}
		size += len(key) + len(value)
	}
	if size > 256<<10 {
		t.Errorf("the annotations have %d bytes", size)
	}
}

func BenchmarkMutate(b *testing.B) {
	pod := webPod("upstreams", "stock:9191, db:5432/tcp")
	pod.Spec.Containers[0].ReadinessProbe = httpProbe("http")
	s := DefaultSettings()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Mutate(pod, shop(), s); err != nil {
			b.Fatal(err)
		}
	}
}
