package manifest

import (
	"cmp"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/larboard-proxy/larboard/injector"
	"github.com/larboard-proxy/larboard/injector/manifest/yamltext"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func options() Options {
	s := injector.DefaultSettings()
	s.Version, s.Inject = "1.2.3", injector.InjectAll
	return Options{Settings: s, Image: "${LARBOARD_IMAGE:-larboard/larboard:1.2.3}", Namespace: "default"}
}

// inject changes one file, which must be possible.
func inject(t testing.TB, name string, data []byte, o Options) Output {
	t.Helper()
	out, problems := Inject([]Input{{name, data}}, o)
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	return out[0]
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// cases are the files that are put into the mesh by the tests.
func cases(t testing.TB) (names []string) {
	t.Helper()
	all, err := filepath.Glob("testdata/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		if !strings.Contains(name, ".golden") {
			names = append(names, name)
		}
	}
	if len(names) < 8 {
		t.Fatalf("only %q", names)
	}
	return names
}

func summary(o Output) string {
	var b strings.Builder
	for _, w := range o.Workloads {
		b.WriteString("# " + w.Kind + " " + w.Namespace + "/" + w.Name + ": " + string(w.Action) + " " + w.Reason + "\n")
	}
	return b.String()
}

// Each file becomes what its golden one says, or its pods what package injector makes of them; put in twice it is as put in once; taken out it is as
// it was, byte for byte.
func TestFiles(t *testing.T) {
	for _, name := range cases(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			before := read(t, name)
			got := inject(t, name, before, options())
			if got.Kind == Kubernetes {
				sameAsMutate(t, before, got)
			} else {
				sameAsGolden(t, name, got)
			}
			again := inject(t, name, got.Data, options())
			if again.Changed || string(again.Data) != string(got.Data) {
				t.Errorf("the second time:\n%s", again.Data)
			}
			for _, w := range again.Workloads {
				if w.Action != Unchanged && w.Action != Skipped {
					t.Errorf("the second time: %+v", w)
				}
			}
			out := options()
			out.Uninject = true
			back := inject(t, name, got.Data, out)
			if string(back.Data) != string(before) {
				t.Errorf("taken out:\n%s\nwas\n%s", back.Data, before)
			}
			if nothing := inject(t, name, before, out); nothing.Changed {
				t.Errorf("nothing was to be taken out:\n%s", nothing.Data)
			}
		})
	}
}

func sameAsGolden(t *testing.T, name string, got Output) {
	t.Helper()
	golden := strings.TrimSuffix(name, filepath.Ext(name)) + ".golden" + filepath.Ext(name)
	text := summary(got) + string(got.Data)
	if *update {
		if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := string(read(t, golden)); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

// summaries are what becomes of the workloads in manifests.
var summaries = map[string]string{
	"chart.k8s.yaml": "# StatefulSet default/release-shop: injected \n",
	"crlf.k8s.yaml":  "# Pod default/web: injected \n",
	"flow.k8s.yaml":  "# Pod default/web: injected \n",
	"list.k8s.json":  "# Job default/import: injected \n# ReplicationController kube-system/old: skipped pods of the namespace kube-system are never injected\n",
	"shop.k8s.yaml":  "# Deployment shop/web: injected \n# CronJob default/report: injected \n",
	"skipped.k8s.yaml": "# DaemonSet default/agent: skipped the pod is in the node's network (hostNetwork), where ports are shared with everything on the node; run one larboard for the host instead (per-host.md)\n" +
		"# ReplicaSet default/out: skipped the pod's label larboard.io/inject is \"false\"\n",
}

// touched are lines of a file that an injection may change: probes, what comes behind a comma in
// JSON, and mappings on one line.
var touched = regexp.MustCompile(`httpGet|tcpSocket|httpHeaders|X-Probe|path:|port:|metadata:|[]}"]\r?\n?$`)

// sameAsMutate compares the pods with what package injector says, and the other lines with what
// they were.
func sameAsMutate(t *testing.T, before []byte, got Output) {
	t.Helper()
	if text := summary(got); text != summaries[filepath.Base(got.Name)] {
		t.Errorf("got\n%s", text)
	}
	o := options()
	was, is := &file{input: Input{got.Name, before}, options: &o}, &file{input: Input{got.Name, got.Data}, options: &o}
	namespaces := map[string]injector.Namespace{}
	was.open()
	is.open()
	was.addNamespaces(namespaces)
	old, now := pods(t, was), pods(t, is)
	if len(old) == 0 || len(old) != len(now) {
		t.Fatalf("%d pods, and %d", len(old), len(now))
	}
	for i := range old {
		ns, ok := namespaces[old[i].namespace]
		if !ok {
			ns.Name = old[i].namespace
		}
		want, err := injector.Mutate(old[i].pod, ns, o.Settings)
		if err != nil {
			t.Fatal(err)
		}
		if !yamltext.Equal(treeOf(want.Pod), treeOf(now[i].pod)) {
			t.Errorf("pod %d is\n%+v\nand not\n%+v", i, now[i].pod, want.Pod)
		}
	}
	rest := string(got.Data)
	for line := range strings.Lines(string(before)) {
		if _, after, ok := strings.Cut(rest, line); ok {
			rest = after
		} else if !touched.MatchString(line) {
			t.Errorf("%q is not there any more, or elsewhere", line)
		}
	}
}

// made is a pod and where it is made.
type made struct {
	pod       *corev1.Pod
	namespace string
}

func pods(t *testing.T, f *file) (all []made) {
	t.Helper()
	f.objects(func(o object) {
		path, ok := templates[o.kind]
		if !ok {
			return
		}
		n := o.n
		for _, step := range path {
			n = yamltext.Get(n, step.(string))
		}
		pod, err := podOf(n)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, made{pod, cmp.Or(o.namespace, "default")})
	})
	return all
}

// What is wrong is said with its place, and what was probably meant.
func TestProblems(t *testing.T) {
	const pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  annotations:\n    ANNOTATION\nspec:\n  containers:\n  - {name: web, image: web, ports: [{containerPort: 8080}]}\n"
	annotated := func(text string) string { return strings.Replace(pod, "ANNOTATION", text, 1) }
	labelled := func(text string) string {
		return "services:\n  web:\n    image: x\n    expose: [8080]\n    labels:\n      larboard.service: web\n      " + text + "\n"
	}
	for _, test := range []struct{ name, file, text, want string }{
		{"nothing known", "f.yaml", "a: 1\n", "f.yaml:1:1: is neither a Kubernetes manifest (apiVersion and kind), nor a docker-compose file (services), nor a service definition of Consul; say which with --kind"},
		{"no YAML", "f.yaml", "apiVersion: v1\nkind: Pod\n---\na: [1\nb: 2\n", "f.yaml:4:1: not YAML: did not find expected ',' or ']'"},
		{"no UTF-8", "f.yaml", "a: \xff\n", "f.yaml:1:4: the file is not UTF-8: byte 0xff"},
		{"an annotation that is none", "f.yaml", annotated("larboard.io/upstream: stock:9191"), `f.yaml:6:27: Pod web: larboard.io/upstream: unknown annotation; did you mean "larboard.io/upstreams"?`},
		{"an annotation that is wrong", "f.yaml", annotated("larboard.io/ports: x"), `f.yaml:6:24: Pod web: larboard.io/ports: `},
		{"no pod", "f.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: 3}\n", "f.yaml:1:1: Pod x: is no pod that Kubernetes would take: "},
		{"no template", "f.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {}\n", "f.yaml:1:1: Deployment x: lacks template"},
		{"an unknown label", "f.yaml", labelled("larboard.upstream: stock:9191"), `f.yaml:7:26: services.web: unknown label larboard.upstream; did you mean "larboard.upstreams"?`},
		{"an upstream without a port", "f.yaml", labelled("larboard.upstreams: stock"), `f.yaml:7:27: services.web: the label larboard.upstreams: "stock" lacks the port at which the application calls it, like stock:9191`},
		{"one port twice", "f.yaml", labelled("larboard.upstreams: stock:9191, db:9191"), `f.yaml:7:27: services.web: the label larboard.upstreams: "db:9191": port 9191 is already that of stock`},
		{"a wrong port", "f.yaml", labelled("larboard.port: http"), `f.yaml:7:22: services.web: the label larboard.port: "http" is not a port, which is a number from 1 to 65535`},
		{"a protocol", "f.yaml", labelled("larboard.protocol: htpt"), `f.yaml:7:26: services.web: the label larboard.protocol: "htpt" is none of auto, http, http2, grpc, tcp; did you mean "http"?`},
		{"a variable", "f.yaml", labelled("larboard.upstreams: stock:${PORT}"), `f.yaml:7:27: services.web: the label larboard.upstreams has a variable, which only docker-compose replaces, later; write out its value`},
		{"a truth value", "f.yaml", labelled("larboard.register: maybe"), `f.yaml:7:26: services.web: the label larboard.register: "maybe" is neither true nor false`},
		{"no value", "f.yaml", labelled("larboard.allow: ''"), `f.yaml:7:23: services.web: the label larboard.allow has no value; leave it out for the default`},
		{"what the proxy would refuse", "f.yaml", labelled("larboard.allow: web"), `f.yaml:7:23: services.web: the proxy's configuration: workload.allow[0]: `},
		{"no text", "f.yaml", labelled("larboard.config: {a: b}"), `f.yaml:7:24: services.web: the label larboard.config must be a text`},
		{"a configuration that is wrong", "f.yaml", labelled("larboard.config: 'timout: 3s'"), `f.yaml:7:24: services.web: the proxy's configuration: timout: unknown field`},
		{"a volume that is not there", "f.yaml", labelled("larboard.identity-volume: spire"), `f.yaml:7:33: services.web: no volume is named "spire"; a path begins with / or ./`},
		{"an identity", "f.yaml", labelled("larboard.identity: spire"), `f.yaml:7:26: services.web: the label larboard.identity: "spire" is none of spiffe, consul, files, dev`},
		{"nobody to wait for", "f.yaml", labelled("larboard.depends-on: spire"), `f.yaml:7:28: services.web: there is no service "spire" to wait for`},
		{"a sidecar of somebody else", "f.yaml", labelled("larboard.log-level: info\n  web-larboard: {image: x}"), `f.yaml:8:17: services.web: a service web-larboard is there already, and is none of ours`},
		{"several containers", "f.yaml", labelled("larboard.log-level: info\n    scale: 3"), `f.yaml:8:12: services.web: has 3 containers, and a sidecar can stand beside one only`},
		{"a key given twice", "f.yaml", labelled("larboard.port: none\n    image: y"), `f.yaml:8:5: services: image is given twice`},
		{"a key of a pod given twice", "f.yaml", annotated("a: b") + "spec: {}\n", `f.yaml:10:1: Pod web: spec is given twice`},
		{"an order", "f.yaml", labelled("larboard.order: first"), `f.yaml:7:23: services.web: the label larboard.order: "first" is neither before nor after`},
		{"an order that the network forbids", "f.yaml", labelled("larboard.order: before\n    network_mode: host"), `f.yaml:8:19: services.web: with the label larboard.order: before the network is the proxy's, and network_mode cannot stand here`},
		{"no port at all", "f.yaml", "services:\n  web:\n    labels: [larboard.service=web]\n", `f.yaml:2:3: services.web: nothing says at which port the application listens`},
		{"two documents", "f.yaml", "services: {}\n---\nservices: {}\n", "f.yaml:3:1: a second document begins here; such a file holds one"},
		{"no HCL", "f.hcl", "service {\n  name = \n}\n", "f.hcl:3:1: not HCL: "},
		{"no service", "f.hcl", "node { }\n", "f.hcl: holds no service of Consul, neither service nor services"},
		{"no name", "f.hcl", "service {\n  port = 1\n}\n", "f.hcl:1:9: service: name is missing"},
		{"unknown metadata", "f.json", `{"service": {"name": "a", "meta": {"larboard-upstream": "x:1"}}}`, `f.json:1:13: service: unknown metadata larboard-upstream; there are larboard-inject, larboard-upstreams, larboard-protocol`},
		{"no service in JSON", "f.json", `{"services": []}`, "f.json:1:1: holds neither service nor services"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, problems := Inject([]Input{{test.file, []byte(test.text)}}, options())
			if got := problems.Error(); !strings.HasPrefix(got, test.want) || out != nil {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// A namespace in one file counts for the others.
func TestNamespaceOfAnotherFile(t *testing.T) {
	pod := Input{"pod.yaml", []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\nspec: {containers: [{name: web, ports: [{containerPort: 1}]}]}\n")}
	ns := Input{"ns.yaml", []byte("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {larboard.io/inject: disabled}}\n")}
	out, problems := Inject([]Input{pod, ns}, options())
	if err := problems.Err(); err != nil || out[0].Changed || out[0].Workloads[0].Reason != `the label larboard.io/inject of the namespace shop is "disabled"` {
		t.Errorf("%v %+v", err, out)
	}
}

// Whatever a sidecar is given by hand is as generated after the next injection.
func TestComposeIsRepaired(t *testing.T) {
	data := read(t, "testdata/stack.compose.golden.yaml")
	damaged := strings.Replace(strings.Replace(string(data), "    read_only: true\n", "", 1), "127.0.0.1:9191", "127.0.0.1:9192", 1)
	got := inject(t, "f.yaml", []byte(damaged), options())
	if !got.Changed || got.Workloads[0].Action != Injected {
		t.Fatalf("%+v", got.Workloads)
	}
	if again := inject(t, "f.yaml", got.Data, options()); again.Changed || !strings.Contains(string(again.Data), "127.0.0.1:9191") {
		t.Errorf("got\n%s", again.Data)
	}
}

// An application that has gone takes its sidecar along.
func TestComposeOrphan(t *testing.T) {
	got := inject(t, "f.yaml", []byte("services:\n  a: {image: a, depends_on: [b, web-larboard]}\n  b: {image: b}\n  web-larboard:\n    image: x\n    labels: {larboard.sidecar-for: web}\n"), options())
	if want := "services:\n  a: {image: a, depends_on: [b]}\n  b: {image: b}\n"; string(got.Data) != want {
		t.Errorf("got\n%s", got.Data)
	}
}

// What somebody has written by hand stays, whatever its name.
func TestComposeByHand(t *testing.T) {
	const text = "services:\n  a: {image: a, depends_on: [web-larboard]}\n  web: {image: web}\n  web-larboard: {image: x}\n"
	for _, uninject := range []bool{false, true} {
		o := options()
		o.Uninject = uninject
		if got := inject(t, "f.yaml", []byte(text), o); got.Changed {
			t.Errorf("uninject %v: got\n%s", uninject, got.Data)
		}
	}
}

func FuzzInject(f *testing.F) {
	for _, name := range cases(f) {
		f.Add(read(f, name))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 16<<10 {
			return
		}
		out, problems := Inject([]Input{{"f", data}}, options())
		if len(problems) > 0 {
			return
		}
		again, problems := Inject([]Input{{"f", out[0].Data}}, options())
		if len(problems) > 0 {
			t.Fatalf("%v\n%q\n%q", problems, data, out[0].Data)
		}
		if again[0].Changed {
			t.Fatalf("it changes again\n%q\n%q\n%q", data, out[0].Data, again[0].Data)
		}
		if out[0].Kind == Kubernetes {
			before, p := config.Documents("f", data)
			after, q := config.Documents("f", out[0].Data)
			if p != nil || q != nil || len(before) != len(after) {
				t.Fatalf("%d documents become %d (%v, %v)\n%q", len(before), len(after), p, q, data)
			}
		}
	})
}
