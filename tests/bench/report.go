//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

// The verdicts of a line.
const (
	met        = "met"
	missed     = "MISSED"
	unmeasured = "not measured"
	beside     = "disturbed" // a tail latency that is mostly other processes'
	unjudged   = "-"
)

// line is one scenario's outcome.
type line struct {
	Name  string `json:"name"`
	About string `json:"about"`
	Unit  string `json:"unit"`
	// Against and With name the two sides.
	Against string `json:"against"`
	With    string `json:"with"`
	Rounds  []pair `json:"rounds"`

	site               site
	reference, subject contender
	summary
	// Load tells what each side carried, by its name; the last round's.
	ReferenceLoad carried `json:"reference_load"`
	SubjectLoad   carried `json:"subject_load"`
	Rate          float64 `json:"rate,omitempty"` // of an open loop, requests/s
	// Disturbed counts windows that had to be taken beside other processes.
	Disturbed int     `json:"disturbed,omitempty"`
	Target    float64 `json:"target"`          // of the ratio; 0: none
	Limit     float64 `json:"limit,omitempty"` // of the subject's value; 0: none
	Verdict   string  `json:"verdict"`
	Error     string  `json:"error,omitempty"`
}

// carried is what one window moved.
type carried struct {
	Requests float64 `json:"requests_per_second"`
	Busy     float64 `json:"busy"` // share of its CPU the proxy used
	P99      float64 `json:"p99_us"`
	Failed   int     `json:"failed"`  // over all rounds
	Foreign  float64 `json:"foreign"` // largest of all rounds: share of one CPU that went to others
}

func (l *line) note(subject bool, r loadResult) {
	c := &l.ReferenceLoad
	if subject {
		c = &l.SubjectLoad
	}
	c.Requests = float64(r.Requests) / r.Elapsed.Seconds()
	c.Busy = float64(r.CPU) / float64(r.Elapsed)
	c.P99 = float64(r.P99) / 1e3
	c.Failed += r.Failed
	c.Foreign = max(c.Foreign, r.Foreign)
}

func (l *line) judge(judged bool) {
	switch {
	case l.Error != "":
		l.Verdict = unmeasured
	case !judged, l.Target == 0 && l.Limit == 0:
		l.Verdict = unjudged
	case l.Rate > 0 && l.Disturbed > len(l.Rounds): // of two windows a round
		l.Verdict = beside
	case l.Limit > 0 && !(l.Subject <= l.Limit), l.Target > 0 && !(l.Ratio <= l.Target):
		l.Verdict = missed
	default:
		l.Verdict = met
	}
}

// report is the result of a run.
type report struct {
	Machine   machine `json:"machine"`
	Rounds    int     `json:"rounds"`
	Seconds   float64 `json:"seconds"`
	Short     bool    `json:"short"`
	Scenarios []line  `json:"scenarios"`
}

type machine struct {
	Kernel  string `json:"kernel"`
	CPUs    int    `json:"cpus"`
	Go      string `json:"go"`
	HAProxy string `json:"haproxy,omitempty"`
}

func (b *bench) newReport() *report {
	m := machine{CPUs: runtime.NumCPU(), Go: runtime.Version()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if b.o.baseline == "" {
		if out, err := exec.Command(b.o.haproxy, "-v").Output(); err == nil {
			m.HAProxy, _, _ = strings.Cut(string(out), "\n")
		}
	}
	return &report{Machine: m,
		Rounds: b.o.rounds, Seconds: b.o.round.Seconds(), Short: b.o.short}
}

func (r *report) write(o options, out io.Writer) error {
	encoded, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("result: %w", err)
	}
	encoded = append(encoded, '\n')
	if o.jsonFile != "" {
		if err := os.WriteFile(o.jsonFile, encoded, 0o644); err != nil {
			return fmt.Errorf("result: %w", err)
		}
	}
	if o.output == "json" {
		_, err = out.Write(encoded)
		return err
	}
	return r.table(out)
}

// table prints the ratio's spread as min..max of the rounds.
func (r *report) table(out io.Writer) error {
	fmt.Fprintf(out, "%d rounds of %g s, medians; %s, %d CPUs, %s\n", r.Rounds, r.Seconds, r.Machine.Kernel, r.Machine.CPUs, r.Machine.HAProxy)
	if r.Short {
		fmt.Fprintln(out, "a short run: it shows that everything works, not how fast it is")
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "scenario\treference\tits value\tvalue\tunit\tratio\tspread\ttarget\tverdict\t")
	for _, l := range r.Scenarios {
		if l.Error != "" {
			fmt.Fprintf(w, "%s\t%s\t\t\t%s\t\t\t%s\t%s\t\n", l.Name, l.Against, l.Unit, l.goal(), l.Verdict)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%.2f\t%.2f..%.2f\t%s\t%s\t\n", l.Name, l.Against, figure(l.Reference), figure(l.Subject),
			l.Unit, l.Ratio, l.RatioMin, l.RatioMax, l.goal(), l.Verdict)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("result: %w", err)
	}
	r.notes(out)
	return nil
}

// goal is a target or a limit for people.
func (l *line) goal() string {
	if l.Limit > 0 {
		return figure(l.Limit) + " " + l.Unit
	}
	if l.Target == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", l.Target)
}

// notes says below the table what a reader of it must know.
func (r *report) notes(out io.Writer) {
	for _, l := range r.Scenarios {
		if l.Error != "" {
			fmt.Fprintf(out, "%s: not measured: %s\n", l.Name, l.Error)
			continue
		}
		if l.Against == "baseline" && l.High > 0 {
			fmt.Fprintf(out, "%s: with 95 %% confidence between %.3f and %.3f of the baseline\n", l.Name, l.Low, l.High)
		}
		if l.Disturbed > 0 {
			fmt.Fprintf(out, "%s: %d of %d windows were disturbed by other processes; measure on a quiet machine\n",
				l.Name, l.Disturbed, 2*len(l.Rounds))
		}
		if failed := l.ReferenceLoad.Failed + l.SubjectLoad.Failed; failed > 0 {
			fmt.Fprintf(out, "%s: failed requests: %s %d, %s %d\n", l.Name, l.Against, l.ReferenceLoad.Failed, l.With, l.SubjectLoad.Failed)
		}
	}
}

// figure keeps three digits, without an exponent.
func figure(v float64) string {
	switch {
	case v >= 100 || v <= -100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// exitCode is 1 when something was not measured, and under gate also when a
// target was not met.
func (r *report) exitCode(gate bool) int {
	for _, l := range r.Scenarios {
		if l.Verdict == unmeasured || gate && (l.Verdict == missed || l.Verdict == beside) {
			return 1
		}
	}
	return 0
}
