package config

import (
	"fmt"
	"strings"
	"time"
)

// OTLP is a collector that takes OpenTelemetry's own protocol: where it is, and how and
// how often it is sent to. Metrics and traces have one each. A lone string in the file is
// Endpoint.
type OTLP struct {
	// Endpoint is http://HOST:PORT[/PATH] or https://... (OTLP over HTTP, protobuf), or
	// grpc://HOST:PORT or grpcs://HOST:PORT (over gRPC). Without a path, HTTP uses that of
	// the specification: /v1/metrics, /v1/traces.
	Endpoint string `yaml:"endpoint"`
	// Headers accompany each request; they mostly hold a key.
	Headers map[string]Secret `yaml:"headers"`
	// Interval is how often metrics are sent, and how long a span waits at most.
	Interval Duration `yaml:"interval"`
	// Timeout bounds one request, its repetitions included.
	Timeout Duration   `yaml:"timeout"`
	TLS     *ClientTLS `yaml:"tls"` // nil: the system's authorities, no client certificate
}

// ClientTLS says how a server of infrastructure that we call is verified, and with what
// certificate we call it; the files are PEM.
type ClientTLS struct {
	CA         string `yaml:"ca" is:"path"`
	Cert       string `yaml:"cert" is:"path"`
	Key        string `yaml:"key" is:"path"`
	ServerName string `yaml:"server_name"`
}

// Metrics says how many series there may be, and where metrics are sent beside being
// scraped.
type Metrics struct {
	// Series bounds the distinct series of each metric.
	Series int   `yaml:"series"`
	OTLP   *OTLP `yaml:"otlp"` // nil: metrics are scraped only
}

// The schemes of OTLP.Endpoint.
const (
	OTLPHTTP  = "http"
	OTLPHTTPS = "https"
	OTLPGRPC  = "grpc"
	OTLPGRPCS = "grpcs"
)

// metricsInterval is the default of OTLP.Interval for metrics.
const metricsInterval = Duration(15 * time.Second)

// The bounds of Metrics.Series.
const minSeries, maxSeries = 10, 1_000_000

// fromText takes a lone string as the endpoint.
func (o *OTLP) fromText(text string) { o.Endpoint = text }

func (o *OTLP) setDefaults() { *o = OTLP{Interval: inherit, Timeout: Duration(10 * time.Second)} }

func (m *Metrics) setDefaults() { *m = Metrics{Series: 2000} }

// every gives o its interval where the file says nothing of it.
func (o *OTLP) every(d Duration) {
	if o != nil {
		o.Interval.or(d)
	}
}

// Parts splits the endpoint into its scheme, HOST:PORT and path, which is empty or
// begins with a slash.
func (o *OTLP) Parts() (scheme, host, path string) {
	scheme, rest, _ := strings.Cut(o.Endpoint, "://")
	host, path, found := strings.Cut(rest, "/")
	if found && path != "" {
		path = "/" + path
	}
	return scheme, host, path
}

// Encrypted reports whether the collector is called over TLS.
func (o *OTLP) Encrypted() bool {
	scheme, _, _ := o.Parts()
	return scheme == OTLPHTTPS || scheme == OTLPGRPCS
}

func (v *validator) metrics(m *Metrics) {
	v.between("metrics.series", m.Series, minSeries, maxSeries)
	v.otlp("metrics.otlp", m.OTLP)
}

// otlp checks how a collector is reached; nil is none.
func (v *validator) otlp(path string, o *OTLP) {
	if o == nil {
		return
	}
	if v.required(join(path, "endpoint"), o.Endpoint) {
		v.otlpEndpoint(join(path, "endpoint"), o)
	}
	for name, value := range o.Headers {
		v.header(join(join(path, "headers"), shown(name)), name, value)
	}
	if o.Interval < Duration(100*time.Millisecond) && o.Interval != inherit {
		v.report(join(path, "interval"), fmt.Sprintf("%s is less than 100ms", o.Interval))
	}
	v.positive(join(path, "timeout"), o.Timeout)
	v.clientTLS(join(path, "tls"), o.TLS)
	if o.TLS != nil && !o.Encrypted() {
		v.report(join(path, "tls"), "needs an endpoint with https:// or grpcs://")
	}
}

func (v *validator) otlpEndpoint(path string, o *OTLP) {
	scheme, host, rest := o.Parts()
	switch { // without the text: what should not be there may be a secret
	case strings.Contains(o.Endpoint, "@"):
		v.report(path, "holds a user or a password, which is not supported; use headers")
		return
	case strings.ContainsAny(o.Endpoint, "?#"):
		v.report(path, "holds a query or a fragment; only scheme, host, port and path are expected")
		return
	}
	const forms = "http://HOST:PORT, https://HOST:PORT, grpc://HOST:PORT and grpcs://HOST:PORT"
	switch scheme {
	case OTLPHTTP, OTLPHTTPS:
	case OTLPGRPC, OTLPGRPCS:
		if rest != "" {
			v.propose(path, fmt.Sprintf("%q has a path, which gRPC has no place for", o.Endpoint), scheme+"://"+host)
			return
		}
	default:
		v.propose(path, fmt.Sprintf("%q is none of %s", o.Endpoint, forms), otlpMeant(o.Endpoint, scheme, host))
		return
	}
	v.hostAndPort(path, host)
}

// otlpMeant is what was probably meant by an endpoint without a known scheme. Port 4317 is
// that of OTLP over gRPC.
func otlpMeant(text, scheme, host string) string {
	if !strings.Contains(text, "://") {
		if strings.HasSuffix(text, ":4317") {
			return "grpc://" + text
		}
		return "http://" + text
	}
	if meant := suggest(scheme, []string{OTLPHTTP, OTLPHTTPS, OTLPGRPC, OTLPGRPCS}); meant != "" {
		return meant + "://" + host
	}
	return ""
}

// header checks a field that is sent with each request, without showing its value.
func (v *validator) header(path, name string, value Secret) {
	switch {
	case name == "" || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "":
		v.report(path, fmt.Sprintf("%q is not the name of a header", name))
	case strings.ContainsFunc(value.Reveal(), func(r rune) bool { return r < ' ' && r != '\t' || r >= 0x7f }):
		v.report(path, "holds a character that a header cannot carry")
	}
}

// clientTLS checks that certificate and key come together.
func (v *validator) clientTLS(path string, t *ClientTLS) {
	if t == nil {
		return
	}
	if t.Cert != "" {
		v.required(join(path, "key"), t.Key)
	}
	if t.Key != "" {
		v.required(join(path, "cert"), t.Cert)
	}
}
