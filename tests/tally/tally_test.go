package main

import (
	"strings"
	"testing"
)

func TestTally(t *testing.T) {
	for _, c := range []struct {
		name   string
		events []string
		want   string // last line
		ok     bool
		shown  []string
		hidden []string
	}{
		{"nothing ran", nil, "0 passed, 0 failed", false, nil, nil},
		{"subtests count as their test", []string{
			`{"Action":"start","Package":"p"}`,
			`{"Action":"run","Package":"p","Test":"TestA"}`,
			`{"Action":"output","Package":"p","Test":"TestA/x","Output":"quiet\n"}`,
			`{"Action":"pass","Package":"p","Test":"TestA/x"}`,
			`{"Action":"pass","Package":"p","Test":"TestA"}`,
			`{"Action":"output","Package":"p","Output":"ok p\n"}`,
			`{"Action":"pass","Package":"p","Elapsed":1.25}`,
		}, "1 passed, 0 failed", true, []string{"ok    p 1.2s"}, []string{"quiet"}},
		{"a failed test shows its output", []string{
			`{"Action":"output","Package":"p","Test":"TestA/x","Output":"a.go:1: wrong\n"}`,
			`{"Action":"fail","Package":"p","Test":"TestA/x"}`,
			`{"Action":"fail","Package":"p","Test":"TestA"}`,
			`{"Action":"pass","Package":"p","Test":"TestB"}`,
			`{"Action":"output","Package":"p","Output":"FAIL\n"}`,
			`{"Action":"fail","Package":"p","Elapsed":1}`,
		}, "1 passed, 1 failed", false, []string{"--- p\n| a.go:1: wrong", "FAIL  p 1.0s: 1 failed"}, nil},
		{"a package that does not build", []string{
			`{"ImportPath":"p [p.test]","Action":"build-output","Output":"a.go:1: undefined: x\n"}`,
			`{"ImportPath":"p [p.test]","Action":"build-fail"}`,
			`{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}`,
			`{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}`,
		}, "0 passed, 1 failed", false, []string{"undefined: x", "build failed"}, nil},
		{"a panic outside of tests", []string{
			`{"Action":"pass","Package":"p","Test":"TestA"}`,
			`{"Action":"output","Package":"p","Output":"panic: boom\n"}`,
			`{"Action":"fail","Package":"p"}`,
		}, "1 passed, 1 failed", false, []string{"panic: boom"}, nil},
		{"a package that never ended", []string{
			`{"Action":"start","Package":"p"}`,
			`{"Action":"output","Package":"p","Test":"TestA","Output":"last words\n"}`,
		}, "0 passed, 1 failed", false, []string{"never ended", "last words"}, nil},
		{"skipped tests are named", []string{
			`{"Action":"skip","Package":"p","Test":"TestA"}`,
			`{"Action":"pass","Package":"p","Test":"TestB"}`,
			`{"Action":"pass","Package":"p"}`,
		}, "1 passed, 0 failed", true, []string{"skipped: p TestA"}, nil},
		{"packages without tests are quiet", []string{
			`{"Action":"output","Package":"p","Output":"?   p [no test files]\n"}`,
			`{"Action":"skip","Package":"p"}`,
		}, "0 passed, 0 failed", false, nil, []string{"no test files"}},
		{"other lines are passed on", []string{"go: warning"}, "0 passed, 0 failed", false, []string{"go: warning"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			tally := newTally(&out, nil)
			tally.read(strings.NewReader(strings.Join(c.events, "\n")))
			summary := strings.Split(tally.summary(), "\n")
			if got := summary[len(summary)-1]; got != c.want || tally.ok() != c.ok {
				t.Errorf("%q, ok %v; want %q, ok %v", got, tally.ok(), c.want, c.ok)
			}
			for _, s := range c.shown {
				if !strings.Contains(out.String(), s) {
					t.Errorf("output lacks %q:\n%s", s, out.String())
				}
			}
			for _, s := range c.hidden {
				if strings.Contains(out.String(), s) {
					t.Errorf("output holds %q:\n%s", s, out.String())
				}
			}
		})
	}
}
