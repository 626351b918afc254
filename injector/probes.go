package injector

import (
	"cmp"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// probeKind is one of a container's probes.
type probeKind struct {
	name string
	of   func(*corev1.Container) **corev1.Probe
}

var probeKinds = []probeKind{
	{"startup", func(c *corev1.Container) **corev1.Probe { return &c.StartupProbe }},
	{"readiness", func(c *corev1.Container) **corev1.Probe { return &c.ReadinessProbe }},
	{"liveness", func(c *corev1.Container) **corev1.Probe { return &c.LivenessProbe }},
}

// originals are probes as the pod's owner wrote them, by container and kind.
type originals map[string]map[string]*corev1.Probe

// rewriteProbes has every probe of the application that the kubelet would send over the network
// ask the proxy, which does what it said: the returned checks. Commands stay.
func (w *wish) rewriteProbes(pod *corev1.Pod) (checks []*yaml.Node, were originals) {
	if !w.RewriteProbes {
		if w.Capture.Mode == CaptureBoth {
			w.warn("%srewrite-probes is false while inbound connections are captured: probes of the ports of the mesh are refused, since they are no mutual TLS", Prefix)
		}
		return nil, nil
	}
	were = originals{}
	for c := range containersOf(pod) {
		for _, kind := range probeKinds {
			at := kind.of(c)
			check := w.checkOf(c, *at, probePath(c.Name, kind.name), kind.name)
			if check == nil {
				continue
			}
			if were[c.Name] == nil {
				were[c.Name] = map[string]*corev1.Probe{}
			}
			were[c.Name][kind.name] = withTimings(*at)
			changed := (*at).DeepCopy()
			changed.ProbeHandler = asks(probePath(c.Name, kind.name))
			*at = changed
			checks = append(checks, check)
		}
	}
	return checks, were
}

// withTimings is p with the timings that the API server gives where there are none.
func withTimings(p *corev1.Probe) *corev1.Probe {
	out := *p
	out.TimeoutSeconds, out.PeriodSeconds = cmp.Or(p.TimeoutSeconds, 1), cmp.Or(p.PeriodSeconds, 10)
	out.SuccessThreshold, out.FailureThreshold = cmp.Or(p.SuccessThreshold, 1), cmp.Or(p.FailureThreshold, 3)
	return &out
}

func probePath(container, kind string) string { return "/probe/" + container + "/" + kind }

// checkOf is what the proxy is to do in p's place; nil: nothing.
func (w *wish) checkOf(c *corev1.Container, p *corev1.Probe, path, kind string) *yaml.Node {
	if p == nil {
		return nil
	}
	pairs := []any{"path", path}
	switch {
	case p.HTTPGet != nil:
		port, known := w.probedPort(c, p.HTTPGet.Port, p.HTTPGet.Host, kind)
		if !known {
			return nil
		}
		pairs = append(pairs, "http", httpCheck(port, p.HTTPGet))
	case p.TCPSocket != nil:
		port, known := w.probedPort(c, p.TCPSocket.Port, p.TCPSocket.Host, kind)
		if !known {
			return nil
		}
		pairs = append(pairs, "tcp", mapping("port", port))
	case p.GRPC != nil:
		service := ""
		if p.GRPC.Service != nil {
			service = *p.GRPC.Service
		}
		pairs = append(pairs, "grpc", mapping("port", int(p.GRPC.Port), "service", service))
	default:
		return nil
	}
	return mapping(append(pairs, "timeout", fmt.Sprintf("%ds", cmp.Or(p.TimeoutSeconds, 1)))...)
}

// probedPort is the port of c that a probe means. Probes of other hosts stay as they are.
func (w *wish) probedPort(c *corev1.Container, port intstr.IntOrString, host, kind string) (int, bool) {
	if host != "" && host != "127.0.0.1" && host != "localhost" {
		w.warn("the %s probe of %s asks the host %s and not the pod; it stays as it is", kind, c.Name, host)
		return 0, false
	}
	if port.Type == intstr.Int {
		return port.IntValue(), port.IntVal > 0 && port.IntVal < 65536
	}
	for _, p := range c.Ports {
		if p.Name == port.StrVal {
			return int(p.ContainerPort), true
		}
	}
	w.refuse("the %s probe of %s asks the port %q, and the container has none of that name", kind, c.Name, port.StrVal)
	return 0, false
}

func httpCheck(port int, get *corev1.HTTPGetAction) *yaml.Node {
	path, host := get.Path, ""
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	var headers []any
	seen := map[string]bool{}
	for _, h := range get.HTTPHeaders {
		name := strings.ToLower(h.Name)
		switch {
		case name == "host":
			host = h.Value
		case !seen[name]:
			headers = append(headers, h.Name, literal(h.Value))
		}
		seen[name] = true
	}
	scheme := ""
	if get.Scheme == corev1.URISchemeHTTPS {
		scheme = "https"
	}
	return mapping("port", port, "path", literal(path), "scheme", scheme, "host", literal(host), "headers", mapping(headers...))
}

// literal is text in which Kubernetes finds no variable.
func literal(text string) string { return strings.ReplaceAll(text, "$(", "$$(") }

// since is were as an injection before has noted it, where a probe asks the same: the API server
// fills in defaults later, which nobody wrote.
func (were originals) since(before *status) originals {
	if before == nil {
		return were
	}
	for container, kinds := range were {
		for kind, probe := range kinds {
			if was := before.Probes[container][kind]; was != nil && reflect.DeepEqual(was.ProbeHandler, probe.ProbeHandler) {
				kinds[kind] = was
			}
		}
	}
	return were
}

// restoreProbes undoes rewriteProbes. A probe that has been changed since stays, but for what it
// asks; one that somebody took away is there again.
func (were originals) restore(pod *corev1.Pod) {
	for c := range containersOf(pod) {
		for _, kind := range probeKinds {
			was := were[c.Name][kind.name]
			if was == nil {
				continue
			}
			at := kind.of(c)
			switch {
			case *at == nil:
				*at = was.DeepCopy()
			case (*at).HTTPGet != nil && (*at).HTTPGet.Path == probePath(c.Name, kind.name) && (*at).HTTPGet.Port.IntValue() == ProbePort:
				(*at).ProbeHandler = *was.ProbeHandler.DeepCopy()
			}
		}
	}
}
