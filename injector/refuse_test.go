package injector

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// webPod is an ordinary pod with these annotations, NAME, VALUE and so on.
func webPod(annotations ...string) *corev1.Pod {
	pod := &corev1.Pod{}
	pod.GenerateName = "web-"
	pod.Labels = map[string]string{"app": "web"}
	pod.Spec.Containers = []corev1.Container{{Name: "web", Image: "web:1", Command: []string{"/web", "-v"}, Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}
	for i := 0; i < len(annotations); i += 2 {
		if pod.Annotations == nil {
			pod.Annotations = map[string]string{}
		}
		pod.Annotations[Prefix+annotations[i]] = annotations[i+1]
	}
	return pod
}

// shop is a namespace that wants its pods injected.
func shop() Namespace {
	return Namespace{Name: "shop", Labels: map[string]string{InjectKey: "enabled"}}
}

// What cannot be done right is refused, with what is to be done.
func TestRefused(t *testing.T) {
	edit := func(pod *corev1.Pod, f func(*corev1.PodSpec)) *corev1.Pod { f(&pod.Spec); return pod }
	root := int64(1337)
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		want []string // parts of the message
	}{
		"unknown annotation": {webPod("upstream", "stock:9191"), []string{`larboard cannot inject pods web-*: larboard.io/upstream: unknown annotation; did you mean "larboard.io/upstreams"?`}},
		"all at once":        {webPod("prots", "1", "form", "natve"), []string{`larboard.io/prots: unknown annotation; did you mean "larboard.io/ports"?`, `larboard.io/form: "natve" is none of auto, native, classic, wrapped; did you mean "native"?`}},
		"inject":             {webPod("inject", "yes"), []string{`larboard.io/inject: "yes" is neither true nor false`}},
		"empty value":        {webPod("capture", " "), []string{"larboard.io/capture: has no value; leave it out for the default"}},
		"truth":              {webPod("register", "yes"), []string{`larboard.io/register: "yes" is neither true nor false`}},
		"place":              {webPod("place", "second"), []string{`larboard.io/place: "second" is neither first nor last`}},
		"identity":           {webPod("identity", "spire-csi"), []string{`larboard.io/identity: "spire-csi" is none of`, `did you mean "spiffe-csi"?`}},
		"identity files":     {webPod("identity", "files"), []string{"identity.secret: is missing; the source files needs the name of a Secret"}},
		"port name":          {webPod("ports", "htp"), []string{`larboard.io/ports: "htp" is neither a number from 1 to 65535 nor the name of a container's port; did you mean "http"?`}},
		"port number":        {webPod("ports", "70000"), []string{`larboard.io/ports: "70000" is neither`}},
		"port twice":         {webPod("ports", "http, 8080"), []string{"larboard.io/ports: 8080 is given twice"}},
		"port protocol":      {webPod("ports", "8080/htp"), []string{`"htp" is none of auto, http, http2, grpc, tcp; did you mean "http"?`}},
		"port service":       {webPod("ports", "8080=a b"), []string{`larboard.io/ports: "a b" is no name of a service`}},
		"port same service":  {webPod("ports", "8080, 9090=web"), []string{"two ports are the service web; name one with 9090=SERVICE"}},
		"service":            {webPod("service", "web/1"), []string{`larboard.io/service: "web/1" is no name of a service`}},
		"upstream port":      {webPod("upstreams", "stock:http"), []string{`larboard.io/upstreams: "stock:http": "http" is no port`}},
		"upstream no port":   {webPod("upstreams", "stock"), []string{`"stock" has no port; write stock:PORT`}},
		"upstream name":      {webPod("upstreams", ":9191"), []string{`"" is no name of a service`}},
		"upstream protocol":  {webPod("upstreams", "stock:9191/tpc"), []string{`"tpc" is none of`, `did you mean "tcp"?`}},
		"upstream twice":     {webPod("upstreams", "stock:9191, api:9191"), []string{`"api:9191": the service or the port is given twice`}},
		"upstream on ours":   {webPod("upstreams", "stock:15021"), []string{"the port 15021 of stock is that of the proxy's probes"}},
		"upstream on app":    {webPod("upstreams", "stock:8080"), []string{"the container web has the port 8080, which is that of the proxy's upstream stock"}},
		"stop delay":         {webPod("stop-delay", "3"), []string{`larboard.io/stop-delay: "3" is not a duration`}},
		"stop delay long":    {webPod("stop-delay", "30s"), []string{"larboard.io/stop-delay: 30s is not less than the 30 s that the pod has to end"}},
		"stop delay part":    {webPod("stop-delay", "1500ms"), []string{"larboard.io/stop-delay: 1.5s is not in whole seconds"}},
		"cores":              {webPod("cpu-request", "100"), []string{`larboard.io/cpu-request: "100" is that many whole processors; did you mean "100m"?`}},
		"bytes":              {webPod("memory-limit", "256"), []string{`larboard.io/memory-limit: 256 is 256 bytes, less than any proxy can do with; did you mean "256Mi"?`}},
		"millibytes":         {webPod("memory-limit", "256m"), []string{`did you mean "256Mi"?`}},
		"quantity":           {webPod("cpu-limit", "half"), []string{`larboard.io/cpu-limit: "half" is no quantity, like 10m or 0.5`}},
		"negative":           {webPod("cpu-limit", "-1"), []string{`"-1" is not more than zero`}},
		"over the limit":     {webPod("memory-request", "512Mi"), []string{"larboard.io/memory-request: 512Mi is more than the limit, 256Mi"}},
		"excluded port":      {webPod("exclude-outbound-ports", "5432, db"), []string{`larboard.io/exclude-outbound-ports: "db" is no port`}},
		"excluded port 0":    {webPod("exclude-inbound-ports", "0"), []string{`larboard.io/exclude-inbound-ports: 0 is no port`}},
		"excluded block":     {webPod("exclude-outbound-cidrs", "10.0.0.1"), []string{`"10.0.0.1" is no block of addresses, like 10.0.0.0/8; did you mean "10.0.0.1/32"?`}},
		"image":              {webPod("image", "https://example.org/larboard"), []string{`larboard.io/image: "https://example.org/larboard" is no name of an image`}},
		"token secret":       {webPod("consul-token-secret", "Consul_Token"), []string{`larboard.io/consul-token-secret: "Consul_Token" is no name of a Kubernetes object`}},
		"consul address":     {webPod("consul-address", "consul"), []string{`consul.address: "consul" is not a host and a port`}},
		"intentions too":     {webPod("allow", "/web", "intentions", "true"), []string{"larboard.io/allow: excludes intentions, which are on"}},
		"allowed":            {webPod("allow", "spiffe://"), []string{"workload.allow[0]"}},
		"config field":       {webPod("config", "timeouts:\n  conect: 2s\n"), []string{`larboard.io/config:2:3: timeouts.conect: unknown field; did you mean "connect"?`}},
		"config value":       {webPod("config", "upstreams:\n- service: stock\n  bind: 9191\n"), []string{`larboard.io/config:3:9: upstreams[0].bind: "9191" is a port without an address; write IP:port; did you mean "127.0.0.1:9191"?`}},
		"config syntax":      {webPod("config", "a: ]"), []string{"larboard.io/config:1:", "not YAML"}},
		"config twice":       {webPod("config", "log: {level: info}\nlog: {level: warn}\n"), []string{"larboard.io/config:2:1: log: given twice"}},
		"config no mapping":  {webPod("config", "- a\n"), []string{"larboard.io/config:1:1: must be a mapping"}},
		"config alias":       {webPod("config", "log: &l {level: info}\nadmin: *l\n"), []string{"larboard.io/config:2:8: an alias; write out what it stands for"}},
		"config too long":    {webPod("config", "upstreams: ["+strings.Repeat("{service: a, bind: 127.0.0.1:1},\n", 8000)+"]"), []string{"bytes, more than 122880"}},
		"probe port":         {edit(webPod(), func(s *corev1.PodSpec) { s.Containers[0].LivenessProbe = httpProbe("admin") }), []string{`the liveness probe of web asks the port "admin", and the container has none of that name`}},
		"probes port taken":  {edit(webPod(), func(s *corev1.PodSpec) { s.Containers[0].Ports[0].ContainerPort = ProbePort }), []string{"the container web has the port 15021, which is that of the proxy's probes; change one of them"}},
		"mesh port taken":    {webPod("ports", "20000"), nil},
		"captured port taken": {edit(webPod("capture", "both"), func(s *corev1.PodSpec) {
			s.Containers[0].Ports = append(s.Containers[0].Ports, corev1.ContainerPort{ContainerPort: InboundPort})
		}), []string{"the container web has the port 15006, which is that of the proxy's captured connections"}},
		"container name":   {edit(webPod(), func(s *corev1.PodSpec) { s.Containers[0].Name = "larboard" }), []string{"the pod has a container larboard that is not ours"}},
		"volume name":      {edit(webPod(), func(s *corev1.PodSpec) { s.Volumes = []corev1.Volume{{Name: "larboard-data"}} }), []string{"the pod has a volume larboard-data, and names that begin with larboard- are ours"}},
		"host network":     {edit(webPod("inject", "true"), func(s *corev1.PodSpec) { s.HostNetwork = true }), []string{"the pod is in the node's network (hostNetwork)"}},
		"windows":          {edit(webPod("inject", "true"), func(s *corev1.PodSpec) { s.OS = &corev1.PodOS{Name: corev1.Windows} }), []string{"the pod is for Windows"}},
		"another mesh":     {edit(webPod("capture", "outbound"), func(s *corev1.PodSpec) { s.Containers = append(s.Containers, corev1.Container{Name: "istio-proxy"}) }), []string{"the container istio-proxy carries the pod's traffic already"}},
		"our user":         {edit(webPod("capture", "outbound"), func(s *corev1.PodSpec) { s.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &root} }), []string{"the container web runs as user 1337, the proxy's own"}},
		"two certificates": {webPod("ports", "8080, 8081", "capture", "outbound", "identity", "consul"), []string{"with the identity consul each of the 2 ports has a certificate of its own"}},
		"wrapped captured": {webPod("form", "wrapped", "capture", "outbound"), []string{"the form wrapped runs the proxy as the application's user"}},
		"wrapped image":    {edit(webPod("form", "wrapped"), func(s *corev1.PodSpec) { s.Containers[0].Command = nil }), []string{"the container web names no command"}},
		"wrapped other":    {webPod("form", "wrapped", "container", "wep"), []string{`larboard.io/container: there is no container "wep"; did you mean "web"?`}},
		"wrapped variable": {edit(webPod("form", "wrapped"), func(s *corev1.PodSpec) { s.Containers[0].Env = []corev1.EnvVar{{Name: "LARBOARD_X", Value: "1"}} }), []string{"the container web has the variable LARBOARD_X"}},
		"status":           {webPod("status", "{"), []string{"the annotation larboard.io/status, which an injection leaves, cannot be read; take it away"}},
		"status forged":    {webPod("status", `{"containers":["web"]}`), []string{"names the container web, which is not ours"}},
		"status volume":    {webPod("status", `{"volumes":["data"]}`), []string{"names the volume data, which is not ours"}},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Mutate(test.pod, shop(), DefaultSettings())
			if test.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil {
				t.Fatalf("not refused: %+v", r)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got\n%v\nwant\n%s", err, want)
				}
			}
		})
	}
}

func httpProbe(port string) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/live", Port: intstr.Parse(port)}}}
}

// What is not meant is left alone, and the reason is a sentence.
func TestSkipped(t *testing.T) {
	labelled := func(pod *corev1.Pod, value string) *corev1.Pod { pod.Labels[InjectKey] = value; return pod }
	host := webPod()
	host.Spec.HostNetwork = true
	win := webPod()
	win.Spec.NodeSelector = map[string]string{"kubernetes.io/os": "windows"}
	mirror := webPod()
	mirror.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	idle := webPod()
	idle.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 53, Protocol: corev1.ProtocolUDP}}
	all := DefaultSettings()
	all.Inject = InjectAll
	plain, off := Namespace{Name: "shop"}, Namespace{Name: "shop", Labels: map[string]string{InjectKey: "disabled"}}
	odd := Namespace{Name: "shop", Labels: map[string]string{InjectKey: "yes"}}
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		ns   Namespace
		s    *Settings
		want string // "": injected
	}{
		"namespace":                 {webPod(), shop(), nil, ""},
		"pod by annotation":         {webPod("inject", "true"), plain, nil, ""},
		"pod by label":              {labelled(webPod(), "true"), off, nil, ""},
		"all":                       {webPod(), plain, all, ""},
		"nobody":                    {webPod(), plain, nil, "neither the pod nor its namespace asks for it"},
		"odd":                       {webPod(), odd, nil, "neither the pod nor its namespace asks for it"},
		"namespace refuses":         {webPod(), off, nil, `the label larboard.io/inject of the namespace shop is "disabled"`},
		"namespace refuses for all": {webPod(), off, all, `the label larboard.io/inject of the namespace shop is "disabled"`},
		"pod refuses":               {webPod("inject", "false"), shop(), nil, `the pod's annotation larboard.io/inject is "false"`},
		"pod refuses by label":      {labelled(webPod("inject", "true"), "false"), shop(), nil, `the pod's label larboard.io/inject is "false"`},
		"never":                     {webPod("inject", "true"), Namespace{Name: "kube-system"}, all, "pods of the namespace kube-system are never injected"},
		"own":                       {webPod("inject", "true"), Namespace{Name: "larboard-system"}, nil, "pods of the namespace larboard-system are never injected"},
		"host network":              {host, shop(), nil, "the pod is in the node's network"},
		"windows":                   {win, shop(), nil, "the pod is for Windows"},
		"mirror":                    {mirror, shop(), nil, "the pod is the mirror of a static one"},
		"nothing to do":             {idle, shop(), nil, "the pod has no TCP port"},
	} {
		t.Run(name, func(t *testing.T) {
			s := test.s
			if s == nil {
				s = DefaultSettings()
			}
			r, err := Mutate(test.pod, test.ns, s)
			if err != nil {
				t.Fatal(err)
			}
			if test.want == "" && r.Skipped != "" || !strings.Contains(r.Skipped, test.want) {
				t.Errorf("skipped: %q, want %q", r.Skipped, test.want)
			}
			if (r.Pod.Annotations[StatusKey] == "") != (test.want != "") {
				t.Errorf("%v", r.Pod.Annotations)
			}
			holds(t, test.pod, r, test.ns, s)
		})
	}
}
