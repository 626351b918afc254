// Command tally runs go test and says in its last line what came of it: "N passed,
// N failed". Of what passes it shows a line for each package, of what fails all
// output. It must not know what the tests are about.
//
//	go run ./tests/tally [-also DIR]... [go test arguments]
//
// -also runs all tests of another module after that.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
)

func main() {
	var also []string
	flag.Func("also", "directory of another module to test", func(dir string) error {
		also = append(also, dir)
		return nil
	})
	flag.Parse()
	t := newTally(os.Stdout)
	t.run("", flag.Args())
	for _, dir := range also {
		t.run(dir, []string{"./..."})
	}
	fmt.Println(t.summary())
	if !t.ok() {
		os.Exit(1)
	}
}

// run adds one go test in a directory (empty: here) to the tally. What go itself
// has to say stays on standard error.
func (t *tally) run(dir string, arguments []string) {
	cmd := exec.Command("go", append([]string{"test", "-json"}, arguments...)...)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.broken(err)
		return
	}
	before := t.failed
	t.read(out)
	if err := cmd.Wait(); err != nil && t.failed == before {
		t.broken(err)
	}
}

// broken counts a go test that failed without a test that did.
func (t *tally) broken(err error) {
	fmt.Fprintln(t.out, "go test:", err)
	t.failed++
}
