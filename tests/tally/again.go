package main

import (
	"fmt"
	"slices"
	"strings"
)

// most is how many second tries a run gets: where more has failed, something is broken
// and none is given.
const most = 10

// again is what gets a second try: a top-level test, or a whole package whose tests
// came to no end (a panic, a timeout).
type again struct {
	dir   string   // of its module
	flags []string // of its go test
	pkg   string
	test  string // empty: all of them
	first counts // what the first try has added to the tally
}

// what names it.
func (a again) what() string { return strings.TrimSpace(a.pkg + " " + a.test) }

// arguments of its go test.
func (a again) arguments() []string {
	all := append(slices.Clone(a.flags), "-count=1")
	if a.test != "" {
		all = append(all, "-run", "^"+a.test+"$")
	}
	return append(all, a.pkg)
}

// secondTries runs what failed once more, one after the other. What comes of that counts
// in place of the first try.
func (t *tally) secondTries() {
	all := t.again
	t.last = true
	if len(all) > most {
		fmt.Fprintf(t.out, "no second tries: %d failed, %d would get one\n", len(all), most)
		for _, a := range all {
			fmt.Fprintf(t.out, "--- FAIL: %s\n", a.what())
		}
		return
	}
	for _, a := range all {
		t.secondTry(a)
	}
}

func (t *tally) secondTry(a again) {
	fmt.Fprintln(t.out, "second try:", a.what())
	t.passed, t.failed, t.skipped = t.passed-a.first.passed, t.failed-a.first.failed, t.skipped-a.first.skipped
	before := t.counts
	err := t.test(a.dir, a.arguments(), t.read)
	switch {
	case t.failed > before.failed:
	case err != nil:
		t.broken(err)
	case t.counts == before:
		t.broken(fmt.Errorf("%s did not run", a.what()))
	default:
		fmt.Fprintln(t.out, "passed at the second try:", a.what())
		t.second++
	}
}
