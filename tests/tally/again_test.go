package main

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// Pieces of what go test -json says of a package p.
const (
	passedA = `{"Action":"pass","Package":"p","Test":"TestA"}`
	passedB = `{"Action":"pass","Package":"p","Test":"TestB"}`
	saidA   = `{"Action":"output","Package":"p","Test":"TestA","Output":"--- FAIL: TestA (0.1s)\n"}`
	failedA = `{"Action":"fail","Package":"p","Test":"TestA"}`
	verdict = `{"Action":"output","Package":"p","Output":"FAIL\n"}`
	failed  = `{"Action":"fail","Package":"p","Elapsed":1}`
	passed  = `{"Action":"pass","Package":"p","Elapsed":1}`
	panics  = `{"Action":"output","Package":"p","Output":"panic: boom\n"}`
)

func TestSecondTry(t *testing.T) {
	bad := errors.New("exit status 1")
	for _, c := range []struct {
		name          string
		first, second []string // events
		err           error    // of the second go test
		arguments     string   // of it; empty: there is none
		want          string
		ok            bool
		shown, hidden []string
	}{
		{"passes", []string{passedB, saidA, failedA, verdict, failed}, []string{passedA, passed}, nil,
			"-race -count=1 -run ^TestA$ p", "1 passed at the second try only\n2 passed, 0 failed", true,
			[]string{"| --- FAIL: TestA", "passed at the second try: p TestA"}, []string{"\n--- FAIL"}},
		{"fails again", []string{passedB, saidA, failedA, verdict, failed}, []string{saidA, failedA, verdict, failed}, bad,
			"-race -count=1 -run ^TestA$ p", "1 passed, 1 failed", false, []string{"--- p\n--- FAIL: TestA"}, []string{"passed at"}},
		{"panics then", []string{saidA, failedA, verdict, failed}, []string{panics, failed}, bad,
			"-race -count=1 -run ^TestA$ p", "0 passed, 1 failed", false, []string{"\npanic: boom"}, []string{"passed at"}},
		{"does not run", []string{saidA, failedA, verdict, failed}, []string{passed}, nil,
			"-race -count=1 -run ^TestA$ p", "0 passed, 1 failed", false, []string{"p TestA did not run"}, []string{"passed at"}},
		{"ends without a word", []string{saidA, failedA, verdict, failed}, nil, bad,
			"-race -count=1 -run ^TestA$ p", "0 passed, 1 failed", false, []string{"go test: exit status 1"}, []string{"passed at"}},
		{"a panic outside of tests: the whole package", []string{passedB, panics, failed}, []string{passedA, passedB, passed}, nil,
			"-race -count=1 p", "1 passed at the second try only\n2 passed, 0 failed", true, []string{"| panic: boom", "passed at the second try: p\n"}, nil},
		{"a panic inside of one: the same, once", []string{passedB, saidA, failedA, panics, failed}, []string{passedB, saidA, failedA, verdict, failed}, bad,
			"-race -count=1 p", "1 passed, 1 failed", false, []string{"came to no end"}, []string{"passed at"}},
		{"a build failure: none", []string{`{"Action":"fail","Package":"p","FailedBuild":"p"}`}, nil, nil,
			"", "0 passed, 1 failed", false, nil, []string{"second try"}},
		{"nothing failed: none", []string{passedA, passed}, nil, nil, "", "1 passed, 0 failed", true, nil, []string{"second try"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			tries, arguments := 0, ""
			tally := newTally(&out, func(dir string, args []string, read func(io.Reader)) error {
				if tries++; tries == 1 {
					events := strings.Join(c.first, "\n")
					read(strings.NewReader(events))
					if strings.Contains(events, `"fail"`) {
						return bad
					}
					return nil
				}
				if dir != "there" {
					t.Errorf("in %q", dir)
				}
				arguments = strings.Join(args, " ")
				read(strings.NewReader(strings.Join(c.second, "\n")))
				return c.err
			})
			tally.run("there", []string{"-race", "./..."})
			tally.secondTries()
			if got := tally.summary(); got != c.want || tally.ok() != c.ok || tries > 2 {
				t.Errorf("%q, ok %v, %d tries; want %q, ok %v\n%s", got, tally.ok(), tries, c.want, c.ok, &out)
			}
			if arguments != c.arguments {
				t.Errorf("go test %s, want %s", arguments, c.arguments)
			}
			for _, s := range c.shown {
				if !strings.Contains(out.String(), s) {
					t.Errorf("output lacks %q:\n%s", s, &out)
				}
			}
			for _, s := range c.hidden {
				if strings.Contains("\n"+out.String(), s) {
					t.Errorf("output holds %q:\n%s", s, &out)
				}
			}
		})
	}
}

// TestTooManyFailures: then no test gets a second try, and each is named.
func TestTooManyFailures(t *testing.T) {
	var events []string
	for i := range most + 1 {
		events = append(events, strings.ReplaceAll(failedA, "TestA", "Test"+string(rune('A'+i))))
	}
	var out strings.Builder
	tries := 0
	tally := newTally(&out, func(_ string, _ []string, read func(io.Reader)) error {
		tries++
		read(strings.NewReader(strings.Join(append(events, verdict, failed), "\n")))
		return errors.New("exit status 1")
	})
	tally.run("", []string{"./..."})
	tally.secondTries()
	if tally.summary() != "0 passed, 11 failed" || tries != 1 || !strings.Contains(out.String(), "--- FAIL: p TestK") {
		t.Errorf("%s after %d tries:\n%s", tally.summary(), tries, &out)
	}
}

func TestFlagsOf(t *testing.T) {
	for _, c := range []struct{ arguments, want string }{
		{"./...", ""}, {"-race -tags larboard_debug ./sidecar/... ./policy/...", "-race -tags larboard_debug"}, {"-short .", "-short"}, {"", ""},
	} {
		if got := strings.Join(flagsOf(strings.Fields(c.arguments)), " "); got != c.want {
			t.Errorf("%q: %q, want %q", c.arguments, got, c.want)
		}
	}
}
