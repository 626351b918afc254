package injector

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/larboard-proxy/larboard/sidecar/config"
)

// The ports of a pod that are the proxy's.
const (
	MeshPort     = 20000 // inbound; that of the application's second port is the next, and so on
	OutboundPort = 15001 // captured connections of the application
	InboundPort  = 15006 // captured connections to the application
	ProbePort    = 15021 // the kubelet's probes
	AdminPort    = 9901  // on 127.0.0.1
)

// maxPorts bounds the application's ports, and so the proxy's.
const maxPorts = 16

// protocols of ports and upstreams. grpc is http; http2 has the application spoken to by HTTP/2
// without TLS in any case.
var protocols = []string{"auto", "http", "http2", "grpc", "tcp"}

// port is one of the application's, which is a service.
type port struct {
	number            int
	protocol, service string
}

// upstream is a service that the application calls, at a port of 127.0.0.1; 0: at none.
type upstream struct {
	service  string
	port     int
	protocol string
}

// findServices fills in service, ports and upstreams.
func (w *wish) findServices() {
	if w.service == "" {
		w.service = defaultService(w.pod)
	}
	if !validService(w.service) {
		w.refuse("%sservice: %q is no name of a service: letters and digits, with -, _ and . between them, at most 63", Prefix, w.service)
	}
	w.findPorts()
	for _, one := range list(w.upstreamList) {
		w.addUpstream(one)
	}
}

func defaultService(pod *corev1.Pod) string {
	for _, label := range []string{"app.kubernetes.io/name", "app"} {
		if name := pod.Labels[label]; name != "" {
			return name
		}
	}
	if len(pod.Spec.Containers) > 0 {
		return pod.Spec.Containers[0].Name
	}
	return ""
}

var serviceName = regexp.MustCompile(`^[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$`)

func validService(name string) bool { return serviceName.MatchString(name) }

func (w *wish) findPorts() {
	switch w.portList {
	case "":
		if first := firstPort(w.pod); first != nil {
			w.ports = []port{{int(first.ContainerPort), w.Protocol, w.service}}
		}
	case "none":
	default:
		for _, one := range list(w.portList) {
			w.addPort(one)
		}
	}
	if len(w.ports) > maxPorts {
		w.refuse("%sports: are %d, more than %d", Prefix, len(w.ports), maxPorts)
	}
}

func firstPort(pod *corev1.Pod) *corev1.ContainerPort {
	for i := range pod.Spec.Containers {
		for j := range pod.Spec.Containers[i].Ports {
			if p := &pod.Spec.Containers[i].Ports[j]; p.Protocol == "" || p.Protocol == corev1.ProtocolTCP {
				return p
			}
		}
	}
	return nil
}

// addPort takes NUMBER|NAME[/PROTOCOL][=SERVICE].
func (w *wish) addPort(text string) {
	const key = Prefix + "ports"
	rest, service, named := strings.Cut(text, "=")
	which, protocol, ok := strings.Cut(rest, "/")
	if !ok {
		protocol = w.Protocol
	}
	number, name, known := w.resolve(which)
	switch {
	case !known:
		w.refuse("%s: %q is neither a number from 1 to 65535 nor the name of a container's port%s", key, which, meantWord(which, portNames(w.pod)))
	case slices.ContainsFunc(w.ports, func(p port) bool { return p.number == number }):
		w.refuse("%s: %d is given twice", key, number)
	case !slices.Contains(protocols, protocol):
		w.refuse("%s: %q: %q is none of %s%s", key, text, protocol, strings.Join(protocols, ", "), meantWord(protocol, protocols))
	case named && !validService(service):
		w.refuse("%s: %q is no name of a service", key, service)
	default:
		if !named {
			service = w.serviceOf(number, name)
		}
		if slices.ContainsFunc(w.ports, func(p port) bool { return p.service == service }) {
			w.refuse("%s: two ports are the service %s; name one with %d=SERVICE", key, service, number)
			return
		}
		w.ports = append(w.ports, port{number, protocol, service})
	}
}

// serviceOf is the service of a further port that does not name it.
func (w *wish) serviceOf(number int, name string) string {
	switch {
	case len(w.ports) == 0:
		return w.service
	case name != "":
		return w.service + "-" + name
	}
	return w.service + "-" + strconv.Itoa(number)
}

// resolve finds a container's port by number or name. A number need not be among them.
func (w *wish) resolve(which string) (number int, name string, known bool) {
	if n, err := strconv.Atoi(which); err == nil {
		number, known = n, n > 0 && n < 65536
	}
	for i := range w.pod.Spec.Containers {
		for _, p := range w.pod.Spec.Containers[i].Ports {
			if int(p.ContainerPort) == number || !known && p.Name == which && which != "" {
				return int(p.ContainerPort), p.Name, true
			}
		}
	}
	return number, "", known
}

func portNames(pod *corev1.Pod) (names []string) {
	for i := range pod.Spec.Containers {
		for _, p := range pod.Spec.Containers[i].Ports {
			if p.Name != "" {
				names = append(names, p.Name)
			}
		}
	}
	return names
}

func meantWord(word string, known []string) string {
	if one := config.Suggest(word, known); one != "" {
		return fmt.Sprintf("; did you mean %q?", one)
	}
	return ""
}

// addUpstream takes SERVICE[:PORT][/PROTOCOL].
func (w *wish) addUpstream(text string) {
	const key = Prefix + "upstreams"
	rest, protocol, ok := strings.Cut(text, "/")
	if !ok {
		protocol = w.Protocol
	}
	service, bind, bound := strings.Cut(rest, ":")
	number, err := strconv.Atoi(bind)
	same := func(u upstream) bool { return u.service == service || bound && u.port == number }
	switch {
	case !validService(service):
		w.refuse("%s: %q: %q is no name of a service", key, text, service)
	case bound && (err != nil || number < 1 || number > 65535):
		w.refuse("%s: %q: %q is no port, which is a number from 1 to 65535", key, text, bind)
	case !bound && w.Capture.Mode == CaptureNone:
		w.refuse("%s: %q has no port; write %s:PORT, where the application is to call it on 127.0.0.1, or have its connections captured", key, text, service)
	case !slices.Contains(protocols, protocol):
		w.refuse("%s: %q: %q is none of %s%s", key, text, protocol, strings.Join(protocols, ", "), meantWord(protocol, protocols))
	case slices.ContainsFunc(w.upstreams, same):
		w.refuse("%s: %q: the service or the port is given twice", key, text)
	default:
		w.upstreams = append(w.upstreams, upstream{service, number, protocol})
	}
}
