package admin

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The manual lists the paths that the index lists.
func TestManualListsThePaths(t *testing.T) {
	page, err := os.ReadFile("../../examples/manual/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "<!-- paths -->")
	text, _, found := strings.Cut(rest, "<!-- paths end -->")
	if !found {
		t.Fatal("the manual has no list of paths")
	}
	path := regexp.MustCompile(`(?m)^(?:\| .)?(GET|POST) +(/[a-z0-9/]+)`)
	listed := func(s string) (paths []string) {
		for _, m := range path.FindAllStringSubmatch(s, -1) {
			paths = append(paths, m[1]+" "+m[2])
		}
		return paths
	}
	_, index := get(t, serve(t, Options{Views: views()})+"/")
	if got, want := listed(text), listed(index); !slices.Equal(got, want) || len(want) == 0 {
		t.Errorf("the manual lists\n%v\nthe index\n%v", got, want)
	}
}

// The manual explains the fields of an endpoint and of a decision, in their order.
func TestManualExplainsFields(t *testing.T) {
	page, err := os.ReadFile("../../examples/manual/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	for mark, of := range map[string]reflect.Type{"endpoint": reflect.TypeFor[EndpointView](), "decision": reflect.TypeFor[DecisionView]()} {
		_, rest, _ := strings.Cut(string(page), "<!-- "+mark+" -->")
		text, _, _ := strings.Cut(rest, "<!-- "+mark+" end -->")
		var got []string
		for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\|").FindAllStringSubmatch(text, -1) {
			got = append(got, m[1])
		}
		if want := jsonFields(of, ""); !slices.Equal(got, want) {
			t.Errorf("of the %s the manual has\n%q\nthe code\n%q", mark, got, want)
		}
	}
}

func jsonFields(t reflect.Type, prefix string) (all []string) {
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		all = append(all, prefix+name)
		below := f.Type
		if below.Kind() == reflect.Pointer || below.Kind() == reflect.Slice {
			below = below.Elem()
		}
		if below.Kind() == reflect.Struct && below != reflect.TypeFor[time.Time]() {
			all = append(all, jsonFields(below, prefix+name+".")...)
		}
	}
	return all
}
