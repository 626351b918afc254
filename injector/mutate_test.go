package injector

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

var update = flag.Bool("update", false, "write the golden files")

// example is a file of testdata: a pod, the namespace that it is made in, and settings.
type example struct {
	Namespace Namespace   `json:"namespace"`
	Settings  string      `json:"settings"`
	Pod       *corev1.Pod `json:"pod"`
}

func readExample(t *testing.T, file string) (example, *Settings) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var e example
	fromYAML(t, file, text, &e)
	s, err := LoadSettings(file+" settings", []byte(e.Settings))
	if err != nil {
		t.Fatal(err)
	}
	s.Version = "1.2.3"
	return e, s
}

// fromYAML reads Kubernetes' types, whose tags are those of JSON, strictly.
func fromYAML(t *testing.T, file string, text []byte, into any) {
	t.Helper()
	var any any
	if err := yaml.Unmarshal(text, &any); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	object, err := json.Marshal(any)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	decoder := json.NewDecoder(bytes.NewReader(object))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func toYAML(t *testing.T, object any) string {
	t.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	var plain any
	if err := json.Unmarshal(text, &plain); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(plain); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func examples(t *testing.T, pattern string, least int) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/" + pattern)
	if err != nil || len(files) < least {
		t.Fatalf("%d files %s: %v", len(files), pattern, err)
	}
	return files
}

// Every pod of testdata becomes the one beside it, by a patch; again, it stays; and without the
// injection it is what it was.
func TestGolden(t *testing.T) {
	for _, file := range examples(t, "*.pod.yaml", 1) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".pod.yaml"), func(t *testing.T) {
			e, s := readExample(t, file)
			given := e.Pod.DeepCopy()
			r, err := Mutate(e.Pod, e.Namespace, s)
			if err != nil {
				t.Fatal(err)
			}
			if !equality.Semantic.DeepEqual(given, e.Pod) {
				t.Error("the pod that was given has changed")
			}
			golden(t, strings.TrimSuffix(file, ".pod.yaml")+".golden.yaml", shownResult(t, r))
			patched(t, e.Pod, r)
			holds(t, e.Pod, r, e.Namespace, s)
		})
	}
}

func golden(t *testing.T, file, text string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != text {
		t.Errorf("%s differs; got\n%s", file, text)
	}
}

func shownResult(t *testing.T, r Result) string {
	t.Helper()
	head := ""
	if r.Skipped != "" {
		head += "# skipped: " + r.Skipped + "\n"
	}
	for _, w := range r.Warnings {
		head += "# warning: " + w + "\n"
	}
	return head + toYAML(t, r.Pod)
}

// patched applies the patch as the API server does.
func patched(t *testing.T, pod *corev1.Pod, r Result) {
	t.Helper()
	original, _ := json.Marshal(pod)
	patch, err := r.Patch(original)
	if err != nil {
		t.Fatal(err)
	}
	got := original
	if patch != nil {
		p, err := jsonpatch.DecodePatch(patch)
		if err != nil {
			t.Fatal(err)
		}
		if got, err = p.Apply(original); err != nil {
			t.Fatal(err)
		}
	}
	var out corev1.Pod
	if err := json.Unmarshal(got, &out); err != nil || !equality.Semantic.DeepEqual(&out, r.Pod) {
		t.Errorf("the patch leads elsewhere: %v: %s", err, patch)
	}
}

// holds checks what holds of every injection.
func holds(t *testing.T, pod *corev1.Pod, r Result, ns Namespace, s *Settings) {
	t.Helper()
	if r.Skipped != "" {
		if !equality.Semantic.DeepEqual(r.Pod, pod) {
			t.Error("skipped, and changed")
		}
		return
	}
	again, err := Mutate(r.Pod, ns, s)
	if err != nil {
		t.Errorf("again: %v", err)
	} else if !equality.Semantic.DeepEqual(again.Pod, r.Pod) {
		t.Errorf("again it changes:\n%s\nwas\n%s", shownResult(t, again), shownResult(t, r))
	}
	back, err := Uninject(r.Pod)
	if err != nil || !equality.Semantic.DeepEqual(back, pod) {
		t.Errorf("uninjected: %v\n%s\nwas\n%s", err, shownResult(t, Result{Pod: back}), shownResult(t, Result{Pod: pod}))
	}
}
