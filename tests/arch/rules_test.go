package arch

import (
	"strings"
	"testing"
)

// A rule that finds nothing in a sound tree must be seen to find something in an
// unsound one.
func TestRules(t *testing.T) {
	for _, c := range []struct {
		name  string
		check func(*File) []string
		path  string
		text  string
		want  string // part of the one problem; empty: none
	}{
		{"law: upwards", checkImports, "sidecar/engine/a.go", `package engine; import "` + Module + `/policy"`, "may import only nothing"},
		{"law: sideways", checkImports, "sidecar/http1/a.go", `package http1; import "` + Module + `/sidecar/upstream"`, "sidecar/http1 may import only"},
		{"law: allowed", checkImports, "sidecar/http1/a.go", `package http1; import "` + Module + `/sidecar/message"`, ""},
		{"law: below a pattern", checkImports, "sidecar/upstream/a.go", `package upstream; import "` + Module + `/policy/balance"`, ""},
		{"law: a sibling below a pattern", checkImports, "policy/route/a.go", `package route; import "` + Module + `/policy/balance"`, "may import only policy"},
		{"law: a look-alike name", checkImports, "policy/route/a.go", `package route; import "` + Module + `/policyx"`, "may import only policy"},
		{"law: unknown package", checkImports, "sidecar/new/a.go", `package new`, "not in the import law"},
		{"law: tests of a package are free", checkImports, "sidecar/engine/a_test.go", `package engine; import "` + Module + `/policy"`, ""},
		{"law: consul/api", checkImports, "sidecar/demo/a.go", `package demo; import "github.com/hashicorp/consul/api"`, "only discovery/consul may"},
		{"law: consul/api where it belongs", checkImports, "discovery/consul/a.go", `package consul; import "github.com/hashicorp/consul/api"`, ""},
		{"law: OpenTelemetry", checkImports, "sidecar/proxy/a.go", `package proxy; import "go.opentelemetry.io/otel"`, "only observability/... may"},
		{"length", checkLength, "a.go", "package a" + strings.Repeat("\n", 501), "501 lines"},
		{"insecure literal", checkInsecure, "a.go", `package a; var c = tls.Config{InsecureSkipVerify: true}`, "without VerifyConnection"},
		{"insecure but verified", checkInsecure, "a.go", `package a; var c = tls.Config{InsecureSkipVerify: true, VerifyConnection: f}`, ""},
		{"insecure by variable", checkInsecure, "a.go", `package a; var c = &tls.Config{InsecureSkipVerify: x}`, "without VerifyConnection"},
		{"secure", checkInsecure, "a.go", `package a; var c = tls.Config{InsecureSkipVerify: false}`, ""},
		{"insecure assignment", checkInsecure, "a.go", `package a; func f() { c.InsecureSkipVerify = true }`, "in the same block"},
		{"insecure assignment, verified", checkInsecure, "a.go", `package a; func f() { c.InsecureSkipVerify = true; c.VerifyConnection = v }`, ""},
		{"insecure assignment, verified sometimes", checkInsecure, "a.go", `package a; func f() { c.InsecureSkipVerify = true; if x { c.VerifyConnection = v } }`, "in the same block"},
		{"init", checkState, "a.go", `package a; func init() {}`, "init function"},
		{"a method called init", checkState, "a.go", `package a; func (T) init() {}`, ""},
		{"counter", checkState, "a.go", `package a; var n int`, "package variable n"},
		{"lock", checkState, "a.go", `package a; var mu = sync.Mutex{}`, "package variable mu"},
		{"pointer", checkState, "a.go", `package a; var current = &Config{}`, "package variable current"},
		{"pool", checkState, "a.go", `package a; var pool = newPool()`, "package variable pool"},
		{"error", checkState, "a.go", `package a; var ErrX = errors.New("x")`, ""},
		{"error of a type", checkState, "a.go", `package a; var ErrX error = &timeout{}`, ""},
		{"table", checkState, "a.go", `package a; var names = [...]string{"a"}; var _ I = T{}`, ""},
		{"pattern", checkState, "a.go", `package a; var re = regexp.MustCompile("x")`, ""},
		{"built table", checkState, "a.go", `package a; var classes = buildClasses()`, ""},
		{"embedded", checkState, "a.go", "package a\n//go:embed x\nvar page string", ""},
		{"test state", checkState, "a_test.go", `package a; var update = flag.Bool("update", false, "")`, ""},
		{"package name", checkNames, "util/a.go", `package util`, "says nothing"},
		{"file name", checkNames, "sidecar/helpers.go", `package sidecar`, "says nothing"},
		{"type name", checkNames, "a.go", `package a; type PoolManager struct{}`, "PoolManager"},
		{"field name", checkNames, "a.go", `package a; type T struct{ backendName string }`, "backendName"},
		{"good names", checkNames, "a.go", `package a; type Managed struct{ base int }`, ""},
		{"skip", checkSkips, "a_test.go", "package a; func f() { t.Skip" + "() }", "may not run"},
		{"skip where the machine is known", checkSkips, "tests/real/a.go", "package real; func f() { t.Skipf" + "(why) }", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := Parse(c.path, c.text)
			if err != nil {
				t.Fatal(err)
			}
			got := c.check(f)
			switch {
			case c.want == "" && len(got) != 0:
				t.Errorf("found %q", got)
			case c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)):
				t.Errorf("found %q, want one with %q", got, c.want)
			}
		})
	}
}

func TestWords(t *testing.T) {
	if got := checkWords("a.md", "fine\n// TO"+"DO: later\nTODOS are fine"); len(got) != 1 || !strings.HasPrefix(got[0], "a.md:2: ") {
		t.Errorf("found %q", got)
	}
}

func TestDocs(t *testing.T) {
	long := strings.Repeat("// It says enough to be of use to a reader.\n", 2)
	for _, c := range []struct {
		name, text string
		want       int
	}{
		{"documented", "// Package a exists for a reason.\n" + long + "package a", 0},
		{"none", "package a", 1},
		{"too short", "// Package a is a.\npackage a", 1},
		{"command", "// Command a does it.\n" + long + "package main", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := Parse("a/a.go", c.text)
			if err != nil {
				t.Fatal(err)
			}
			if got := checkDocs([]*File{f}); len(got) != c.want {
				t.Errorf("found %q", got)
			}
		})
	}
}
