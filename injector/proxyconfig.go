package injector

import (
	"net"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"

	"github.com/larboard-proxy/larboard/sidecar/config"
)

// The places in the proxy's container where volumes stand.
const (
	spiffeDir      = "/run/larboard/spiffe"
	identityDir    = "/run/larboard/identity"
	consulTokenDir = "/run/larboard/consul-token"
	consulCADir    = "/run/larboard/consul-ca"
	stateDir       = "/run/larboard/dev"
)

// maxConfig is what fits into a variable of a process; Linux takes 128 KiB for one.
const maxConfig = 120 << 10

// maxID bounds the names of the proxy's configuration.
const maxID = 128

// proxyConfig is the text of the pod's proxy's configuration, in which Kubernetes replaces
// variables. It reports what is wrong with it.
func (w *wish) proxyConfig(checks []*yaml.Node) string {
	root := w.generated(checks)
	w.mergeOver(root, "the settings' config", w.Settings.Config)
	over := w.mergeOver(root, Prefix+"config", w.override)
	text := writeYAML(root)
	if len(w.problems) == 0 {
		w.checkConfig(text, over)
	}
	if len(text) > maxConfig {
		w.refuse("the proxy's configuration has %d bytes, more than %d", len(text), maxConfig)
	}
	return text
}

func (w *wish) generated(checks []*yaml.Node) *yaml.Node {
	pairs := []any{
		"admin", mapping("address", loopback(AdminPort)),
		"log", mapping("level", w.Log.Level, "format", w.Log.Format),
		"timeouts", mapping("drain", w.drain()),
		"consul", w.consulNode(),
	}
	pairs = append(pairs, w.identityNodes()...)
	pairs = append(pairs, w.serviceNodes()...)
	if w.Tracing.OTLP != "" {
		pairs = append(pairs, "tracing", mapping("otlp", w.Tracing.OTLP, "sample", w.Tracing.Sample))
	}
	if w.Metrics.OTLP != "" {
		pairs = append(pairs, "metrics", mapping("otlp", w.Metrics.OTLP))
	}
	pairs = append(pairs, "probes", mapping("address", w.listen(ProbePort), "checks", checks))
	pairs = append(pairs, "capture", w.captureNode())
	return mapping(pairs...)
}

// serviceNodes are the application's ports and upstreams. Several ports are a workload each where
// each has its own identity; otherwise the first is the workload, whose end a drain waits for.
func (w *wish) serviceNodes() []any {
	switch {
	case len(w.ports) == 0:
		return []any{"upstreams", w.upstreamNodes()}
	case len(w.ports) > 1 && w.identityByService():
		return []any{"workloads", w.workloadNodes()}
	}
	var listeners, services []*yaml.Node
	for i := range w.ports[1:] {
		listeners = append(listeners, w.listenerNode(i+1))
		services = append(services, w.localNode(i+1))
	}
	return []any{"workload", w.workloadNode(0, ""), "upstreams", w.upstreamNodes(), "listeners", listeners, "services", services}
}

// listenerNode is what a workload is for a further port.
func (w *wish) listenerNode(i int) *yaml.Node {
	p := w.ports[i]
	local := localName(p.service)
	pairs := []any{"name", p.service, "address", w.listen(MeshPort + i), "protocol", spoken(p.protocol)[1], "service", local,
		"tls", mapping("spiffe", present()), "allow", w.Allow}
	if w.Intentions {
		pairs = append(pairs, "intentions", p.service)
	}
	if w.Register {
		n := w.registerNode(p.service)
		n.Content = append(mapping("service", p.service, "local", loopback(p.number)).Content, n.Content...)
		pairs = append(pairs, "register", n)
	}
	if w.Capture.Mode == CaptureBoth {
		pairs = append(pairs, "captures", "*:"+strconv.Itoa(p.number))
	}
	return mapping(pairs...)
}

// localNode is the application at a further port.
func (w *wish) localNode(i int) *yaml.Node {
	p := w.ports[i]
	version := ""
	if p.protocol == "http2" {
		version = p.protocol
	}
	return mapping("name", localName(p.service), "endpoints", []string{loopback(p.number)}, "protocol", version)
}

func localName(service string) string { return service + "." + config.LocalService }

func loopback(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// listen is an address for others to call.
func (w *wish) listen(port int) string {
	host := "0.0.0.0"
	if w.IPv6 {
		host = "::"
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// drain leaves the proxy two seconds of the pod's own to end by itself.
func (w *wish) drain() string {
	return strconv.FormatInt(max(1, min(w.grace(), 24*3600)-2), 10) + "s"
}

// grace is what the pod has to end, in seconds.
func (w *wish) grace() int64 {
	if g := w.pod.Spec.TerminationGracePeriodSeconds; g != nil {
		return *g
	}
	return corev1.DefaultTerminationGracePeriodSeconds
}

func (w *wish) consulNode() *yaml.Node {
	pairs := []any{"address", w.Consul.Address, "datacenter", w.Consul.Datacenter}
	if w.Consul.TokenSecret != "" {
		pairs = append(pairs, "token_file", consulTokenDir+"/token")
	}
	if w.Consul.CASecret != "" {
		pairs = append(pairs, "tls", mapping("ca", consulCADir+"/ca.crt"))
	}
	return mapping(pairs...)
}

// identityNodes are identity or, where several services need one each, identities.
func (w *wish) identityNodes() []any {
	if len(w.ports) < 2 || !w.identityByService() {
		return []any{"identity", w.identityNode(w.service)}
	}
	var pairs []any
	for _, p := range w.ports {
		pairs = append(pairs, p.service, w.identityNode(p.service))
	}
	return []any{"identities", mapping(pairs...)}
}

// identityByService: Consul issues a certificate for one service, and the development
// authority's follow that.
func (w *wish) identityByService() bool {
	return w.Identity.Source == IdentityConsul || w.Identity.Source == IdentityDev
}

func (w *wish) identityNode(service string) *yaml.Node {
	switch w.Identity.Source {
	case IdentityCSI, IdentityHostPath:
		return mapping("spiffe", mapping("socket", "unix://"+spiffeDir+"/"+w.Identity.Socket))
	case IdentityConsul:
		return mapping("consul", mapping("service", service))
	case IdentityFiles:
		return mapping("files", mapping("cert", identityDir+"/tls.crt", "key", identityDir+"/tls.key", "bundle", identityDir+"/ca.crt"))
	}
	return mapping("dev", mapping("trust_domain", w.Identity.TrustDomain, "state", stateDir))
}

func (w *wish) workloadNodes() (all []*yaml.Node) {
	for i, p := range w.ports {
		identity := ""
		if w.identityByService() {
			identity = p.service
		}
		n := w.workloadNode(i, identity)
		if upstreams := nodeOf(w.upstreamNodes()); i == 0 && upstreams != nil {
			n.Content = append(n.Content, nodeOf("upstreams"), upstreams)
		}
		all = append(all, n)
	}
	return all
}

func (w *wish) workloadNode(i int, identity string) *yaml.Node {
	p := w.ports[i]
	pairs := []any{"service", p.service, "address", loopback(p.number), "listen", w.listen(MeshPort + i)}
	pairs = append(pairs, spoken(p.protocol)...)
	pairs = append(pairs, "identity", identity, "allow", w.Allow, "intentions", w.Intentions)
	if w.Register {
		pairs = append(pairs, "register", w.registerNode(p.service))
	}
	return mapping(pairs...)
}

// spoken is how the configuration writes a protocol of a port.
func spoken(protocol string) []any {
	switch protocol {
	case "grpc":
		return []any{"protocol", "http"}
	case "http2":
		return []any{"protocol", "http", "http", "http2"}
	}
	return []any{"protocol", protocol}
}

func (w *wish) registerNode(service string) *yaml.Node {
	pod := "$(POD_NAMESPACE)-$(POD_NAME)"
	if max(len(service), len("larboard"))+len(w.ns.Name)+len(w.pod.Name)+2 > maxID {
		pod = "$(POD_UID)"
	}
	var place []any
	if w.Consul.Through == config.ThroughCatalog {
		place = []any{"through", w.Consul.Through, "node", "larboard-" + pod}
	}
	return mapping(append(place, "id", service+"-"+pod, "address", "$(POD_IP)", "meta", mapping(
		"pod", "$(POD_NAME)", "namespace", "$(POD_NAMESPACE)", "node", "$(NODE_NAME)", "version", w.podVersion(), "larboard", w.Version))...)
}

// podVersion is the application's own, by Kubernetes' recommended label.
func (w *wish) podVersion() string {
	if v := w.pod.Labels["app.kubernetes.io/version"]; v != "" {
		return v
	}
	return w.pod.Labels["version"]
}

func (w *wish) upstreamNodes() (all []*yaml.Node) {
	for _, u := range w.upstreams {
		pairs := []any{"service", u.service}
		if u.port > 0 {
			pairs = append(pairs, "bind", loopback(u.port))
		}
		protocol := u.protocol
		if protocol == "http2" || protocol == "grpc" {
			protocol = "http" // what endpoints are spoken to is settled in the handshake
		}
		pairs = append(pairs, "protocol", protocol)
		if w.Identity.UpstreamID != "" {
			pairs = append(pairs, "ids", []string{w.upstreamID(u.service)})
		}
		all = append(all, mapping(pairs...))
	}
	return all
}

func (w *wish) upstreamID(service string) string {
	return strings.NewReplacer("{service}", service, "{namespace}", w.ns.Name, "{trust_domain}", w.Identity.TrustDomain).Replace(w.Identity.UpstreamID)
}

func (w *wish) captureNode() *yaml.Node {
	if w.Capture.Mode == CaptureNone {
		return nil
	}
	pairs := []any{"outbound", true}
	if w.Capture.Mode == CaptureBoth {
		pairs = append(pairs, "inbound", true)
	}
	return mapping(pairs...)
}

// mergeOver merges text, a part of a configuration that name has, over root, and returns what it
// holds; nil: nothing, or no YAML.
func (w *wish) mergeOver(root *yaml.Node, name, text string) *yaml.Node {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	c, problems := config.Load(name, []byte(text))
	for _, p := range problems {
		if c == nil || strings.HasPrefix(p.Message, "given twice") || p.Path == "" && p.Line > 0 {
			w.refuse("%s", p)
		}
	}
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(text), &document); err != nil || len(document.Content) == 0 {
		return nil
	}
	over := document.Content[0]
	if alias := firstAlias(over); alias != nil {
		w.refuse("%s:%d:%d: an alias; write out what it stands for", name, alias.Line, alias.Column)
		return nil
	}
	if over.Kind != yaml.MappingNode {
		return nil
	}
	merge(root, over)
	return over
}

func firstAlias(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n
	}
	for _, one := range n.Content {
		if found := firstAlias(one); found != nil {
			return found
		}
	}
	return nil
}

// checkConfig reports what the proxy would refuse, at its place in over where it comes from there.
func (w *wish) checkConfig(text string, over *yaml.Node) {
	_, problems := config.Load("configuration", []byte(w.sample(text)))
	for _, p := range problems {
		p.File, p.Line, p.Column = "the proxy's configuration", 0, 0
		if over != nil {
			if place := placeOf(over, p.Path, strings.HasPrefix(p.Message, "unknown field")); place != nil {
				p.File, p.Line, p.Column = Prefix+"config", place.Line, place.Column
			}
		}
		w.refuse("%s", p)
	}
}

// sample is text with what Kubernetes could put in the place of its variables.
func (w *wish) sample(text string) string {
	name := w.pod.Name
	if name == "" {
		name = "pod"
	}
	return strings.NewReplacer("$(POD_NAME)", name, "$(POD_NAMESPACE)", "default", "$(POD_UID)", "11111111-2222-3333-4444-555555555555",
		"$(POD_IP)", "10.0.0.1", "$(HOST_IP)", "10.0.0.2", "$(NODE_NAME)", "node").Replace(text)
}

// secretKey splits NAME/KEY; key is that of a name alone.
func secretKey(text, key string) (string, string) {
	if name, given, ok := strings.Cut(text, "/"); ok {
		return name, given
	}
	return text, key
}
