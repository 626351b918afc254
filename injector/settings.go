package injector

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/larboard-proxy/larboard/sidecar/config"
)

// Settings are those of an installation: what holds where neither pod nor namespace say
// otherwise. They are not changed after LoadSettings or DefaultSettings, and may be read from any
// goroutine. Everything here has an annotation or concerns all pods alike.
type Settings struct {
	// Image of the proxy; empty: larboard/larboard with the tag Version.
	Image string `yaml:"image"`
	// PullPolicy is Kubernetes' word for when the image is pulled.
	PullPolicy string `yaml:"pull_policy"`
	Form       Form   `yaml:"form"`
	// Kubernetes is the cluster's version, like 1.30, which decides the form auto; empty: a
	// recent one.
	Kubernetes string `yaml:"kubernetes"`
	// Inject says which pods are meant that say nothing, in namespaces that say nothing:
	// InjectLabelled or InjectAll.
	Inject string `yaml:"inject"`
	// Namespace is the installation's own, which is never touched.
	Namespace string `yaml:"namespace"`
	// Never are namespaces that are never touched.
	Never []string `yaml:"never"`

	// Protocol is what ports and upstreams speak that do not say so.
	Protocol string `yaml:"protocol"`
	// Register has pods registered in Consul while they are ready.
	Register bool `yaml:"register"`
	// Allow and Intentions say who may call, as in the proxy's own configuration.
	Allow      []string `yaml:"allow"`
	Intentions bool     `yaml:"intentions"`
	// RewriteProbes has the proxy answer the kubelet's probes of the application.
	RewriteProbes bool `yaml:"rewrite_probes"`
	// StopDelay has the application's containers end so much later than the pod is told to, so
	// that nobody calls them any more: a hook of those that have none. It is in whole seconds.
	StopDelay config.Duration `yaml:"stop_delay"`
	// IPv6 listens on both families, and on IPv4 alone where the node has no other.
	IPv6 bool `yaml:"ipv6"`

	Consul    ConsulSettings    `yaml:"consul"`
	Identity  IdentitySettings  `yaml:"identity"`
	Capture   CaptureSettings   `yaml:"capture"`
	Resources ResourceSettings  `yaml:"resources"`
	Log       LogSettings       `yaml:"log"`
	Tracing   TracingSettings   `yaml:"tracing"`
	Metrics   TelemetrySettings `yaml:"metrics"`
	// Config is a part of a proxy's configuration that is merged over every generated one.
	Config string `yaml:"config"`

	// Version of this program, which status annotations and registrations tell; the caller sets
	// it, no file.
	Version string
}

// Form is how the proxy stands in a pod.
type Form string

// The forms.
const (
	// FormAuto is FormNative where the cluster knows it, from 1.29 on; otherwise FormClassic, and
	// FormWrapped for pods that are to end.
	FormAuto Form = "auto"
	// FormNative is an init container that Kubernetes keeps running.
	FormNative Form = "native"
	// FormClassic is the first of the ordinary containers.
	FormClassic Form = "classic"
	// FormWrapped has the application's command begun by the proxy, in the application's container.
	FormWrapped Form = "wrapped"
)

// The values of Settings.Inject.
const (
	InjectLabelled = "labelled" // those whose namespace, or who themselves, ask for it
	InjectAll      = "all"      // those that do not refuse
)

// ConsulSettings say how proxies reach Consul.
type ConsulSettings struct {
	// Address as in the proxy's configuration; $(HOST_IP) is the node's.
	Address    string `yaml:"address"`
	Datacenter string `yaml:"datacenter"`
	// TokenSecret and CASecret are NAME or NAME/KEY of Secrets in the pod's namespace; the keys are
	// token and ca.crt unless given.
	TokenSecret string `yaml:"token_secret"`
	CASecret    string `yaml:"ca_secret"`
	// Through says who holds the registrations: the agent at Address or, where that is a server, the
	// servers' catalog.
	Through string `yaml:"through"`
}

// IdentitySettings say where proxies get their identity.
type IdentitySettings struct {
	// Source is one of the Identity constants.
	Source string `yaml:"source"`
	// Driver is the CSI driver that brings the Workload API.
	Driver string `yaml:"driver"`
	// Directory on the node holds the socket of the Workload API, for IdentityHostPath.
	Directory string `yaml:"directory"`
	// Socket is the name of that socket in the directory or in the driver's volume.
	Socket string `yaml:"socket"`
	// Secret holds tls.crt, tls.key and ca.crt, for IdentityFiles; it is in the pod's namespace.
	Secret string `yaml:"secret"`
	// State is a directory on the node that belongs to user 1337, for IdentityDev.
	State string `yaml:"state"`
	// TrustDomain is that of IdentityDev, and what {trust_domain} stands for.
	TrustDomain string `yaml:"trust_domain"`
	// UpstreamID is whom to expect of an upstream: a SPIFFE ID in which {service}, {namespace} (the
	// calling pod's) and {trust_domain} are replaced; empty: Consul's convention.
	UpstreamID string `yaml:"upstream_id"`
}

// The sources of identities.
const (
	IdentityCSI      = "spiffe-csi"
	IdentityHostPath = "spiffe-hostpath"
	IdentityConsul   = "consul"
	IdentityFiles    = "files"
	IdentityDev      = "dev"
)

// CaptureSettings say what is redirected to the proxy.
type CaptureSettings struct {
	Mode                 string   `yaml:"mode"` // one of the Capture constants
	ExcludeOutboundPorts []int    `yaml:"exclude_outbound_ports"`
	ExcludeInboundPorts  []int    `yaml:"exclude_inbound_ports"`
	ExcludeOutboundCIDRs []string `yaml:"exclude_outbound_cidrs"`
}

// The modes of capture.
const (
	CaptureNone     = "none"
	CaptureOutbound = "outbound"
	CaptureBoth     = "both"
)

// ResourceSettings are quantities as Kubernetes writes them; empty: none.
type ResourceSettings struct {
	CPURequest    string `yaml:"cpu_request"`
	CPULimit      string `yaml:"cpu_limit"`
	MemoryRequest string `yaml:"memory_request"`
	MemoryLimit   string `yaml:"memory_limit"`
}

// LogSettings are those of the proxy's own log.
type LogSettings struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// TracingSettings say where spans are sent; without OTLP nowhere.
type TracingSettings struct {
	OTLP   string  `yaml:"otlp"`
	Sample float64 `yaml:"sample"`
}

// TelemetrySettings say where metrics are sent, beside being scraped; empty: nowhere.
type TelemetrySettings struct {
	OTLP string `yaml:"otlp"`
}

// DefaultSettings are those of an empty file.
func DefaultSettings() *Settings {
	return &Settings{
		PullPolicy: "IfNotPresent", Form: FormAuto, Inject: InjectLabelled,
		Namespace: "larboard-system", Never: []string{"kube-system", "kube-public", "kube-node-lease"},
		Protocol: "auto", Register: true, RewriteProbes: true, IPv6: true,
		Consul:    ConsulSettings{Address: "$(HOST_IP):8500", Through: config.ThroughAgent},
		Identity:  IdentitySettings{Source: IdentityCSI, Driver: "csi.spiffe.io", Directory: "/run/spire/agent-sockets", Socket: "spire-agent.sock", State: "/var/lib/larboard/dev", TrustDomain: "dev.larboard"},
		Capture:   CaptureSettings{Mode: CaptureNone},
		Resources: ResourceSettings{CPURequest: "10m", MemoryRequest: "32Mi", MemoryLimit: "256Mi"},
		Log:       LogSettings{Level: "info", Format: config.FormatJSON},
		Tracing:   TracingSettings{Sample: 0.01},
	}
}

// LoadSettings reads the file name, whose content is data. The error is config.Problems: all of
// them, each with its line and column and what was probably meant.
func LoadSettings(name string, data []byte) (*Settings, error) {
	s := DefaultSettings()
	places, problems := config.Decode(name, data, s)
	report := func(path, message, suggestion string) {
		problems = append(problems, places.ProblemAt(path, message, suggestion))
	}
	s.check(report)
	s.checkConfig(report)
	if len(problems) == 0 {
		s.tryOut(report)
	}
	problems.Sort()
	return s, problems.Err()
}

// tryOut reports what keeps an ordinary pod from being injected.
func (s *Settings) tryOut(r report) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Command: []string{"/app"}}}}}
	pod.Annotations = map[string]string{InjectKey: "true", Prefix + "ports": "8080", Prefix + "upstreams": "other:9191"}
	w := newWish(pod, Namespace{Name: "default"}, s)
	w.findServices()
	w.clashes()
	w.inject(pod.DeepCopy(), pod, nil)
	for _, problem := range w.problems {
		r("", strings.TrimPrefix(problem, "the proxy's configuration: "), "")
	}
}

// report takes a problem: a path of Settings, what is wrong, and what was probably meant or "".
type report func(path, message, suggestion string)

// oneOf reports a value that is none of those.
func (r report) oneOf(path, value string, values ...string) {
	if !slices.Contains(values, value) {
		r(path, fmt.Sprintf("%q is none of %s", value, strings.Join(values, ", ")), config.Suggest(value, values))
	}
}

func (s *Settings) check(r report) {
	r.image("image", s.Image)
	r.oneOf("pull_policy", s.PullPolicy, "Always", "IfNotPresent", "Never")
	r.oneOf("form", string(s.Form), string(FormAuto), string(FormNative), string(FormClassic), string(FormWrapped))
	if _, ok := minor(s.Kubernetes); s.Kubernetes != "" && !ok {
		r("kubernetes", fmt.Sprintf("%q is no version of Kubernetes, like 1.30", s.Kubernetes), "")
	}
	r.oneOf("inject", s.Inject, InjectLabelled, InjectAll)
	r.oneOf("protocol", s.Protocol, protocols...)
	s.checkDelay(r)
	s.Consul.check(r)
	s.Identity.check(r)
	s.Capture.check(r)
	s.Resources.check(r)
	r.oneOf("log.level", s.Log.Level, "debug", "info", "warn", "error")
	r.oneOf("log.format", s.Log.Format, config.FormatText, config.FormatJSON)
	if s.Tracing.Sample < 0 || s.Tracing.Sample > 1 {
		r("tracing.sample", fmt.Sprintf("%v is not between 0 and 1", s.Tracing.Sample), "")
	}
	if s.Intentions && len(s.Allow) > 0 {
		r("allow", "excludes intentions, which are on", "")
	}
}

// checkConfig reports what Config has that no configuration has. What is missing in it comes from
// what it is merged over.
func (s *Settings) checkConfig(r report) {
	if s.Config == "" {
		return
	}
	_, problems := config.Decode("config", []byte(s.Config), &config.Config{})
	for _, p := range problems {
		where := ""
		if p.Path != "" {
			where = p.Path + ": "
		}
		r("config", where+p.Message, p.Suggestion)
	}
}

// sleepSince is the second number of the version of Kubernetes that has a hook which sleeps.
const sleepSince = 30

func (s *Settings) checkDelay(r report) {
	second, known := minor(s.Kubernetes)
	switch {
	case s.StopDelay%config.Duration(time.Second) != 0 || s.StopDelay > config.Duration(time.Hour):
		r("stop_delay", fmt.Sprintf("%s is not in whole seconds, up to 1h", s.StopDelay), "")
	case s.StopDelay > 0 && known && second < sleepSince:
		r("stop_delay", fmt.Sprintf("needs Kubernetes 1.%d, and this is %s", sleepSince, s.Kubernetes), "")
	}
}

func (c *ConsulSettings) check(r report) {
	r.secret("consul.token_secret", c.TokenSecret)
	r.oneOf("consul.through", c.Through, config.ThroughAgent, config.ThroughCatalog)
	r.secret("consul.ca_secret", c.CASecret)
	if c.CASecret != "" && !strings.HasPrefix(c.Address, "https://") {
		r("consul.ca_secret", fmt.Sprintf("is for an https:// address, and consul.address is %q", c.Address), "")
	}
}

var identitySources = []string{IdentityCSI, IdentityHostPath, IdentityConsul, IdentityFiles, IdentityDev}

func (i *IdentitySettings) check(r report) {
	r.oneOf("identity.source", i.Source, identitySources...)
	if i.Source == IdentityFiles && i.Secret == "" {
		r("identity.secret", "is missing; the source files needs the name of a Secret with tls.crt, tls.key and ca.crt", "")
	}
	r.objectName("identity.secret", i.Secret)
	for _, at := range [...]struct{ path, dir string }{{"identity.directory", i.Directory}, {"identity.state", i.State}} {
		if !path.IsAbs(at.dir) || path.Clean(at.dir) != at.dir || at.dir == "/" {
			r(at.path, fmt.Sprintf("%q is no absolute path of a directory", at.dir), "")
		}
	}
	if i.Socket == "" || strings.Contains(i.Socket, "/") {
		r("identity.socket", fmt.Sprintf("%q is no name of a socket; its directory is given apart", i.Socket), path.Base(i.Socket))
	}
	if i.UpstreamID != "" && !strings.HasPrefix(i.UpstreamID, "spiffe://") {
		r("identity.upstream_id", fmt.Sprintf("%q is no SPIFFE ID", i.UpstreamID), "spiffe://"+i.UpstreamID)
	}
}

func (c *CaptureSettings) check(r report) {
	r.oneOf("capture.mode", c.Mode, CaptureNone, CaptureOutbound, CaptureBoth)
	r.ports("capture.exclude_outbound_ports", c.ExcludeOutboundPorts)
	r.ports("capture.exclude_inbound_ports", c.ExcludeInboundPorts)
	for i, one := range c.ExcludeOutboundCIDRs {
		prefix, err := netip.ParsePrefix(one)
		if err == nil && prefix != prefix.Masked() {
			r(fmt.Sprintf("capture.exclude_outbound_cidrs[%d]", i), fmt.Sprintf("%q names a host within a block", one), prefix.Masked().String())
		}
		if err != nil {
			meant := ""
			if a, err := netip.ParseAddr(one); err == nil {
				meant = netip.PrefixFrom(a, a.BitLen()).String()
			}
			r(fmt.Sprintf("capture.exclude_outbound_cidrs[%d]", i), fmt.Sprintf("%q is no block of addresses, like 10.0.0.0/8", one), meant)
		}
	}
}

func (r report) ports(path string, ports []int) {
	for i, p := range ports {
		if p < 1 || p > 65535 {
			r(fmt.Sprintf("%s[%d]", path, i), fmt.Sprintf("%d is no port, which is a number from 1 to 65535", p), "")
		}
	}
}

// objectName follows Kubernetes' names of most objects (RFC 1123, subdomain).
var objectName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

func (r report) objectName(path, name string) {
	if name != "" && !objectName.MatchString(name) {
		r(path, fmt.Sprintf("%q is no name of a Kubernetes object", name), "")
	}
}

// secret checks NAME or NAME/KEY.
func (r report) secret(path, text string) {
	name, key, both := strings.Cut(text, "/")
	r.objectName(path, name)
	if both && (key == "" || strings.ContainsAny(key, "/ ")) {
		r(path, fmt.Sprintf("%q is not NAME or NAME/KEY of a Secret", text), "")
	}
}

func (r report) image(path, image string) {
	if strings.ContainsAny(image, " \t\n") || strings.HasPrefix(image, "http") && strings.Contains(image, "://") {
		r(path, fmt.Sprintf("%q is no name of an image, like registry.example.org/larboard:0.6", image), "")
	}
}

// minor is the second number of a version like 1.30, v1.30.2 or 1.27+.
func minor(version string) (int, bool) {
	var major, second int
	n, err := fmt.Sscanf(strings.TrimPrefix(version, "v"), "%d.%d", &major, &second)
	return second, err == nil && n == 2 && major == 1
}
