//go:build linux

// Command bench compares Larboard with HAProxy on the same work: CPU for each
// request, memory of idle connections and latency at half of saturation, as
// ratios with their spread (go run ./tests/bench; README.md has the method and
// its limits).
//
// It exists because the project's promise is a ratio, and a ratio is only
// worth something inside one run on one machine. It knows the proxies from
// outside only: a binary, a configuration file, a process id. The processes
// that make and answer the load are this same binary (bench load, bench
// origin).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(command(ctx, os.Args[1:]))
}

// command dispatches to the child roles or to the comparison and returns the
// exit code: 0 done, 1 something unmeasured (or a target missed under -gate),
// 2 bad usage.
func command(ctx context.Context, args []string) int {
	if len(args) == 2 && args[0] == roleLoad {
		return exitCode(runLoad(args[1], os.Stdin, os.Stdout))
	}
	if len(args) == 1 && args[0] == roleOrigin {
		return exitCode(runOrigin(ctx, os.Stdout))
	}
	if len(args) == 2 && args[0] == roleSinks {
		return exitCode(runSinks(ctx, args[1], os.Stdout))
	}
	if len(args) == 2 && args[0] == roleNetHTTP {
		return exitCode(runNetHTTP(ctx, args[1]))
	}
	o, err := parseFlags(args, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	rep, err := compare(ctx, o)
	if err != nil {
		return exitCode(err)
	}
	if err := rep.write(o, os.Stdout); err != nil {
		return exitCode(err)
	}
	return rep.exitCode(o.gate)
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	return 1
}

// options are the flags of a comparison.
type options struct {
	run      *regexp.Regexp
	rounds   int
	round    time.Duration
	settle   time.Duration
	short    bool
	noise    bool
	gate     bool
	install  bool
	larboard string
	baseline string
	haproxy  string
	bare     bool
	user     bool
	jsonFile string
	output   string
}

func parseFlags(args []string, out io.Writer) (options, error) {
	var o options
	var pattern string
	var seconds float64
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(out)
	f.StringVar(&pattern, "run", "", "measure only the scenarios whose name matches `REGEXP`")
	f.IntVar(&o.rounds, "rounds", 7, "rounds of each scenario (memory: at most 3)")
	f.Float64Var(&seconds, "seconds", 2, "length of one measured window")
	f.DurationVar(&o.settle, "settle", 10*time.Second, "time between opening idle connections and reading memory")
	f.BoolVar(&o.short, "short", false, "2 rounds of half a second and a tenth of the idle connections: shows that it works, not how fast")
	f.BoolVar(&o.noise, "noise", false, "compare HAProxy with itself: the noise floor of this machine")
	f.BoolVar(&o.bare, "bare", false, "let HAProxy add no fields to requests, while Larboard adds its own")
	f.BoolVar(&o.user, "user", false, "compare time outside the kernel instead of all CPU time; take 20 rounds")
	f.BoolVar(&o.gate, "gate", false, "exit 1 when a target is missed")
	f.BoolVar(&o.install, "install", false, "install HAProxy with apt-get when it is missing (as root)")
	f.StringVar(&o.larboard, "larboard", "", "`PATH` of the binary to measure; built from this tree when empty")
	f.StringVar(&o.baseline, "baseline", "", "compare with another Larboard instead of HAProxy, before and after a change: the binary at `PATH`, or a commit, which is built")
	f.StringVar(&o.haproxy, "haproxy", "haproxy", "`PATH` or name of HAProxy")
	f.StringVar(&o.jsonFile, "json", "", "also write the result as JSON to `FILE`")
	f.StringVar(&o.output, "output", "table", "what goes to standard output: table or json")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.round = time.Duration(seconds * float64(time.Second))
	if o.short {
		o.rounds, o.round, o.settle = 2, 500*time.Millisecond, time.Second
	}
	var err error
	if o.run, err = regexp.Compile(pattern); err == nil {
		err = o.check(f.Args())
	}
	if err != nil {
		fmt.Fprintln(out, "bench:", err)
	}
	return o, err
}

func (o options) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case o.rounds < 1 || o.round < 100*time.Millisecond || o.settle < 0:
		return errors.New("-rounds must be at least 1, -seconds at least 0.1, -settle not negative")
	case o.output != "table" && o.output != "json":
		return fmt.Errorf("-output %q: want table or json", o.output)
	case o.noise && o.baseline != "":
		return errors.New("-noise and -baseline exclude each other")
	}
	return nil
}
