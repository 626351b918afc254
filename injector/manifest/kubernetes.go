package manifest

import (
	"encoding/json"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/larboard-proxy/larboard/injector"
	"github.com/larboard-proxy/larboard/injector/manifest/yamltext"
)

// templates are the kinds that make pods, and where in them the pod's template stands.
var templates = map[string][]any{
	"Pod":                   {},
	"Deployment":            {"spec", "template"},
	"StatefulSet":           {"spec", "template"},
	"DaemonSet":             {"spec", "template"},
	"ReplicaSet":            {"spec", "template"},
	"ReplicationController": {"spec", "template"},
	"Job":                   {"spec", "template"},
	"CronJob":               {"spec", "jobTemplate", "spec", "template"},
}

// groups are Kubernetes' own that such kinds are in; others may use the same names.
var groups = []string{"", "apps", "batch", "extensions"}

// object is one of a manifest: a document, or an item of a list.
type object struct {
	document        *yamltext.Document
	path            []any
	n               *yaml.Node // resolved
	kind, namespace string
	name            string
}

// objects calls do for each object of the file, those in lists included.
func (f *file) objects(do func(o object)) {
	if f.text == nil || f.kind != Kubernetes {
		return
	}
	for _, d := range f.text.Documents {
		if d.Root == nil {
			continue
		}
		if d.Root.Kind != yaml.MappingNode {
			f.report(d.Root, "", "is no object of Kubernetes, which is a mapping")
			continue
		}
		root, err := yamltext.Resolved(d.Root)
		if err != nil {
			f.report(d.Root, "", "%v", err)
			continue
		}
		f.walk(object{document: d, n: root}, do)
	}
}

func (f *file) walk(o object, do func(o object)) {
	group, _, grouped := strings.Cut(textOf(yamltext.Get(o.n, "apiVersion")), "/")
	if !grouped {
		group = ""
	}
	o.kind = textOf(yamltext.Get(o.n, "kind"))
	items := yamltext.Get(o.n, "items")
	if strings.HasSuffix(o.kind, "List") && items != nil && items.Kind == yaml.SequenceNode {
		for i, item := range items.Content {
			if item.Kind == yaml.MappingNode {
				f.walk(object{document: o.document, n: item, path: append(append([]any{}, o.path...), "items", i)}, do)
			}
		}
		return
	}
	metadata := yamltext.Get(o.n, "metadata")
	o.name, o.namespace = textOf(yamltext.Get(metadata, "name")), textOf(yamltext.Get(metadata, "namespace"))
	if o.name == "" {
		o.name = textOf(yamltext.Get(metadata, "generateName"))
	}
	if contains(groups, group) {
		do(o)
	}
}

// addNamespaces notes the namespaces that the file makes.
func (f *file) addNamespaces(all map[string]injector.Namespace) {
	f.objects(func(o object) {
		if o.kind != "Namespace" {
			return
		}
		ns := injector.Namespace{Name: o.name, Labels: map[string]string{}, Annotations: map[string]string{}}
		metadata := yamltext.Get(o.n, "metadata")
		for key, value := range scalars(yamltext.Get(metadata, "labels")) {
			ns.Labels[key] = value.Value
		}
		for key, value := range scalars(yamltext.Get(metadata, "annotations")) {
			ns.Annotations[key] = value.Value
		}
		all[o.name] = ns
	})
}

// changeManifests does the pods that the file makes.
func (f *file) changeManifests(namespaces map[string]injector.Namespace) {
	f.objects(func(o object) {
		path, makesPods := templates[o.kind]
		if !makesPods {
			return
		}
		if o.namespace == "" {
			o.namespace = f.options.Namespace
		}
		ns, known := namespaces[o.namespace]
		if !known {
			ns.Name = o.namespace
		}
		f.changePod(o, path, ns)
	})
}

// changePod does the pod of one object.
func (f *file) changePod(o object, path []any, ns injector.Namespace) {
	at := strings.TrimPrefix(fmt.Sprint(o.kind, " ", o.name), " ")
	if !f.unambiguous(o.n, at) {
		return
	}
	template := o.n
	for _, step := range path {
		if template = yamltext.Get(template, step.(string)); template == nil {
			f.report(o.n, at, "lacks %s", step)
			return
		}
	}
	if yamltext.Get(template, "spec") == nil {
		f.report(template, at, "lacks spec")
		return
	}
	pod, err := podOf(template)
	if err != nil {
		f.report(template, at, "%v", err)
		return
	}
	w := Workload{Line: o.n.Line, Kind: o.kind, Namespace: o.namespace, Name: o.name}
	result, action, err := f.decided(pod, ns)
	if err != nil {
		text := sentence(err)
		f.report(placeOf(template, text), at, "%s", text)
		return
	}
	w.Action, w.Reason, w.Warnings = action, result.Skipped, result.Warnings
	f.workloads = append(f.workloads, w)
	if action != Injected && action != Restored {
		return
	}
	was, is := treeOf(pod), treeOf(result.Pod)
	if err := o.document.Patch(append(append([]any{}, o.path...), path...), was, is); err != nil {
		f.report(o.n, at, "%v", err)
	}
}

// decided is what becomes of a pod.
func (f *file) decided(pod *corev1.Pod, ns injector.Namespace) (injector.Result, Action, error) {
	var result injector.Result
	var err error
	done := Injected
	if f.options.Uninject {
		done = Restored
		result.Pod, err = injector.Uninject(pod)
	} else {
		result, err = injector.Mutate(pod, ns, f.options.Settings)
	}
	switch {
	case err != nil:
		return result, "", err
	case result.Skipped != "":
		return result, Skipped, nil
	case yamltext.Equal(treeOf(pod), treeOf(result.Pod)):
		return result, Unchanged, nil
	}
	return result, done, nil
}

// podOf reads a template, which is a pod without kind.
func podOf(template *yaml.Node) (*corev1.Pod, error) {
	text, err := yamltext.JSON(mapping("metadata", yamltext.Get(template, "metadata"), "spec", yamltext.Get(template, "spec")))
	if err != nil {
		return nil, err
	}
	var pod corev1.Pod
	if err := utiljson.Unmarshal(text, &pod); err != nil {
		return nil, fmt.Errorf("is no pod that Kubernetes would take: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return &pod, nil
}

// treeOf is a pod as it is written, without a status and without what is empty.
func treeOf(pod *corev1.Pod) *yaml.Node {
	text, err := json.Marshal(corev1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec})
	if err != nil {
		panic("manifest: " + err.Error()) // Kubernetes' own types
	}
	n, err := yamltext.FromJSON(text)
	if err != nil {
		panic("manifest: " + err.Error())
	}
	if metadata := yamltext.Get(n, "metadata"); metadata != nil && len(metadata.Content) == 0 {
		overlay(n, mapping("metadata", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}))
	}
	return n
}

// sentence is what an error of package injector says, without the words that it begins with.
func sentence(err error) string {
	text := err.Error()
	if rest, ok := strings.CutPrefix(text, "larboard cannot inject "); ok {
		if _, after, ok := strings.Cut(rest, ": "); ok {
			return after
		}
	}
	return strings.TrimPrefix(text, "larboard: ")
}

// placeOf is where the annotation that text begins with stands, and else the template.
func placeOf(template *yaml.Node, text string) *yaml.Node {
	if !strings.HasPrefix(text, injector.Prefix) {
		return template
	}
	key := text[:strings.IndexAny(text+":", ": ,")]
	metadata := yamltext.Get(template, "metadata")
	for _, field := range []string{"annotations", "labels"} {
		if n := yamltext.Get(yamltext.Get(metadata, field), key); n != nil {
			return n
		}
	}
	return template
}
