package route

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	rules := []Rule{
		{Host: "api.example.com", PathPrefix: "/v1"},   // 0
		{Host: "*.Example.com.", Path: "/exact"},       // 1
		{Host: "API.example.com:8443"},                 // 2
		{Host: "[::1]", PathPrefix: "/six/"},           // 3
		{PathPrefix: "/shared"},                        // 4
		{Host: "*.deep.example.com"},                   // 5
		{Host: "*.example.com"},                        // 6
		{Host: "*", Path: "/star"},                     // 7
		{Host: "both", Path: "/a/b", PathPrefix: "/a"}, // 8
		{Host: "both", Path: "/c", PathPrefix: "/a"},   // 9: never
		{Host: "root", PathPrefix: "/"},                // 10
	}
	table := Compile(rules)
	for _, c := range []struct {
		name, host, path string
		want             int
	}{
		{"prefix itself", "api.example.com", "/v1", 0},
		{"prefix and slash", "api.example.com", "/v1/", 0},
		{"below the prefix", "api.example.com", "/v1/x/y", 0},
		{"a longer segment is no prefix", "api.example.com", "/v10", 2},
		{"query ignored", "api.example.com", "/v1?x=/v2", 0},
		{"case and port and dot", "Api.EXAMPLE.com.:80", "/v1", 0},
		{"paths keep their case", "api.example.com", "/V1", 2},
		{"exact path under a wildcard comes before a later exact host", "api.example.com", "/exact", 1},
		{"exact path is exact", "www.example.com", "/exact/", 6},
		{"wildcard spans labels", "a.b.example.com", "/", 6},
		{"the longer wildcard stands first", "a.deep.example.com", "/", 5},
		{"no label in front", "example.com", "/", -1},
		{"an empty label is none", ".example.com", "/", -1},
		{"not a label boundary", "wwwexample.com", "/", -1},
		{"IPv6 with port", "[::1]:80", "/six", 3},
		{"IPv6 without prefix", "[::1]", "/seven", -1},
		{"rule without host", "other", "/shared/x", 4},
		{"earlier rule without host wins", "www.example.com", "/shared", 4},
		{"star host", "other", "/star", 7},
		{"both conditions", "both", "/a/b", 8},
		{"contradiction never holds", "both", "/c", -1},
		{"root prefix", "root", "/anything", 10},
		{"root prefix and the asterisk form", "root", "*", -1},
		{"empty host", "", "/shared", 4},
		{"host of absurd length", strings.Repeat("a.", 4000) + "example.com", "/", -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := table.Match([]byte(c.host), []byte(c.path))
			if !ok {
				got = -1
			}
			if got != c.want {
				t.Errorf("%s%s: rule %d, want %d", c.host, c.path, got, c.want)
			}
		})
	}
}

func TestMatchEmptyTable(t *testing.T) {
	if i, ok := Compile(nil).Match([]byte("a"), []byte("/")); ok {
		t.Errorf("rule %d of none", i)
	}
}

// The indexed table must agree with what the words "first rule that holds" say.
func TestMatchAgreesWithScan(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	one := func(of []string) string { return of[r.IntN(len(of))] }
	hosts := []string{"", "*", "a.test", "A.test", "b.a.test", "*.a.test", "*.test", "*.b.a.test", "c", "[::1]"}
	paths := []string{"", "", "/", "/v1", "/v1/", "/v1/x", "/v10", "/v1/x/y", "/é"}
	asked := []string{"a.test", "b.a.test", "x.b.a.test:1", "test", "c", "C:80", "[::1]:9", "", "."}
	for round := range 3000 {
		rules := make([]Rule, r.IntN(12))
		for i := range rules {
			rules[i] = Rule{Host: one(hosts), PathPrefix: one(paths)}
			if r.IntN(3) == 0 {
				rules[i].Path = one(paths)
			}
		}
		table := Compile(rules)
		for _, host := range asked {
			path := one(append(paths, "*", "/v1/x?q", "/v1//", "//"))
			want := scan(rules, host, path)
			got, ok := table.Match([]byte(host), []byte(path))
			if !ok {
				got = -1
			}
			if got != want {
				t.Fatalf("round %d: %q %q: rule %d, want %d of %+v", round, host, path, got, want, rules)
			}
		}
	}
}

// Paths of few letters share beginnings of every length, so that nodes of the tree are
// made, split and passed through in every order.
func TestPathsAgreeWithScan(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	text := func(most int) string {
		b := make([]byte, r.IntN(most))
		for i := range b {
			b[i] = "/ab/"[r.IntN(4)]
		}
		if r.IntN(8) == 0 {
			return string(b)
		}
		return "/" + string(b)
	}
	for round := range 3000 {
		rules := make([]Rule, r.IntN(30))
		for i := range rules {
			switch r.IntN(5) {
			case 0:
				rules[i].Path = text(8)
			case 1:
				rules[i] = Rule{Path: text(8), PathPrefix: text(4)}
			default:
				rules[i].PathPrefix = text(8)
			}
			if r.IntN(4) == 0 {
				rules[i].Host = "a.test"
			}
		}
		table := Compile(rules)
		for range 30 {
			path := text(12)
			want := scan(rules, "a.test", path)
			got, ok := table.Match([]byte("a.test"), []byte(path))
			if !ok {
				got = -1
			}
			if got != want {
				t.Fatalf("round %d: %q: rule %d, want %d of %+v", round, path, got, want, rules)
			}
		}
	}
}

// scan is the specification: slow and obvious.
func scan(rules []Rule, host, path string) int {
	for i, r := range rules {
		if holds(r, host, path) {
			return i
		}
	}
	return -1
}

func holds(r Rule, host, path string) bool {
	path, _, _ = strings.Cut(path, "?")
	if r.Path != "" && r.Path != path {
		return false
	}
	if p := r.PathPrefix; p != "" {
		p = strings.TrimRight(p, "/")
		if !strings.HasPrefix(path, "/") || path != p && !strings.HasPrefix(path, p+"/") {
			return false
		}
	}
	host, pattern := bare(host), bare(r.Host)
	if pattern == "" || pattern == "*" {
		return true
	}
	if suffix := pattern[1:]; strings.HasPrefix(pattern, "*.") {
		return strings.HasSuffix(host, suffix) && len(host) > len(suffix)
	}
	return host == pattern
}

func bare(host string) string {
	host = strings.ToLower(host)
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host = host[:i]
	}
	if len(host) > 1 {
		host = strings.TrimSuffix(host, ".")
	}
	return host
}

func FuzzMatch(f *testing.F) {
	f.Add("*.a.test", "/v1", "b.a.test:80", "/v1/x?y")
	f.Add("[::1]", "/", "[::1", "*")
	f.Fuzz(func(t *testing.T, ruleHost, prefix, host, path string) {
		if strings.ContainsAny(ruleHost+host, "[]") || strings.ContainsRune(ruleHost, ':') || strings.HasSuffix(ruleHost, ".") || strings.Count(host, ":") > 1 || !ascii(ruleHost) || !ascii(host) || len(host) > maxHost {
			return
		}
		rules := []Rule{{Host: ruleHost, PathPrefix: prefix}}
		want := holds(rules[0], host, path)
		if _, got := Compile(rules).Match([]byte(host), []byte(path)); got != want {
			t.Errorf("%+v on %q %q: %v, want %v", rules[0], host, path, got, want)
		}
	})
}

// FuzzPaths reads a rule from each line of rules: a prefix, or a path behind "=".
func FuzzPaths(f *testing.F) {
	f.Add("/v1\n/v10\n=/v1/x\n/v1/x/y\n/\n/v1/", "/v1/x/y?z")
	f.Add("/aa\n/ab/\n=/ab\n=*", "*")
	f.Add("//\n/a//b\n/a/", "/a//b")
	f.Fuzz(func(t *testing.T, lines, path string) {
		var rules []Rule
		for line := range strings.SplitSeq(lines, "\n") {
			if exact, ok := strings.CutPrefix(line, "="); ok {
				rules = append(rules, Rule{Path: exact})
			} else {
				rules = append(rules, Rule{PathPrefix: line})
			}
		}
		got, ok := Compile(rules).Match(nil, []byte(path))
		if !ok {
			got = -1
		}
		if want := scan(rules, "", path); got != want {
			t.Errorf("%q: rule %d, want %d of %+v", path, got, want, rules)
		}
	})
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// manyRules is a table as of a large edge: 250 hosts with two rules each.
func manyRules() []Rule {
	var rules []Rule
	for i := range 250 {
		host := fmt.Sprintf("service-%d.example.com", i)
		rules = append(rules, Rule{Host: host, PathPrefix: "/v1/items"}, Rule{Host: host})
	}
	return append(rules, Rule{Host: "*.example.com"}, Rule{})
}

func TestMatchAllocatesNothing(t *testing.T) {
	table := Compile(manyRules())
	host, path := []byte("Service-249.example.com:8080"), []byte("/v1/items/42?full=1")
	if n := testing.AllocsPerRun(100, func() { table.Match(host, path) }); n != 0 {
		t.Errorf("%v allocations a match", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	host, path := []byte("service-249.example.com"), []byte("/v1/items/42")
	for _, c := range []struct {
		name  string
		rules []Rule
	}{{"default only", []Rule{{}}}, {"500 rules", manyRules()}} {
		b.Run(c.name, func(b *testing.B) {
			table := Compile(c.rules)
			b.ReportAllocs()
			for b.Loop() {
				table.Match(host, path)
			}
		})
	}
}
