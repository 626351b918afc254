package manifest

import (
	"cmp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/larboard-proxy/larboard/sidecar/config"
)

// consulAddress is where a stack has its agent unless it says otherwise.
const consulAddress = "consul:8500"

// adminPort is where the health check, `larboard wait`, asks.
const adminPort = 9901

// The places in the proxy's container where volumes stand.
const (
	spiffeDir   = "/run/larboard/spiffe"
	identityDir = "/run/larboard/identity"
	stateDir    = "/run/larboard/dev"
)

// proxyConfig is the configuration of the service's proxy; it reports what is wrong with it.
func (s *composeService) proxyConfig() string {
	problems := len(s.file.problems)
	port, protocol := s.port()
	protocol = cmp.Or(protocol, s.protocol("protocol"))
	root := mapping(
		"admin", mapping("address", loopback(adminPort)),
		"log", mappingOrNone("level", s.value("log-level")),
		"drain", s.drain(),
		"consul", mapping("address", cmp.Or(s.value("consul-address"), consulAddress)),
		"identity", s.identityNode(),
	)
	if port > 0 {
		put(root, "workload", s.workload(port, protocol))
	}
	if upstreams := s.upstreams(); len(upstreams) > 0 {
		put(root, "upstreams", node(upstreams))
	}
	over := s.override()
	if over != nil {
		overlay(root, over)
	}
	text, err := written(root)
	if err != nil {
		s.problem(s.key, "%v", err)
	}
	if len(s.file.problems) == problems {
		s.check(text)
	}
	return text
}

// drain: where the application's end comes after the proxy's, waiting for it would be in vain.
func (s *composeService) drain() *yaml.Node {
	if l := s.labels["order"]; l != nil && l.Value == orderBefore {
		return nil
	}
	return mapping("outbound", config.UntilInbound)
}

func mappingOrNone(key, value string) *yaml.Node {
	if value == "" {
		return nil
	}
	return mapping(key, value)
}

func (s *composeService) identityNode() *yaml.Node {
	switch name := s.identity(); name {
	case "spiffe":
		return mapping("spiffe", mapping("socket", "unix://"+spiffeDir+"/agent.sock"))
	case "consul":
		return mapping("consul", mapping("service", cmp.Or(s.value("service"), s.name)))
	case "files":
		return mapping("files", mapping("cert", identityDir+"/tls.crt", "key", identityDir+"/tls.key", "bundle", identityDir+"/ca.crt"))
	case "dev":
		if s.labels["trust-domain"] == nil {
			s.problem(s.labels["identity"], "the identity dev needs the label %strust-domain", labelPrefix)
		}
		return mapping("dev", mapping("trust_domain", s.value("trust-domain"), "state", stateDir))
	default:
		s.problem(s.labels["identity"], "the label %sidentity: %q is none of spiffe, consul, files, dev", labelPrefix, name)
		return nil
	}
}

func (s *composeService) workload(port int, protocol string) *yaml.Node {
	n := mapping("service", cmp.Or(s.value("service"), s.name), "address", loopback(port), "listen", "0.0.0.0:20000")
	n.Content = append(n.Content, spoken(protocol, true).Content...)
	if allow := list(s.value("allow")); len(allow) > 0 {
		put(n, "allow", node(allow))
	}
	if s.truth("intentions", false) {
		put(n, "intentions", node(true))
	}
	if s.truth("register", true) {
		put(n, "register", node(true))
	}
	return n
}

// spoken is how the configuration writes a protocol; that of a workload tells also how it is
// spoken to.
func spoken(protocol string, workload bool) *yaml.Node {
	switch {
	case protocol == "http2" && workload:
		return mapping("protocol", "http", "http", "http2")
	case protocol == "http2" || protocol == "grpc":
		return mapping("protocol", "http")
	}
	return mapping("protocol", protocol)
}

func (s *composeService) upstreams() (all []*yaml.Node) {
	found, err := parseUpstreams(s.value("upstreams"))
	if err != nil {
		s.problem(s.labels["upstreams"], "the label %supstreams: %v", labelPrefix, err)
	}
	for _, u := range found {
		n := mapping("service", u.service, "bind", loopback(u.port))
		n.Content = append(n.Content, spoken(cmp.Or(u.protocol, s.value("protocol")), false).Content...)
		all = append(all, n)
	}
	return all
}

func loopback(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// override is what the label config holds; nil: nothing, or no mapping.
func (s *composeService) override() *yaml.Node {
	text := s.value("config")
	if text == "" {
		return nil
	}
	roots, problem := config.Documents(labelPrefix+"config", []byte(text))
	if problem != nil {
		s.problem(s.labels["config"], "the label %sconfig, line %d: %s", labelPrefix, problem.Line, problem.Message)
		return nil
	}
	if len(roots) != 1 || roots[0].Content[0].Kind != yaml.MappingNode {
		s.problem(s.labels["config"], "the label %sconfig must hold one mapping", labelPrefix)
		return nil
	}
	return roots[0].Content[0]
}

// check reports what the proxy would refuse.
func (s *composeService) check(text string) {
	_, problems := config.Load("configuration", []byte(text))
	for _, p := range problems {
		at := s.key
		for _, from := range []struct{ path, label string }{
			{"workload.service", "service"}, {"workload.address", "port"}, {"workload.allow", "allow"}, {"upstreams", "upstreams"},
			{"consul", "consul-address"}, {"identity", "identity"}, {"log.level", "log-level"},
		} {
			if l := s.labels[from.label]; l != nil && strings.HasPrefix(p.Path, from.path) {
				at = l
			}
		}
		if l := s.labels["config"]; l != nil && at == s.key {
			at = l
		}
		s.problem(at, "the proxy's configuration: %s: %s", p.Path, p.Message)
		if p.Suggestion != "" {
			s.file.problems[len(s.file.problems)-1].Suggestion = p.Suggestion
		}
	}
}
