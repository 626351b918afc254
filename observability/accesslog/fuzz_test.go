package accesslog

import (
	"encoding/json"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/observability/accesslog/template"
)

// The lines of each preset that captures fields, as their readers take them apart.
var (
	httplogLine = regexp.MustCompile(`^192\.0\.2\.1:5000 \[04/Mar/2026:04:06:07\.089\] web~ api/10\.0\.0\.1:80 0/3/3/18/1234 502 600 - - SH-- 9/5/3/1/\+1 0/0 ` +
		`\{([^{|}"]*)\|\|([^{|}"]*)\} \{([^{|}"]*)\} "([^"]*)"\n$`)
	combinedLine = regexp.MustCompile(`^192\.0\.2\.1 - spiffe://example\.org/web \[04/Mar/2026:04:06:07 \+0000\] ` +
		`"((?:[^"\\]|\\.)*)" 502 600 "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)"\n$`)
	textLine = regexp.MustCompile(`^2026-03-04T04:06:07\.089Z web          502   1234\.567ms (.*) -> api 10\.0\.0\.1:80 protocol=http2 .* error="((?:[^"\\]|\\.)*)" in=5 .* trace=4b`)
)

func unescapeHAProxy(text string) string {
	return regexp.MustCompile(`#[0-9A-F]{2}`).ReplaceAllStringFunc(text, func(e string) string {
		n, _ := strconv.ParseUint(e[1:], 16, 8)
		return string([]byte{byte(n)})
	})
}

func unescapeCLF(text string) string {
	return regexp.MustCompile(`\\(x[0-9a-f]{2}|.)`).ReplaceAllStringFunc(text, func(e string) string {
		switch e[1] {
		case 'x':
			n, _ := strconv.ParseUint(e[2:], 16, 8)
			return string([]byte{byte(n)})
		case 'n':
			return "\n"
		case 'r':
			return "\r"
		case 't':
			return "\t"
		}
		return e[1:]
	})
}

// unredacted reports whether a value is shown as it is.
func unredacted(value string) bool {
	return len(value) <= valueLimit && string(appendField(nil, []byte(value), valueLimit, template.EscapeCLF)) == string(appendEscaped(nil, value, template.EscapeCLF)) &&
		!strings.Contains(value, redacted)
}

// Whatever clients send, each preset makes one line of it, which its readers take apart into what
// it was.
func FuzzLine(f *testing.F) {
	f.Add([]byte("/a?token=abc"), "read: \n", []byte("curl/8"), []byte("a.example:80"))
	f.Add([]byte("/;sid=1/?%74oken=2&%"), "\u202e\xff", []byte("\"} {x|y\\"), []byte("\r\nHost: b@c"))
	f.Add([]byte("/\" 200 0 \"-\" \"#"), "a\"b", []byte("\x1b[2J\\"), []byte("\x00\xfe"))
	formats := map[string]*Format{}
	for _, p := range template.Presets() {
		formats[p.Name] = capturingAll(f, p.Name)
	}
	f.Fuzz(func(t *testing.T, path []byte, cause string, agent, authority []byte) {
		r := full()
		r.Path, r.Authority, r.Err, r.UserAgent = path, authority, errors.New(cause), agent
		r.Fields = heads{"user-agent": agent, "x-tenant": authority, "content-type": path, "referer": path}
		for name, format := range formats {
			checkParsed(t, name, lineOf(format, r), path, agent, authority, cause)
		}
		r.Path = append(append([]byte(nil), path...), "?x=1&password=hunter2hunter2"...)
		for name, format := range formats {
			if got := lineOf(format, r); len(path) < 1000 && strings.Contains(got, "hunter2hunter2") {
				t.Fatalf("%s: a secret is shown: %s", name, got)
			}
		}
	})
}

// capturingAll is capturing with fields of full length.
func capturingAll(t testing.TB, name string) *Format {
	t.Helper()
	f, err := Preset(name, Captures{
		Request:  []Capture{{"x-tenant", valueLimit}, {"x-none", 1}, {"user-agent", valueLimit}},
		Response: []Capture{{"content-type", valueLimit}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func checkParsed(t *testing.T, name, line string, path, agent, authority []byte, cause string) {
	t.Helper()
	checkOneLine(t, line)
	same := func(what, got string, want []byte) {
		t.Helper()
		if unredacted(string(want)) && got != string(want) {
			t.Fatalf("%s: %s was %q and is read as %q: %s", name, what, want, got, line)
		}
	}
	request := func(target []byte) []byte { return []byte("GET " + string(target) + " HTTP/2.0") }
	switch name {
	case "json":
		var v struct {
			Path, Error   string
			UserAgent     string            `json:"user_agent"`
			RequestFields map[string]string `json:"request_fields"`
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		valid := func(b []byte) []byte { return []byte(strings.ToValidUTF8(string(b), "\ufffd")) }
		if string(valid(agent)) == string(agent) {
			same("the agent", v.UserAgent, agent)
			same("the captured agent", v.RequestFields["user-agent"], agent)
		}
		if string(valid(path)) == string(path) {
			same("the path", v.Path, path)
		}
	case "httplog":
		m := httplogLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("not in HAProxy's form: %s", line)
		}
		same("the captured authority", unescapeHAProxy(m[1]), authority)
		same("the captured agent", unescapeHAProxy(m[2]), agent)
		if len(path) > 0 && unredacted(string(path)) {
			same("the request", unescapeHAProxy(m[4]), request(path))
		}
	case "combined":
		m := combinedLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("not in Apache's form: %s", line)
		}
		if len(path) > 0 && unredacted(string(path)) {
			same("the request", unescapeCLF(m[1]), request(path))
			same("the referrer", unescapeCLF(m[2]), path)
		}
		if len(agent) > 0 && len(agent) <= valueLimit && unescapeCLF(m[3]) != string(agent) {
			t.Fatalf("the agent was %q: %s", agent, line)
		}
	case "text":
		m := textLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("not a line of text: %s", line)
		}
		var back string
		if err := json.Unmarshal([]byte(`"`+m[2]+`"`), &back); err != nil || len(cause) < errorLimit && strings.ToValidUTF8(cause, "") == cause && back != cause && cause != "" {
			t.Fatalf("the cause was %q: %s", cause, line)
		}
	}
}
