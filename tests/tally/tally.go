package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// event is one line of go test -json (go doc test2json).
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build output
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

// counts are of top-level tests, and of packages that failed for another reason (a
// build error, a panic, a timeout) as one failure each.
type counts struct{ passed, failed, skipped int }

// tally is what came of all tests so far.
type tally struct {
	out io.Writer
	// test runs go test -json in a directory and passes on its events.
	test func(dir string, arguments []string, read func(io.Reader)) error
	counts
	second   int                      // passed at the second try
	packages map[string]*packageState // under way
	builds   map[string]*strings.Builder
	dir      string // of the go test under way
	flags    []string
	again    []again // what has failed
	last     bool    // what fails now has failed
}

type packageState struct {
	counts
	ended  bool                        // its tests came to their end
	output map[string]*strings.Builder // by top-level test; "" is the package's own
}

func newTally(out io.Writer, test func(string, []string, func(io.Reader)) error) *tally {
	return &tally{out: out, test: test, packages: map[string]*packageState{}, builds: map[string]*strings.Builder{}}
}

// read takes the events of one go test to their end. A package that never ended
// has failed.
func (t *tally) read(in io.Reader) {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			t.line(line)
		}
		if err != nil {
			break
		}
	}
	for _, name := range sorted(t.packages) {
		t.endPackage(event{Action: "fail", Package: name, Output: "never ended"})
	}
}

func (t *tally) line(line string) {
	var e event
	if json.Unmarshal([]byte(line), &e) != nil || e.Action == "" {
		fmt.Fprint(t.out, line)
		return
	}
	switch {
	case e.Action == "build-output":
		builder(t.builds, e.ImportPath).WriteString(e.Output)
	case e.Package == "":
	case e.Action == "output":
		p := t.state(e.Package)
		p.ended = p.ended || e.Test == "" && e.Output == "FAIL\n" // the last word of package testing
		top, _, _ := strings.Cut(e.Test, "/")
		builder(p.output, top).WriteString(e.Output)
	case e.Test != "":
		t.endTest(e)
	case e.Action == "pass" || e.Action == "fail" || e.Action == "skip":
		t.endPackage(e)
	default:
		t.state(e.Package)
	}
}

func (t *tally) state(name string) *packageState {
	p := t.packages[name]
	if p == nil {
		p = &packageState{output: map[string]*strings.Builder{}}
		t.packages[name] = p
	}
	return p
}

func builder(m map[string]*strings.Builder, key string) *strings.Builder {
	if m[key] == nil {
		m[key] = new(strings.Builder)
	}
	return m[key]
}

// endTest counts a top-level test and shows what a failed one has said.
func (t *tally) endTest(e event) {
	if strings.Contains(e.Test, "/") {
		return
	}
	p := t.state(e.Package)
	switch e.Action {
	case "pass":
		t.passed++
		p.passed++
	case "skip":
		t.skipped++
		p.skipped++
		fmt.Fprintf(t.out, "skipped: %s %s\n", e.Package, e.Test)
	case "fail":
		t.failed++
		p.failed++
		t.show("--- "+e.Package+"\n", builder(p.output, e.Test).String())
		t.repeat(again{pkg: e.Package, test: e.Test, first: counts{failed: 1}})
	default:
		return
	}
	delete(p.output, e.Test)
}

// show writes what a failed test has said. At the first try each line is marked: nobody
// who looks for failures takes it for the last word.
func (t *tally) show(title, output string) {
	if t.last {
		fmt.Fprint(t.out, title, output)
		return
	}
	fmt.Fprint(t.out, title)
	for line := range strings.Lines(output) {
		fmt.Fprint(t.out, "| ", line)
	}
}

// repeat notes what gets a second try.
func (t *tally) repeat(a again) {
	if t.last {
		return
	}
	a.dir, a.flags = t.dir, t.flags
	t.again = append(t.again, a)
}

// endPackage shows a line for the package, and all that is left of its output if it
// failed without a failing test.
func (t *tally) endPackage(e event) {
	p := t.state(e.Package)
	delete(t.packages, e.Package)
	if e.Action == "pass" {
		fmt.Fprintf(t.out, "ok    %s %.1fs\n", e.Package, e.Elapsed)
	}
	if e.Action != "fail" {
		return
	}
	switch b := t.builds[e.FailedBuild]; {
	case e.FailedBuild != "":
		t.failed++
		fmt.Fprintf(t.out, "FAIL  %s: does not build\n", e.Package)
		if b != nil {
			fmt.Fprint(t.out, b)
		}
		for _, name := range sorted(p.output) {
			fmt.Fprint(t.out, p.output[name])
		}
	case p.ended && p.failed > 0:
		fmt.Fprintf(t.out, "FAIL  %s %.1fs: %d failed\n", e.Package, e.Elapsed, p.failed)
	default:
		// Tests that have failed before the end came get their try with all the others.
		if p.failed == 0 {
			t.failed++
			p.failed++
		}
		fmt.Fprintf(t.out, "FAIL  %s %.1fs: came to no end %s\n", e.Package, e.Elapsed, e.Output)
		for _, name := range sorted(p.output) {
			t.show("", p.output[name].String())
		}
		t.again = slices.DeleteFunc(t.again, func(a again) bool { return a.pkg == e.Package && !t.last })
		t.repeat(again{pkg: e.Package, first: p.counts})
	}
}

// ok reports whether something ran and nothing failed.
func (t *tally) ok() bool { return t.passed > 0 && t.failed == 0 }

// summary is the last lines.
func (t *tally) summary() string {
	s := fmt.Sprintf("%d passed, %d failed", t.passed, t.failed)
	if t.skipped > 0 {
		s = fmt.Sprintf("%d skipped\n%s", t.skipped, s)
	}
	if t.second > 0 {
		s = fmt.Sprintf("%d passed at the second try only\n%s", t.second, s)
	}
	return s
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
