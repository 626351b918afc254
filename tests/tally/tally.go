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

// tally counts top-level tests, and packages that failed for another reason
// (a build error, a panic, a timeout) as one failure each.
type tally struct {
	out                     io.Writer
	passed, failed, skipped int
	packages                map[string]*packageState // under way
	builds                  map[string]*strings.Builder
}

type packageState struct {
	failed int
	output map[string]*strings.Builder // by top-level test; "" is the package's own
}

func newTally(out io.Writer) *tally {
	return &tally{out: out, packages: map[string]*packageState{}, builds: map[string]*strings.Builder{}}
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
		top, _, _ := strings.Cut(e.Test, "/")
		builder(t.state(e.Package).output, top).WriteString(e.Output)
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
	case "skip":
		t.skipped++
		fmt.Fprintf(t.out, "skipped: %s %s\n", e.Package, e.Test)
	case "fail":
		t.failed++
		p.failed++
		fmt.Fprintf(t.out, "--- %s\n%s", e.Package, builder(p.output, e.Test))
	default:
		return
	}
	delete(p.output, e.Test)
}

// endPackage shows a line for the package, and all that is left of its output if it
// failed without a failing test.
func (t *tally) endPackage(e event) {
	p := t.state(e.Package)
	delete(t.packages, e.Package)
	switch {
	case e.Action == "pass":
		fmt.Fprintf(t.out, "ok    %s %.1fs\n", e.Package, e.Elapsed)
	case e.Action == "fail" && p.failed > 0:
		fmt.Fprintf(t.out, "FAIL  %s %.1fs: %d failed\n", e.Package, e.Elapsed, p.failed)
	case e.Action == "fail":
		t.failed++
		fmt.Fprintf(t.out, "FAIL  %s %s\n", e.Package, e.Output)
		if b := t.builds[e.FailedBuild]; b != nil {
			fmt.Fprint(t.out, b)
		}
		for _, name := range sorted(p.output) {
			fmt.Fprint(t.out, p.output[name])
		}
	}
}

// ok reports whether something ran and nothing failed.
func (t *tally) ok() bool { return t.passed > 0 && t.failed == 0 }

// summary is the last line.
func (t *tally) summary() string {
	s := fmt.Sprintf("%d passed, %d failed", t.passed, t.failed)
	if t.skipped > 0 {
		return fmt.Sprintf("%d skipped\n%s", t.skipped, s)
	}
	return s
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
