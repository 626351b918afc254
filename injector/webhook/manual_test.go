package webhook

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func manual(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../examples/manual/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The manual's table has exactly our metrics, and each outcome.
func TestManualMetrics(t *testing.T) {
	s := newServer(t, newFakeAPI(), os.Stderr)
	w := httptest.NewRecorder()
	s.back().Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	var served, shown []string
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (larboard_\w+) `).FindAllStringSubmatch(w.Body.String(), -1) {
		served = append(served, m[1])
	}
	text := manual(t)
	for _, m := range regexp.MustCompile("(?m)^\\| `(larboard_\\w+)` \\|").FindAllStringSubmatch(text, -1) {
		shown = append(shown, m[1])
	}
	slices.Sort(served)
	slices.Sort(shown)
	if !slices.Equal(served, shown) {
		t.Errorf("served %q\nshown  %q", served, shown)
	}
	for _, m := range regexp.MustCompile(`larboard_injector_\w+`).FindAllString(text, -1) {
		if !slices.Contains(served, m) {
			t.Errorf("%s is no metric", m)
		}
	}
	row := regexp.MustCompile("(?m)^\\| `larboard_injector_reviews_total`.*$").FindString(text)
	for _, o := range outcomes {
		if !strings.Contains(row, "`"+string(o)+"`") {
			t.Errorf("the outcome %s is not explained", o)
		}
	}
}

// What the page quotes of the log and of /readyz is said somewhere.
func TestManualMessages(t *testing.T) {
	var code strings.Builder
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(text)
		}
	}
	quoted := 0
	for _, m := range regexp.MustCompile("(?m)^\\| (?:log|`/readyz`): `([^`]+)`").FindAllStringSubmatch(manual(t), -1) {
		if quoted++; !strings.Contains(code.String(), m[1]) {
			t.Errorf("nothing says %q", m[1])
		}
	}
	if quoted < 5 {
		t.Errorf("%d messages were found", quoted)
	}
}
