// Command tally runs go test and says in its last line what came of it: "N passed,
// N failed". Of what passes it shows a line for each package, of what fails all
// output. It must not know what the tests are about.
//
//	go run ./tests/tally [-also DIR]... [go test arguments]
//
// -also runs all tests of another module after that. What failed gets a second try in
// the end, by itself and with nothing beside it: a machine that is busy with something
// else fails a test now and then, a defect fails it twice. See again.go.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

func main() {
	var also []string
	flag.Func("also", "directory of another module to test", func(dir string) error {
		also = append(also, dir)
		return nil
	})
	flag.Parse()
	t := newTally(os.Stdout, goTest)
	t.run("", flag.Args())
	for _, dir := range also {
		t.run(dir, []string{"./..."})
	}
	t.secondTries()
	fmt.Println(t.summary())
	if !t.ok() {
		os.Exit(1)
	}
}

// goTest runs go test -json in a directory (empty: here) and passes on its events. What
// go itself has to say stays on standard error.
func goTest(dir string, arguments []string, read func(io.Reader)) error {
	cmd := exec.Command("go", append([]string{"test", "-json"}, arguments...)...)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return err
	}
	read(out)
	return cmd.Wait()
}

// run adds one go test in a directory to the tally.
func (t *tally) run(dir string, arguments []string) {
	t.dir, t.flags = dir, flagsOf(arguments)
	before := t.failed
	if err := t.test(dir, arguments, t.read); err != nil && t.failed == before {
		t.broken(err)
	}
}

// flagsOf are the arguments without the packages, which come last.
func flagsOf(arguments []string) []string {
	n := len(arguments)
	for n > 0 && strings.HasPrefix(arguments[n-1], ".") {
		n--
	}
	return arguments[:n]
}

// broken counts a go test that failed without a test that did.
func (t *tally) broken(err error) {
	fmt.Fprintln(t.out, "go test:", err)
	t.failed++
}
