package policy

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Codes are published in headers, labels and logs: the golden list makes every
// change of one deliberate.
func TestReasonsGolden(t *testing.T) {
	var b strings.Builder
	for _, r := range Reasons() {
		i := r.Info()
		fmt.Fprintf(&b, "%s %d grpc=%d %s\n", i.Code, i.Status, i.GRPC, i.Termination)
	}
	const file = "testdata/reasons.golden"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the table of reasons has changed (run with -update if meant):\n%s", b.String())
	}
}

func TestReasonTableIsComplete(t *testing.T) {
	code := regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	termination := regexp.MustCompile(`^[CSPIcs-][RCHDL-]$`)
	seen := map[string]Reason{}
	for _, r := range Reasons() {
		i := r.Info()
		if !code.MatchString(i.Code) {
			t.Errorf("reason %d: code %q is not snake_case", r, i.Code)
			continue
		}
		if other, ok := seen[i.Code]; ok {
			t.Errorf("code %q belongs to %d and %d", i.Code, other, r)
		}
		seen[i.Code] = r
		if i.Status != 0 && (i.Status < 200 || i.Status > 599) {
			t.Errorf("%s: status %d", r, i.Status)
		}
		if i.GRPC < 0 || i.GRPC > 16 {
			t.Errorf("%s: gRPC status %d", r, i.GRPC)
		}
		if !termination.MatchString(i.Termination) {
			t.Errorf("%s: termination code %q", r, i.Termination)
		}
		if i.Sentence == "" || strings.HasSuffix(i.Sentence, ".") {
			t.Errorf("%s: sentence %q", r, i.Sentence)
		}
		if r != None && i.Remedy == "" {
			t.Errorf("%s: no remedy", r)
		}
	}
}

func TestUnknownReasonIsInternal(t *testing.T) {
	if got := Reason(255).Info(); got != Internal.Info() {
		t.Errorf("Reason(255) is %q", got.Code)
	}
}

func TestReasonOf(t *testing.T) {
	inner := &Error{Reason: UpstreamReset, Side: Upstream, Phase: PhaseWait, Err: io.ErrUnexpectedEOF}
	for _, c := range []struct {
		name string
		err  error
		want Reason
	}{
		{"nil", nil, None},
		{"foreign error", io.EOF, Internal},
		{"direct", inner, UpstreamReset},
		{"wrapped", fmt.Errorf("attempt 2: %w", inner), UpstreamReset},
		{"joined", errors.Join(io.EOF, inner), UpstreamReset},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := ReasonOf(c.err); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
	if !errors.Is(inner, io.ErrUnexpectedEOF) {
		t.Error("the cause is not reachable")
	}
	if got := inner.Error(); got != "upstream_reset: unexpected EOF" {
		t.Errorf("text %q", got)
	}
}

func TestOutcomeFailed(t *testing.T) {
	for _, c := range []struct {
		name string
		o    Outcome
		want bool
	}{
		{"zero", Outcome{}, false},
		{"answer with 500", Outcome{Status: 500}, false},
		{"endpoint's fault", Outcome{Reason: UpstreamReset, Side: Upstream}, true},
		{"client's fault", Outcome{Reason: ClientAborted, Side: Downstream}, false},
		{"our fault", Outcome{Reason: Internal}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.o.Failed(); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestSidesAndPhasesHaveNames(t *testing.T) {
	names := map[string]bool{}
	for s := Internally; s <= Upstream; s++ {
		names[s.String()] = true
	}
	for p := PhaseAccept; p <= PhaseRecord; p++ {
		names[p.String()] = true
	}
	if len(names) != 3+9 {
		t.Errorf("names are not unique: %v", names)
	}
}
