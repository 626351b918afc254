package injector

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/larboard-proxy/larboard/sidecar/config"
)

// Prefix begins the names of all annotations and labels of ours.
const Prefix = "larboard.io/"

// The names that are no setting.
const (
	InjectKey = Prefix + "inject" // label of a namespace; label or annotation of a pod
	StatusKey = Prefix + "status" // annotation of an injected pod
)

// Annotation is one setting that a pod, or a namespace for all its pods, overrides.
type Annotation struct {
	Name string // without Prefix
	// Namespace: namespaces may have it, too.
	Namespace bool
	// Values as the manual writes them.
	Values string
	// Default as the manual writes it; empty: none.
	Default string
	Meaning string

	// path of the same in Settings; empty: it is of pods alone.
	path string
	// set takes a value over and says what is wrong with it, or "".
	set func(w *wish, value string) string
}

// Annotations are all there are, in the order of the manual. The caller must not change them.
func Annotations() []Annotation { return annotations }

var annotations = []Annotation{
	{Name: "service", Values: "a name", Default: "label `app.kubernetes.io/name`, else `app`, else the first container's name",
		Meaning: "the name that others know the workload by", set: func(w *wish, v string) string { w.service = v; return "" }},
	{Name: "ports", Values: "`8080`, `8080/http, 9090/tcp`, `http, admin/http=web-admin`, `none`", Default: "the first TCP port of the first container that names one",
		Meaning: "the application's ports, by number or name, each with its protocol and the service that it is; the second and further ones are the services `SERVICE-NAME`, or `SERVICE-NUMBER` where a port has no name", set: func(w *wish, v string) string { w.portList = v; return "" }},
	{Name: "protocol", Namespace: true, Values: "`auto`, `http`, `http2`, `grpc`, `tcp`", Default: "`auto`",
		Meaning: "what ports and upstreams speak that do not say so", path: "protocol", set: text(func(w *wish) *string { return &w.Protocol })},
	{Name: "upstreams", Values: "`stock:9191`, `stock:9191, db:5432/tcp`", Meaning: "services to call, each at a port of 127.0.0.1; with capture the port may be left out",
		set: func(w *wish, v string) string { w.upstreamList = v; return "" }},
	{Name: "upstream-id", Namespace: true, Values: "`spiffe://example.org/ns/{namespace}/sa/{service}`", Default: "the ID by Consul's convention",
		Meaning: "whom to expect of upstreams; `{service}`, `{namespace}` (this pod's) and `{trust_domain}` are replaced", path: "identity.upstream_id", set: text(func(w *wish) *string { return &w.Identity.UpstreamID })},
	{Name: "allow", Namespace: true, Values: "SPIFFE IDs, as in [`allow`](configuration.md)", Default: "all of the own trust domain",
		Meaning: "who may call", path: "allow", set: func(w *wish, v string) string { w.Allow, w.Intentions = list(v), false; return "" }},
	{Name: "intentions", Namespace: true, Values: "`true`, `false`", Default: "`false`",
		Meaning: "have Consul's intentions decide who may call", path: "intentions", set: truth(func(w *wish) *bool { return &w.Intentions })},
	{Name: "register", Namespace: true, Values: "`true`, `false`", Default: "`true`",
		Meaning: "register the pod in Consul while it is ready", path: "register", set: truth(func(w *wish) *bool { return &w.Register })},
	{Name: "identity", Namespace: true, Values: "`spiffe-csi`, `spiffe-hostpath`, `consul`, `files`, `dev`", Default: "`spiffe-csi`",
		Meaning: "where the proxy's certificate comes from", path: "identity.source", set: text(func(w *wish) *string { return &w.Identity.Source })},
	{Name: "identity-secret", Namespace: true, Values: "name of a Secret", Meaning: "`tls.crt`, `tls.key` and `ca.crt` of the identity `files`",
		path: "identity.secret", set: text(func(w *wish) *string { return &w.Identity.Secret })},
	{Name: "consul-address", Namespace: true, Values: "`HOST:PORT`, `https://HOST:PORT`", Default: "`$(HOST_IP):8500`",
		Meaning: "the Consul agent or server", path: "consul.address", set: text(func(w *wish) *string { return &w.Consul.Address })},
	{Name: "consul-token-secret", Namespace: true, Values: "`NAME` or `NAME/KEY` of a Secret", Meaning: "Consul's token; the key is `token` unless given",
		path: "consul.token_secret", set: text(func(w *wish) *string { return &w.Consul.TokenSecret })},
	{Name: "capture", Namespace: true, Values: "`none`, `outbound`, `both`", Default: "`none`",
		Meaning: "which connections are redirected to the proxy", path: "capture.mode", set: text(func(w *wish) *string { return &w.Capture.Mode })},
	{Name: "exclude-outbound-ports", Namespace: true, Values: "`5432, 6379`", Meaning: "ports that outbound capture leaves alone",
		path: "capture.exclude_outbound_ports", set: numbers(func(w *wish) *[]int { return &w.Capture.ExcludeOutboundPorts })},
	{Name: "exclude-inbound-ports", Namespace: true, Values: "`9100`", Meaning: "ports that inbound capture leaves alone",
		path: "capture.exclude_inbound_ports", set: numbers(func(w *wish) *[]int { return &w.Capture.ExcludeInboundPorts })},
	{Name: "exclude-outbound-cidrs", Namespace: true, Values: "`10.0.0.0/8, fd00::/8`", Meaning: "addresses that outbound capture leaves alone",
		path: "capture.exclude_outbound_cidrs", set: func(w *wish, v string) string { w.Capture.ExcludeOutboundCIDRs = list(v); return "" }},
	{Name: "rewrite-probes", Namespace: true, Values: "`true`, `false`", Default: "`true`",
		Meaning: "have the proxy answer the kubelet's probes of the application", path: "rewrite_probes", set: truth(func(w *wish) *bool { return &w.RewriteProbes })},
	{Name: "stop-delay", Namespace: true, Values: "`3s`", Default: "`0s`",
		Meaning: "how much later than the pod is told to end its application is, which its proxy is told at once; for containers without a `preStop` hook", path: "stop_delay", set: func(w *wish, v string) string {
			d, err := config.ParseDuration(v)
			if err != nil {
				return err.Error()
			}
			w.StopDelay = d
			return ""
		}},
	{Name: "form", Namespace: true, Values: "`auto`, `native`, `classic`, `wrapped`", Default: "`auto`",
		Meaning: "how the proxy stands in the pod", path: "form", set: func(w *wish, v string) string { w.Form = Form(v); return "" }},
	{Name: "container", Values: "name of a container", Default: "the one that has the first port, else the first", Meaning: "the application, for the form `wrapped`",
		set: func(w *wish, v string) string { w.container = v; return "" }},
	{Name: "place", Values: "`first`, `last`", Default: "`first`", Meaning: "whether the proxy starts before the pod's other init containers, or after them", set: func(w *wish, v string) string {
		w.last = v == "last"
		if v != "first" && v != "last" {
			return fmt.Sprintf("%q is neither first nor last", v)
		}
		return ""
	}},
	{Name: "image", Namespace: true, Values: "an image", Default: "`larboard/larboard` of the injector's version",
		Meaning: "the proxy's image", path: "image", set: text(func(w *wish) *string { return &w.Image })},
	{Name: "log-level", Namespace: true, Values: "`debug`, `info`, `warn`, `error`", Default: "`info`",
		Meaning: "of the proxy's own log", path: "log.level", set: text(func(w *wish) *string { return &w.Log.Level })},
	{Name: "cpu-request", Namespace: true, Values: "`10m`", Default: "`10m`", Meaning: "of the proxy's container; `none` for none", path: "resources.cpu_request", set: quantity(func(w *wish) *string { return &w.Resources.CPURequest })},
	{Name: "cpu-limit", Namespace: true, Values: "`500m`", Default: "none", Meaning: "likewise", path: "resources.cpu_limit", set: quantity(func(w *wish) *string { return &w.Resources.CPULimit })},
	{Name: "memory-request", Namespace: true, Values: "`32Mi`", Default: "`32Mi`", Meaning: "likewise", path: "resources.memory_request", set: quantity(func(w *wish) *string { return &w.Resources.MemoryRequest })},
	{Name: "memory-limit", Namespace: true, Values: "`256Mi`", Default: "`256Mi`", Meaning: "likewise", path: "resources.memory_limit", set: quantity(func(w *wish) *string { return &w.Resources.MemoryLimit })},
	{Name: "config", Values: "YAML", Meaning: "a part of the proxy's [configuration](configuration.md) that is merged over the generated one: mappings by their keys, everything else as a whole; `null` takes a field away",
		set: func(w *wish, v string) string { w.override = v; return "" }},
}

func text(field func(*wish) *string) func(*wish, string) string {
	return func(w *wish, v string) string { *field(w) = v; return "" }
}

func quantity(field func(*wish) *string) func(*wish, string) string {
	return func(w *wish, v string) string {
		if v == "none" {
			v = ""
		}
		*field(w) = v
		return ""
	}
}

func truth(field func(*wish) *bool) func(*wish, string) string {
	return func(w *wish, v string) string {
		switch v {
		case "true":
			*field(w) = true
		case "false":
			*field(w) = false
		default:
			return fmt.Sprintf("%q is neither true nor false", v)
		}
		return ""
	}
}

func numbers(field func(*wish) *[]int) func(*wish, string) string {
	return func(w *wish, v string) string {
		var all []int
		for _, one := range list(v) {
			n, err := strconv.Atoi(one)
			if err != nil {
				return fmt.Sprintf("%q is no port, which is a number from 1 to 65535", one)
			}
			all = append(all, n)
		}
		*field(w) = all
		return ""
	}
}

// list splits what stands between commas.
func list(text string) (all []string) {
	for one := range strings.SplitSeq(text, ",") {
		if one = strings.TrimSpace(one); one != "" {
			all = append(all, one)
		}
	}
	return all
}

// take takes over those of all that are ours; of is who has them, "" for the pod. It reports
// unknown ones: of a pod as a problem, of a namespace, which would hold up everything in it, as a
// warning.
func (w *wish) take(all map[string]string, of string) {
	for _, key := range slices.Sorted(maps.Keys(all)) {
		name, ours := strings.CutPrefix(key, Prefix)
		if !ours || key == InjectKey || key == StatusKey && of == "" {
			continue
		}
		i := slices.IndexFunc(annotations, func(a Annotation) bool { return a.Name == name })
		where := key
		if of != "" {
			where = of + ": " + key
		}
		switch {
		case i < 0 && of != "":
			w.warn("%s: unknown annotation%s", where, meant(annotationNames(of), name))
		case i < 0:
			w.refuse("%s: unknown annotation%s", where, meant(annotationNames(of), name))
		case of != "" && !annotations[i].Namespace:
			w.warn("%s: is for pods, not for namespaces", where)
		case strings.TrimSpace(all[key]) == "":
			w.refuse("%s: has no value; leave it out for the default", where)
		default:
			a := &annotations[i]
			w.given[a.path] = where
			value := all[key]
			if a.Name != "config" {
				value = strings.TrimSpace(value)
			}
			if problem := a.set(w, value); problem != "" {
				w.refuse("%s: %s", where, problem)
			}
		}
	}
}

func annotationNames(of string) []string {
	names := []string{"inject"}
	for _, a := range annotations {
		if of == "" || a.Namespace {
			names = append(names, a.Name)
		}
	}
	return names
}

func meant(names []string, name string) string {
	if one := config.Suggest(name, names); one != "" {
		return fmt.Sprintf("; did you mean %q?", Prefix+one)
	}
	return ""
}
