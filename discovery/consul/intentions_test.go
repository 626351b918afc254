package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// ixn is an intention as the API shows it.
func ixn(source, action string, more ...string) string {
	return fmt.Sprintf(`{"SourceNS":"default","SourceName":%q,"DestinationNS":"default","DestinationName":"web","Action":%q,"Precedence":9%s}`,
		source, action, strings.Join(more, ""))
}

// matches is an answer about web.
func matches(list ...string) string { return `{"web":[` + strings.Join(list, ",") + `]}` }

// intentionsFake serves answers to match as a timeline does, and verdict to authorize.
func intentionsFake(verdict string, steps ...step) *fake {
	f := &fake{}
	f.timeline(steps...)
	match := f.serve
	f.serve = func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/v1/agent/connect/authorize" {
			if q := req.URL.Query(); req.URL.Path != "/v1/connect/intentions/match" || q.Get("by") != "destination" || q.Get("name") != "web" {
				http.Error(w, "what is "+req.URL.String(), http.StatusBadRequest)
				return
			}
			match(w, req)
			return
		}
		f.requests = f.requests[:len(f.requests)-1] // they are about match
		if strings.HasPrefix(verdict, "{") {
			fmt.Fprint(w, verdict)
			return
		}
		http.Error(w, verdict, http.StatusForbidden)
	}
	return f
}

const (
	allowsByDefault = `{"Authorized":true,"Reason":"Default behavior configured by ACLs"}`
	deniesByDefault = `{"Authorized":false,"Reason":"Default intention policy"}`
	matchedAll      = `{"Authorized":true,"Reason":"Matched L4 intention: * => web (allow)"}`
)

// watchIntentions runs a watch against a fake and returns what it told as text.
func watchIntentions(t *testing.T, f *fake, long time.Duration) (lines []string) {
	t.Helper()
	f.start = time.Now()
	c, err := New(Options{transport: f, Rand: func() float64 { return 0.5 }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	say := func(format string, args ...any) {
		lines = append(lines, fmt.Sprintf("%v ", time.Since(f.start))+fmt.Sprintf(format, args...))
	}
	err = c.WatchIntentions(ctx, "web", func(i Intentions) {
		var all []string
		for _, one := range i.List {
			text := one.Source + " deny"
			if one.Allow {
				text = one.Source + " allow"
			}
			if one.Permissions {
				text += " L7"
			}
			if one.JWT {
				text += " JWT"
			}
			all = append(all, text)
		}
		say("#%d [%s] default %v", i.Index, strings.Join(all, ", "), i.Default)
	}, func(err error) { say("%v", err) })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("returned %v", err)
	}
	return lines
}

func TestWatchIntentions(t *testing.T) {
	const at = "consul: watch intentions for service \"web\" at http://127.0.0.1:8500: "
	web, deny := ixn("web", "allow"), ixn("*", "deny")
	for _, c := range []struct {
		name, verdict string
		steps         []step
		long          time.Duration
		want          []string
	}{
		{"changes at once", deniesByDefault, []step{
			{index: 5, body: matches()}, {at: 3 * time.Second, index: 6, body: matches(web, deny)}, {at: 4 * time.Second, index: 7, body: matches()},
		}, 10 * time.Second, []string{"0s #5 [] default deny", "3s #6 [web allow, * deny] default deny", "4s #7 [] default deny"}},
		{"an answer that says the same is no news", allowsByDefault, []step{
			{index: 5, body: matches(web)}, {at: time.Second, index: 6, body: matches(web)},
		}, 10 * time.Second, []string{"0s #5 [web allow] default allow"}},
		{"what asks for more than the caller is told", allowsByDefault, []step{
			{index: 5, body: matches(ixn("a", "", `,"Permissions":[{"Action":"allow","HTTP":{"PathExact":"/"}}]`), ixn("b", "allow", `,"JWT":{"Providers":[{"Name":"p"}]}`), ixn("c", "allow", `,"JWT":null`))},
		}, time.Second, []string{"0s #5 [a deny L7, b allow JWT, c allow] default allow"}},
		{"an intention for all namespaces hides the default", matchedAll, []step{{index: 5, body: matches(deny)}},
			time.Second, []string{"0s #5 [* deny] default unknown"}},
		{"no right to know the default", "Permission denied", []step{{index: 5, body: matches(deny)}}, 10 * time.Millisecond, []string{
			"0s " + at + `answered 403 (permission refused: the token needs ` + intentionNeeds + `): "Permission denied"`}},
		{"no right to see them", allowsByDefault, []step{{index: 5, code: http.StatusForbidden, body: "Permission denied"}}, 10 * time.Millisecond, []string{
			"0s " + at + `answered 403 (permission refused: the token needs ` + intentionNeeds + `): "Permission denied"`}},
		{"hidden by ACLs", allowsByDefault, []step{{index: 5, body: matches(), acl: true}}, 10 * time.Millisecond, []string{"0s " + at + errFiltered.Error()}},
		{"an answer about something else", allowsByDefault, []step{{index: 5, body: `{"api":[]}`}}, 10 * time.Millisecond, []string{
			"0s " + at + `answered without the service "web"`}},
		{"Consul comes back with the same", allowsByDefault, []step{
			{index: 5, body: matches(web)}, {at: time.Second, code: 500}, {at: 1040 * time.Millisecond, index: 5, body: matches(web)},
		}, 10 * time.Second, []string{"0s #5 [web allow] default allow", "1s " + at + `answered 500: "No cluster leader"`, "1.075s #5 [web allow] default allow"}},
		{"Consul has lost its data", allowsByDefault, []step{
			{index: 500, body: matches(deny)}, {at: time.Second, index: 3, body: matches()}, {at: time.Minute, index: 9, body: matches(deny)},
		}, 90 * time.Second, []string{"0s #500 [* deny] default allow", "1s " + at + errReset.Error(), "1m0s #9 [* deny] default allow"}},
	} {
		onVirtualClock(t, c.name, func(t *testing.T) {
			same(t, dedup(watchIntentions(t, intentionsFake(c.verdict, c.steps...), c.long)), c.want...)
		})
	}
}

// dedup leaves out lines that repeat the text of the one before.
func dedup(lines []string) (out []string) {
	last := ""
	for _, line := range lines {
		_, text, _ := strings.Cut(line, " ")
		if text != last {
			out = append(out, line)
		}
		last = text
	}
	return out
}

func TestWatchedNames(t *testing.T) {
	c, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "*", "a/b"} {
		if err := c.WatchIntentions(t.Context(), name, nil, nil); err == nil || !strings.Contains(err.Error(), "name of a service") {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", "a/b"} {
		if err := c.WatchLeaf(t.Context(), name, nil, nil); err == nil || !strings.Contains(err.Error(), "name of a service") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestKeyIsNotPrinted(t *testing.T) {
	leaf := Leaf{PEM: "chain", Key: "the secret"}
	for _, text := range []string{fmt.Sprint(leaf), fmt.Sprintf("%+v %#v %s %q", leaf, leaf, leaf.Key, leaf.Key), leaf.Key.LogValue().String()} {
		if strings.Contains(text, "the secret") {
			t.Errorf("printed: %s", text)
		}
	}
	if text, err := leaf.Key.MarshalText(); err != nil || strings.Contains(string(text), "secret") {
		t.Errorf("encoded: %s, %v", text, err)
	}
}
