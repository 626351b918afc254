package admin

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
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
