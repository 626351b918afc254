package injector

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

const manual = "../examples/manual/injection.md"

func readManual(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The manual's table is that of the code.
func TestManualTable(t *testing.T) {
	text := readManual(t)
	const begin, end = "-update -->\n", "<!-- end -->"
	from := strings.Index(text, begin) + len(begin)
	to := strings.Index(text, end)
	if from < len(begin) || to < from {
		t.Fatal("the table has no place")
	}
	if table := annotationTable(); text[from:to] != table {
		if !*update {
			t.Fatalf("the table differs; want\n%s", table)
		}
		if err := os.WriteFile(manual, []byte(text[:from]+table+text[to:]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func annotationTable() string {
	var out strings.Builder
	out.WriteString("| annotation | of | values | default | meaning |\n|---|---|---|---|---|\n")
	for _, a := range Annotations() {
		of := "pod"
		if a.Namespace {
			of = "pod, namespace"
		}
		fmt.Fprintf(&out, "| `%s` | %s | %s | %s | %s |\n", a.Name, of, a.Values, a.Default, a.Meaning)
	}
	return out.String()
}

// Defaults in the table are those of the settings.
func TestAnnotationDefaults(t *testing.T) {
	s := reflect.ValueOf(*DefaultSettings())
	for _, a := range Annotations() {
		if a.path == "" || !strings.HasPrefix(a.Default, "`") || a.Name == "image" {
			continue
		}
		got := fmt.Sprint(settingAt(t, s, a.path).Interface())
		if want := strings.Trim(a.Default, "`"); got != want {
			t.Errorf("%s: the table says %s, the settings %s", a.Name, want, got)
		}
	}
}

func settingAt(t *testing.T, v reflect.Value, path string) reflect.Value {
	t.Helper()
	name, rest, more := strings.Cut(path, ".")
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("yaml") == name {
			if more {
				return settingAt(t, v.Field(i), rest)
			}
			return v.Field(i)
		}
	}
	t.Fatalf("the settings have no %s", path)
	return v
}

// What the manual shows is taken, the pods with what they become, and the settings are complete.
func TestManualExamples(t *testing.T) {
	blocks := regexp.MustCompile("(?ms)^```([a-z ]*)\n(.*?)^```$").FindAllStringSubmatch(readManual(t), -1)
	pods := 0
	for i, block := range blocks {
		switch kind, text := block[1], block[2]; kind {
		case "yaml pod":
			pods++
			var pod corev1.Pod
			fromYAML(t, manual, []byte(text), &pod)
			r, err := Mutate(&pod, shop(), DefaultSettings())
			if err != nil || r.Skipped != "" {
				t.Errorf("%v%s in\n%s", err, r.Skipped, text)
				continue
			}
			proxyTakes(t, r.Pod, "10.1.2.3")
		case "yaml namespace":
			var ns corev1.Namespace
			fromYAML(t, manual, []byte(text), &ns)
			if r, err := Mutate(webPod(), Namespace{Name: ns.Name, Labels: ns.Labels}, DefaultSettings()); err != nil || r.Skipped != "" {
				t.Errorf("%v%s", err, r.Skipped)
			}
		case "yaml settings":
			s, err := LoadSettings("settings.yaml", []byte(text))
			if err != nil || !reflect.DeepEqual(s, DefaultSettings()) {
				t.Errorf("%v: %+v", err, s)
			}
			namesAll(t, text, reflect.TypeFor[Settings]())
		case "yaml settings broken":
			if _, err := LoadSettings("settings.yaml", []byte(text)); fmt.Sprintln(err) != blocks[i+1][2] {
				t.Errorf("got\n%v\nwant\n%s", err, blocks[i+1][2])
			}
		}
	}
	if pods < 3 {
		t.Errorf("only %d pods", pods)
	}
}

// namesAll checks that text names every field of t.
func namesAll(t *testing.T, text string, of reflect.Type) {
	t.Helper()
	for i := range of.NumField() {
		f := of.Field(i)
		name := f.Tag.Get("yaml")
		if name != "" && !regexp.MustCompile(`\b`+name+`:`).MatchString(text) {
			t.Errorf("%s is not shown", name)
		}
		if f.Type.Kind() == reflect.Struct {
			namesAll(t, text, f.Type)
		}
	}
}
