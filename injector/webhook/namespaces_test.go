package webhook

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func named(name, inject string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"larboard.io/inject": inject}}}
}

// Namespaces are followed, kept while the API server is away, and right again afterwards.
func TestNamespaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeAPI()
		f.put("/api/v1/namespaces/a", named("a", "enabled"))
		n := newNamespaces(f.api(), slog.New(slog.DiscardHandler))
		if n.waiting() == "" {
			t.Error("ready before the first list")
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); n.run(ctx) }()
		defer func() { cancel(); <-done }()
		expect := func(when, name, want string) {
			t.Helper()
			synctest.Wait()
			asked := f.counted("GET /api/v1/namespaces/" + name)
			got, err := n.get(ctx, name)
			if err != nil || got.Labels["larboard.io/inject"] != want {
				t.Errorf("%s: %s is %v, %v; want %q", when, name, got, err, want)
			}
			if want != "" && f.counted("GET /api/v1/namespaces/"+name) != asked {
				t.Errorf("%s: the API server was asked for %s", when, name)
			}
		}
		expect("at first", "a", "enabled")
		f.put("/api/v1/namespaces/a", named("a", "disabled"))
		f.put("/api/v1/namespaces/b", named("b", "enabled"))
		expect("changed", "a", "disabled")
		expect("new", "b", "enabled")
		f.remove("/api/v1/namespaces/b")
		expect("deleted", "b", "")
		f.setAway(true)
		f.put("/api/v1/namespaces/a", named("a", "enabled"))
		time.Sleep(time.Hour)
		expect("away", "a", "disabled")
		if n.waiting() != "" {
			t.Error("not ready any more")
		}
		f.setAway(false)
		time.Sleep(time.Minute)
		expect("back", "a", "enabled")
		f.put("/api/v1/namespaces/a", named("a", "disabled"))
		expect("followed again", "a", "disabled")
	})
}

func TestOnlyWhatCountsIsKept(t *testing.T) {
	f := newFakeAPI()
	f.put("/api/v1/namespaces/shop", shop())
	n := newNamespaces(f.api(), slog.New(slog.NewTextHandler(io.Discard, nil)))
	if _, err := n.list(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := n.get(t.Context(), "shop")
	if err != nil || len(got.Labels) != 1 || got.Annotations != nil {
		t.Errorf("%+v, %v", got, err)
	}
}
