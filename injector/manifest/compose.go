package manifest

import (
	"cmp"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/larboard-proxy/larboard/injector/manifest/yamltext"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

// composeService is one of a docker-compose file.
type composeService struct {
	file     *file
	name     string
	key, n   *yaml.Node // resolved
	labels   labels
	services *yaml.Node // all of them
	volumes  *yaml.Node // those declared
	problems int        // of the file, before
}

// changeCompose gives each service with our labels a sidecar service, or takes it away.
func (f *file) changeCompose() {
	d := f.lone()
	if d == nil {
		return
	}
	services, err := yamltext.Resolved(yamltext.Get(d.Root, "services"))
	if err != nil {
		f.report(d.Root, "services", "%v", err)
		return
	}
	if services == nil || services.Kind != yaml.MappingNode {
		f.report(d.Root, "services", "is missing, or is no mapping")
		return
	}
	if !f.unambiguous(services, "services") {
		return
	}
	before, after := mapping(), mapping()
	meshed := map[string]bool{}
	apps := mapping()
	for i := 0; i+1 < len(services.Content); i += 2 {
		name, n := services.Content[i].Value, services.Content[i+1]
		if sidecarFor(n) != "" {
			continue
		}
		s := &composeService{
			file: f, name: name, key: services.Content[i], n: original(name, n),
			services: services, volumes: yamltext.Get(d.Root, "volumes"), problems: len(f.problems),
		}
		s.labels = f.takeLabels(s.name, s.n)
		is := s.sidecar()
		was := yamltext.Get(services, s.sidecarName())
		if is == nil && sidecarFor(was) != s.name {
			was = nil // somebody else's, if there is any
		}
		if is != nil || was != nil {
			meshed[s.sidecarName()] = is != nil
		}
		put(before, s.sidecarName(), was)
		put(after, s.sidecarName(), is)
		put(before, name, n)
		if is != nil && s.order() == orderBefore {
			put(apps, name, s.behind())
		} else {
			put(apps, name, s.n)
		}
		s.note(was, is)
	}
	f.orphans(services, meshed, before)
	for i := 0; i+1 < len(apps.Content); i += 2 {
		put(after, apps.Content[i].Value, dependent(apps.Content[i+1], meshed))
	}
	if len(f.problems) > 0 {
		return
	}
	if err := d.Patch([]any{"services"}, before, after); err != nil {
		f.report(d.Root, "services", "%v", err)
	}
}

// sidecarFor is the service that n was added for; "": n is no sidecar of ours.
func sidecarFor(n *yaml.Node) string {
	labels := yamltext.Get(n, "labels")
	if labels != nil && labels.Kind == yaml.SequenceNode {
		for _, one := range labels.Content {
			if of, ok := strings.CutPrefix(textOf(one), sidecarLabel+"="); ok {
				return of
			}
		}
	}
	return textOf(yamltext.Get(labels, sidecarLabel))
}

func put(m *yaml.Node, key string, value *yaml.Node) {
	if value != nil {
		m.Content = append(m.Content, node(key), value)
	}
}

func (s *composeService) sidecarName() string { return s.name + "-larboard" }

// note adds what becomes of the service to the summary.
func (s *composeService) note(was, is *yaml.Node) {
	w := Workload{Line: s.key.Line, Kind: "service", Name: s.name}
	switch {
	case is != nil && yamltext.Equal(was, is):
		w.Action = Unchanged
	case is != nil:
		w.Action = Injected
	case was != nil:
		w.Action = Restored
	case s.file.options.Uninject:
		w.Action = Unchanged
	default:
		w.Action, w.Reason = Skipped, "it has no label larboard.service or larboard.port"
		if textOf(s.labels["inject"]) == "false" {
			w.Reason = "its label larboard.inject is false"
		}
	}
	s.file.workloads = append(s.file.workloads, w)
}

// orphans takes away sidecars whose service has gone.
func (f *file) orphans(services *yaml.Node, meshed map[string]bool, before *yaml.Node) {
	for i := 0; i+1 < len(services.Content); i += 2 {
		name, n := services.Content[i].Value, services.Content[i+1]
		of := sidecarFor(n)
		if _, known := meshed[name]; of == "" || known && of+"-larboard" == name {
			continue
		}
		meshed[name] = false
		put(before, name, n)
		f.workloads = append(f.workloads, Workload{Line: services.Content[i].Line, Kind: "service", Name: of, Action: Restored, Reason: "there is no such service any more"})
	}
}

// dependent is n that depends on the sidecars of those whom it depends on, too.
func dependent(n *yaml.Node, meshed map[string]bool) *yaml.Node {
	out := *n
	out.Content = slices.Clone(n.Content)
	for i := 0; i+1 < len(out.Content); i += 2 {
		if out.Content[i].Value == "depends_on" {
			out.Content[i+1] = depending(out.Content[i+1], meshed)
		}
	}
	return &out
}

// depending is a depends_on with the sidecars that there are, and without those that are no more.
func depending(was *yaml.Node, meshed map[string]bool) *yaml.Node {
	is := *was
	is.Content = nil
	names := map[string]bool{}
	step := 1
	if was.Kind == yaml.MappingNode {
		step = 2
	}
	for i := 0; i+step <= len(was.Content); i += step {
		name := was.Content[i].Value
		if there, known := meshed[name]; known && !there {
			continue
		}
		names[name] = true
		is.Content = append(is.Content, was.Content[i:i+step]...)
	}
	for i := 0; i+step <= len(was.Content); i += step {
		sidecar := was.Content[i].Value + "-larboard"
		if !meshed[sidecar] || names[sidecar] {
			continue
		}
		is.Content = append(is.Content, node(sidecar))
		if step == 2 {
			is.Content = append(is.Content, mapping("condition", "service_healthy"))
		}
	}
	return &is
}

// sidecar is the service that runs the proxy; nil: there is to be none, or there are problems.
func (s *composeService) sidecar() *yaml.Node {
	if s.file.options.Uninject || len(s.labels) == 0 || !s.truth("inject", true) {
		return nil
	}
	if was := yamltext.Get(s.services, s.sidecarName()); was != nil && sidecarFor(was) != s.name {
		s.problem(was, "a service %s is there already, and is none of ours: it lacks the label %s: %s", s.sidecarName(), sidecarLabel, s.name)
		return nil
	}
	s.oneContainer()
	text := s.proxyConfig()
	mode, depends := s.network()
	order := s.order()
	if order == orderBefore {
		mode = ""
	}
	n := mapping(
		"image", cmp.Or(textOf(s.labels["image"]), s.file.options.Image),
		"network_mode", mode,
		"profiles", bare(yamltext.Get(s.n, "profiles")),
		"user", cmp.Or(textOf(s.labels["user"]), "1337:1337"),
		"command", flow(node([]string{"run", "-c", "env:LARBOARD_CONFIG"})),
		"environment", mapping("LARBOARD_CONFIG", strings.ReplaceAll(text, "$", "$$")),
		"volumes", s.volumeList(),
		"depends_on", depends,
		"healthcheck", mapping("test", flow(node([]string{"CMD", "/larboard", "wait", "-c", "env:LARBOARD_CONFIG", "--timeout", "3s"})), "interval", "2s", "timeout", "5s", "retries", 30),
		"stop_grace_period", "35s",
		"restart", bare(yamltext.Get(s.n, "restart")),
		"read_only", true,
		"cap_drop", flow(node([]string{"ALL"})),
		"security_opt", flow(node([]string{"no-new-privileges:true"})),
		"cpus", bare(s.labels["cpu-limit"]),
		"mem_limit", bare(s.labels["memory-limit"]),
		"labels", mapping(sidecarLabel, s.name),
	)
	if order == orderBefore {
		s.takeNetwork(n)
	}
	if len(s.file.problems) > s.problems {
		return nil
	}
	return n
}

func (s *composeService) problem(n *yaml.Node, format string, args ...any) {
	s.file.report(n, "services."+s.name, format, args...)
}

// truth is the value of a label that says yes or no.
func (s *composeService) truth(name string, otherwise bool) bool {
	switch l := s.labels[name]; {
	case l == nil:
		return otherwise
	case l.Value == "true" || l.Value == "false":
		return l.Value == "true"
	default:
		s.problem(l, "the label %s%s: %q is neither true nor false", labelPrefix, name, l.Value)
	}
	return otherwise
}

// value is what a label says in the end: docker-compose takes $$ for $. A variable would be
// replaced by docker-compose, which comes later.
func (s *composeService) value(name string) string {
	l := s.labels[name]
	if l == nil {
		return ""
	}
	text := strings.ReplaceAll(l.Value, "$$", "\x00")
	if strings.Contains(text, "$") {
		s.problem(l, "the label %s%s has a variable, which only docker-compose replaces, later; write out its value", labelPrefix, name)
	}
	return strings.ReplaceAll(text, "\x00", "$")
}

// oneContainer refuses what has several containers, of which a sidecar would join the first.
func (s *composeService) oneContainer() {
	for _, n := range []*yaml.Node{yamltext.Get(s.n, "scale"), yamltext.Get(yamltext.Get(s.n, "deploy"), "replicas")} {
		if count, err := strconv.Atoi(textOf(n)); err == nil && count > 1 {
			s.problem(n, "has %d containers, and a sidecar can stand beside one only: write as many services", count)
		}
	}
}

// network is the application's network, and what has to run before the sidecar.
func (s *composeService) network() (mode string, depends *yaml.Node) {
	depends = mapping()
	given := yamltext.Get(s.n, "network_mode")
	switch mode = textOf(given); {
	case mode == "none":
		s.problem(given, "network_mode none leaves nothing to call or to be called through")
	case mode == "" || mode == "bridge":
		mode = "service:" + s.name
	}
	if s.labels["order"] == nil || s.labels["order"].Value == orderAfter {
		put(depends, s.name, mapping("condition", "service_started"))
	}
	names := list(s.value("depends-on"))
	if host := s.consulHost(); yamltext.Get(s.services, host) != nil && !contains(names, host) && host != s.name {
		names = append(names, host)
	}
	for _, name := range names {
		other := yamltext.Get(s.services, name)
		if other == nil {
			s.problem(s.labels["depends-on"], "there is no service %q to wait for", name)
			continue
		}
		condition := "service_started"
		if yamltext.Get(other, "healthcheck") != nil {
			condition = "service_healthy"
		}
		put(depends, name, mapping("condition", condition))
	}
	if len(depends.Content) == 0 {
		depends = nil
	}
	return mode, depends
}

func (s *composeService) consulHost() string {
	address := cmp.Or(s.value("consul-address"), consulAddress)
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Hostname()
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}

// volumeList are the volumes of the proxy.
func (s *composeService) volumeList() []string {
	source, at, mode := textOf(s.labels["identity-volume"]), "", ":ro"
	switch s.identity() {
	case "spiffe":
		source, at = cmp.Or(source, "${SPIRE_AGENT_SOCKETS:-/run/spire/sockets}"), spiffeDir
	case "files":
		at = identityDir
	case "dev":
		at, mode = stateDir, ""
	}
	if at == "" {
		return nil
	}
	l := s.labels["identity-volume"]
	if source == "" {
		s.problem(s.key, "the identity %s needs the label %sidentity-volume", s.identity(), labelPrefix)
		return nil
	}
	if !strings.ContainsAny(source, "/.~$") && yamltext.Get(s.volumes, source) == nil {
		s.problem(l, "no volume is named %q; a path begins with / or ./", source)
	}
	return []string{source + ":" + at + mode}
}

// variable is one of docker-compose.
var variable = regexp.MustCompile(`\$\{[^}]*\}|\$\w+`)

// containerPort is the port of an entry of expose or ports.
func containerPort(n *yaml.Node) int {
	text := textOf(n)
	if target := yamltext.Get(n, "target"); target != nil {
		text = textOf(target)
	}
	text = variable.ReplaceAllString(text, "")
	text = text[strings.LastIndexByte(text, ':')+1:]
	text, protocol, _ := strings.Cut(text, "/")
	port, err := strconv.Atoi(text)
	if err != nil || protocol != "" && protocol != "tcp" {
		return 0
	}
	return port
}

// port is the application's, and what it speaks; 0: none.
func (s *composeService) port() (port int, protocol string) {
	if l := s.labels["port"]; l != nil {
		if l.Value == "none" {
			return 0, ""
		}
		port, protocol, err := parsePort(s.value("port"))
		if err != nil {
			s.problem(l, "the label %sport: %v", labelPrefix, err)
		}
		return port, protocol
	}
	for _, field := range []string{"expose", "ports"} {
		if all := yamltext.Get(s.n, field); all != nil && all.Kind == yaml.SequenceNode {
			for _, one := range all.Content {
				if port := containerPort(one); port > 0 {
					return port, ""
				}
			}
		}
	}
	s.problem(s.key, "nothing says at which port the application listens: add the label %sport, with the value none where it only calls others", labelPrefix)
	return 0, ""
}

func (s *composeService) identity() string {
	return cmp.Or(s.value("identity"), "spiffe")
}

func (s *composeService) protocol(name string) string {
	p := s.value(name)
	if p != "" && !slices.Contains(protocols, p) {
		s.problem(s.labels[name], "the label %s%s: %q is none of %s", labelPrefix, name, p, strings.Join(protocols, ", "))
		if near := config.Suggest(p, protocols); near != "" {
			s.file.problems[len(s.file.problems)-1].Suggestion = near
		}
	}
	return p
}
