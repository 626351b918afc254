package arch

import (
	"fmt"
	"slices"
	"strings"
)

// Law says what each package may import of the project. A package that is not in
// it may not exist. "x/..." stands for x and all below it. The same table, with
// reasons, is in ARCHITECTURE.md.
func Law() map[string][]string {
	return map[string][]string{
		".": {"sidecar/cli"},
		"sidecar": {"sidecar/admin", "sidecar/compile", "sidecar/config", "sidecar/engine", "sidecar/health", "sidecar/http1", "sidecar/identity", "sidecar/probes",
			"sidecar/proxy", "sidecar/proxyproto", "sidecar/quota", "sidecar/upstream", "discovery/...", "policy/...", "observability/..."},
		"sidecar/cli":     {"sidecar/...", "injector/...", "discovery/...", "policy/...", "observability/..."},
		"sidecar/demo":    {"sidecar/...", "discovery/...", "policy/...", "observability/..."},
		"sidecar/admin":   {"policy"},
		"sidecar/compile": {"sidecar/config", "sidecar/proxy", "sidecar/upstream", "sidecar/identity", "sidecar/http1", "sidecar/http2", "sidecar/proxyproto", "discovery/...", "policy/...", "observability/tracecontext"},
		"sidecar/config":  {"policy", "observability/accesslog/template"},
		"sidecar/proxy": {"sidecar/upstream", "sidecar/identity", "sidecar/http1", "sidecar/http2", "sidecar/message", "sidecar/detect", "sidecar/proxyproto", "sidecar/engine",
			"discovery", "policy/...", "observability", "observability/tracecontext"},
		"sidecar/upstream":           {"sidecar/identity", "sidecar/http1", "sidecar/http2", "sidecar/message", "sidecar/proxyproto", "sidecar/engine", "discovery", "policy/..."},
		"sidecar/health":             {"policy"},
		"sidecar/probes":             {"sidecar/health"},
		"sidecar/child":              {},
		"sidecar/quota":              {"sidecar/proxy", "sidecar/engine"},
		"sidecar/identity":           {"policy", "discovery/filewatch"},
		"sidecar/identity/...":       {"sidecar/identity", "policy"},
		"sidecar/blame":              {"sidecar/engine", "policy"},
		"sidecar/http1":              {"sidecar/blame", "sidecar/message", "sidecar/engine", "policy"},
		"sidecar/http2":              {"sidecar/http2/hpack", "sidecar/blame", "sidecar/message", "sidecar/engine", "policy"},
		"sidecar/http2/hpack":        {},
		"sidecar/message":            {"policy"},
		"sidecar/detect":             {},
		"sidecar/proxyproto":         {},
		"sidecar/engine":             {},
		"sidecar/engine/...":         {"sidecar/engine"},
		"discovery":                  {},
		"discovery/filewatch":        {},
		"discovery/file":             {"discovery", "discovery/filewatch"},
		"discovery/...":              {"discovery"},
		"policy":                     {},
		"policy/...":                 {"policy"},
		"observability":              {"policy"},
		"observability/...":          {"observability", "observability/otlp", "policy", "policy/retry"},
		"observability/otlp":         {},
		"observability/trace":        {"observability", "observability/otlp", "observability/accesslog/template", "policy"},
		"observability/tracecontext": {},
		"injector":                   {"sidecar/config"},
		"injector/webhook":           {"injector", "discovery/filewatch"},
		"injector/manifest":          {"injector", "injector/manifest/yamltext", "sidecar/config"},
		"injector/manifest/yamltext": {},
		"injector/capture":           {},
		"examples/shop":              {},
		"tests/arch":                 {},
		"tests/...":                  {"sidecar/...", "injector/...", "discovery/...", "policy/...", "observability/...", "tests/..."},

		"observability/accesslog":          {"observability", "observability/accesslog/template", "policy"},
		"observability/accesslog/template": {},
	}
}

// owners says which packages alone may import a library (by prefix), tests apart.
func owners() map[string][]string {
	return map[string][]string{
		"github.com/hashicorp/consul/api": {"discovery/consul"},
		"github.com/miekg/dns":            {"discovery/dns"},
		"github.com/sony/gobreaker":       {"policy/breaker"},
		"go.opentelemetry.io/":            {"observability/..."},
		"github.com/prometheus/":          {"observability/...", "injector/webhook"},
		"golang.org/x/time":               {"policy/limit"},
		"github.com/envoyproxy/":          {"tests/..."},
		"github.com/google/nftables":      {"injector/capture"},
		"k8s.io/":                         {"injector/..."},
	}
}

// covers reports whether a pattern of the law names dir.
func covers(pattern, dir string) bool {
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return dir == base || strings.HasPrefix(dir, base+"/")
	}
	return pattern == dir
}

// allowed returns what dir may import: the entry under its own name, else the
// longest pattern above it.
func allowed(law map[string][]string, dir string) ([]string, bool) {
	if list, ok := law[dir]; ok {
		return list, true
	}
	best := ""
	for pattern := range law {
		if strings.HasSuffix(pattern, "/...") && covers(pattern, dir) && len(pattern) > len(best) {
			best = pattern
		}
	}
	list, ok := law[best]
	return list, ok
}

// checkImports holds one file against the law.
func checkImports(f *File) []string {
	if strings.HasSuffix(f.Path, "_test.go") {
		return nil
	}
	list, ok := allowed(Law(), f.Dir())
	if !ok {
		return []string{fmt.Sprintf("%s: package %s is not in the import law", f.Path, f.Dir())}
	}
	var problems []string
	for _, imported := range f.Imports() {
		if why := refused(f, list, imported); why != "" {
			problems = append(problems, fmt.Sprintf("%s: imports %s: %s", f.Path, imported, why))
		}
	}
	return problems
}

// refused says why f may not import a package; empty: it may.
func refused(f *File, list []string, imported string) string {
	if ours, ok := strings.CutPrefix(imported+"/", Module+"/"); ok {
		ours = strings.TrimSuffix(ours, "/")
		for _, pattern := range list {
			if covers(pattern, ours) {
				return ""
			}
		}
		return fmt.Sprintf("%s may import only %s of ours", f.Dir(), wordList(list))
	}
	for library, all := range owners() {
		covering := func(owner string) bool { return covers(owner, f.Dir()) }
		if strings.HasPrefix(imported+"/", strings.TrimSuffix(library, "/")+"/") && !f.IsTest() && !slices.ContainsFunc(all, covering) {
			return "only " + wordList(all) + " may"
		}
	}
	return ""
}

func wordList(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, ", ")
}
