package consul

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

const hundred = 100 * time.Millisecond

func TestWatchTimeline(t *testing.T) {
	const sec = time.Second
	const where = `error consul: watch service "web" at http://127.0.0.1:8500: `
	for name, c := range map[string]struct {
		steps   []step
		long    time.Duration
		want    []string
		indexes string
	}{
		"changes are seen at once, a wake-up without one is none": {
			[]step{{index: 5, names: []string{"b", "a"}}, {at: 10 * sec, index: 6, names: []string{"a", "b"}}, {at: 20 * sec, index: 7, names: []string{"a"}}}, 40 * sec,
			[]string{"0s #5 [a b]", "20s #7 [a]"}, "- 5 6 7",
		},
		"a wait that ends without a change is repeated": {
			[]step{{index: 5, names: []string{"a"}}}, 3 * time.Minute,
			[]string{"0s #5 [a]"}, "- 5 5 5 5",
		},
		"an index that went backwards is forgotten": {
			[]step{{index: 500, names: []string{"a"}}, {at: 10 * sec, index: 3, names: []string{"a", "b"}}}, 20 * sec,
			[]string{"0s #500 [a]", "10s #3 [a b]"}, "- 500 - 3",
		},
		"an index of 0 is sent as 1": {
			[]step{{index: 0, names: []string{"a"}}, {at: 1 * sec, index: 2, names: []string{"b"}}}, 20 * sec,
			[]string{"0s #0 [a]", "1s #2 [b]"}, "- 1 1 1 1 1 1 1 1 1 2",
		},
		"an error keeps silence about endpoints, and its end is told": {
			[]step{{index: 5, names: []string{"a"}}, {at: 10 * sec, code: 500}, {at: 10*sec + 120*time.Millisecond, index: 5, names: []string{"a"}}}, 20 * sec,
			[]string{
				"0s #5 [a]",
				"10s " + where + `answered 500: "No cluster leader"`,
				"10.075s " + where + `answered 500: "No cluster leader"`,
				"10.225s #5 [a]",
			}, "- 5 - - 5",
		},
		"an agent that hangs is given up after the wait": {
			[]step{{index: 5, names: []string{"a"}}, {at: 10 * sec, hang: true}, {at: 75 * sec, index: 6, names: []string{"b"}}}, 100 * sec,
			[]string{
				"0s #5 [a]",
				"1m10.5625s " + where + "no answer within 1m11s",
				"1m11.6375s " + where + "no answer within 1s",
				"1m12.6375s " + where + "no answer within 1s",
				"1m22.6375s " + where + "no answer within 10s",
				"1m22.6375s #6 [b]",
			}, "- 5 - - - - 6",
		},
		"an answer that is no JSON": {
			[]step{{index: 5, names: []string{"a"}}, {at: 10 * sec, index: 6, body: "<html>"}, {at: 10*sec + hundred/2, index: 7, names: []string{"a"}}}, 12 * sec,
			[]string{"0s #5 [a]", "10s " + where + "invalid character '<' looking for beginning of value", "10.075s #7 [a]"}, "- 5 - 7",
		},
		"refused and missing": {
			[]step{{code: 403, body: "Permission denied"}, {at: 40 * time.Millisecond, code: 404, body: "no\nsuch"}, {at: hundred, index: 1}}, sec,
			[]string{
				"0s " + where + `answered 403 (permission refused: the token needs service:read and node:read): "Permission denied"`,
				"50ms " + where + `answered 404 (is this a Consul agent?): "no\nsuch"`,
				"150ms #1 []",
			}, "- - - 1",
		},
		"what an ACL hides is no empty set": {
			[]step{{index: 5, names: []string{"a"}}, {at: 5 * sec, index: 6, acl: true}, {at: 10 * sec, index: 7, names: []string{"a"}}}, 20 * sec,
			[]string{"0s #5 [a]", "5s " + where + "every instance is hidden by ACLs: the token needs service:read and node:read", "10s #7 [a]"}, "- 5 6 7",
		},
	} {
		onVirtualClock(t, name, func(t *testing.T) {
			f := &fake{}
			f.timeline(c.steps...)
			same(t, watchFake(t, f, Health{}, Options{}, c.long), c.want...)
			if got := f.indexes(); got != c.indexes {
				t.Errorf("indexes sent: %s, want %s", got, c.indexes)
			}
		})
	}
}

func TestWatchEmptyAnswers(t *testing.T) {
	const sec = time.Second
	const where = `error consul: watch service "web" at http://127.0.0.1:8500: has no endpoint`
	some, none := []string{"a"}, []string(nil)
	for name, c := range map[string]struct {
		mode  OnEmpty
		steps []step
		long  time.Duration
		want  []string
	}{
		"the first answer may be empty": {
			Confirm, []step{{index: 5}, {at: sec, index: 6, names: some}}, 10 * sec,
			[]string{"0s #5 []", "1s #6 [a]"},
		},
		"confirmed": {
			Confirm, []step{{index: 5, names: some}, {at: 10 * sec, index: 6}}, 20 * sec,
			[]string{"0s #5 [a]", "12s #6 []"},
		},
		"gone before it is confirmed": {
			Confirm, []step{{index: 5, names: some}, {at: 10 * sec, index: 6}, {at: 11 * sec, index: 7, names: some}}, 20 * sec,
			[]string{"0s #5 [a]"},
		},
		"other endpoints before it is confirmed": {
			Confirm, []step{{index: 5, names: some}, {at: 10 * sec, index: 6}, {at: 11 * sec, index: 7, names: []string{"b"}}}, 20 * sec,
			[]string{"0s #5 [a]", "11s #7 [b]"},
		},
		"an error in between starts anew": {
			Confirm, []step{{index: 5, names: some}, {at: 10 * sec, index: 6}, {at: 11 * sec, code: 500}, {at: 11*sec + 20*time.Millisecond, index: 6}}, 20 * sec,
			[]string{"0s #5 [a]", "11s error consul: watch service \"web\" at http://127.0.0.1:8500: answered 500: \"No cluster leader\"", "13.075s #6 []"},
		},
		"a registry that was away and comes back empty is given time": {
			Confirm, []step{{index: 5, names: some}, {at: 10 * sec, code: 500}, {at: 10*sec + 20*time.Millisecond, index: 7}, {at: 60 * sec, index: 9, names: some}}, 300 * sec,
			[]string{"0s #5 [a]", "10s error consul: watch service \"web\" at http://127.0.0.1:8500: answered 500: \"No cluster leader\"",
				"10.075s " + where + " since Consul was out of reach, the last ones are kept for now", "1m0s #9 [a]"},
		},
		"a reset registry is given time": {
			Confirm, []step{{index: 900, names: some}, {at: 10 * sec, index: 4, names: none}, {at: 60 * sec, index: 9, names: some}}, 300 * sec,
			[]string{"0s #900 [a]", "10s " + where + " since the registry was reset, the last ones are kept for now",
				"1m0s #9 [a]"},
		},
		"a reset registry that stays empty": {
			Confirm, []step{{index: 900, names: some}, {at: 10 * sec, index: 4}}, 131 * sec,
			[]string{"0s #900 [a]", "REPORTS", "2m10s #4 []"},
		},
		"keep": {
			Keep, []step{{index: 5, names: some}, {at: 10 * sec, index: 6}, {at: 20 * sec, index: 7, names: some}}, 30 * sec,
			[]string{"0s #5 [a]", "10s " + where + ", the last ones are kept as configured", "20s #7 [a]"},
		},
		"accept": {
			Accept, []step{{index: 5, names: some}, {at: 10 * sec, index: 6}}, 30 * sec,
			[]string{"0s #5 [a]", "10s #6 []"},
		},
	} {
		onVirtualClock(t, name, func(t *testing.T) {
			f := &fake{}
			f.timeline(c.steps...)
			got := foldReports(watchFake(t, f, Health{OnEmpty: c.mode}, Options{}, c.long), c.want)
			same(t, got, c.want...)
		})
	}
}

// foldReports replaces what is reported repeatedly by one word, if that is wanted.
func foldReports(got, want []string) []string {
	if !strings.Contains(strings.Join(want, "\n"), "REPORTS") {
		return dropRepeats(got)
	}
	var out []string
	for _, line := range got {
		switch {
		case !strings.Contains(line, "error"):
			out = append(out, line)
		case out[len(out)-1] != "REPORTS":
			out = append(out, "REPORTS")
		}
	}
	return out
}

// dropRepeats keeps the first of errors with the same text.
func dropRepeats(lines []string) []string {
	var out []string
	last := ""
	for _, line := range lines {
		_, text, _ := strings.Cut(line, " ")
		if strings.HasPrefix(text, "error") && text == last {
			continue
		}
		out, last = append(out, line), text
	}
	return out
}

func TestWatchConfirmsInConsistentMode(t *testing.T) {
	onVirtualClock(t, "", func(t *testing.T) {
		f := &fake{}
		f.timeline(step{index: 5, names: []string{"a"}}, step{at: 10 * time.Second, index: 6})
		watchFake(t, f, Health{}, Options{}, 20*time.Second)
		want := []request{
			{at: 0, wait: "57000ms"},
			{at: 0, index: "5", wait: "57000ms"},
			{at: 10 * time.Second, index: "6", wait: "2000ms"},
			{at: 12 * time.Second, wait: "57000ms", consistent: true},
			{at: 12 * time.Second, index: "6", wait: "57000ms"},
		}
		if !slices.Equal(f.requests, want) {
			t.Errorf("queries:\n%v\nwant:\n%v", f.requests, want)
		}
	})
}

func TestWatchIsPacedWhenTheIndexFlaps(t *testing.T) {
	onVirtualClock(t, "", func(t *testing.T) {
		f := &fake{}
		n := uint64(10)
		f.serve = func(w http.ResponseWriter, _ *http.Request) {
			n++
			step{index: n, names: []string{"a"}}.write(w)
		}
		got := watchFake(t, f, Health{}, Options{}, time.Minute)
		same(t, got, "0s #11 [a]")
		if most := burst + int(time.Minute/refill); len(f.requests) > most {
			t.Errorf("%d queries in a minute, want at most %d", len(f.requests), most)
		}
	})
}

func TestWatchBacksOff(t *testing.T) {
	onVirtualClock(t, "what is refused is asked ever more rarely", func(t *testing.T) {
		f := &fake{}
		f.timeline(step{code: 403})
		watchFake(t, f, Health{}, Options{Rand: func() float64 { return 0.999 }}, 10*time.Minute)
		last := f.requests[len(f.requests)-1].at - f.requests[len(f.requests)-2].at
		if n := len(f.requests); n < 60 || n > 70 || last != 9990*time.Millisecond {
			t.Errorf("%d queries in ten minutes, the last after %v; want 60 to 70, 9.99s", n, last)
		}
	})
	onVirtualClock(t, "without luck", func(t *testing.T) {
		for _, code := range []int{403, 500} {
			f := &fake{}
			f.timeline(step{code: code})
			watchFake(t, f, Health{}, Options{Rand: func() float64 { return 0 }}, time.Minute)
			if most := burst + int(time.Minute/refill); len(f.requests) > most {
				t.Errorf("%d queries in a minute though jitter is always 0, want at most %d", len(f.requests), most)
			}
		}
	})
}

func TestWatchJittersItsWait(t *testing.T) {
	onVirtualClock(t, "", func(t *testing.T) {
		f := &fake{}
		f.timeline(step{index: 1})
		watchFake(t, f, Health{}, Options{Wait: 10 * time.Second, Rand: func() float64 { return 0.25 }}, 30*time.Second)
		if got := f.requests[1].wait; got != "9750ms" {
			t.Errorf("wait %s, want 9750ms", got)
		}
	})
}

func TestBackoffStaysBounded(t *testing.T) {
	want := []time.Duration{hundred, 2 * hundred, 4 * hundred, 8 * hundred}
	for i := range 100 {
		got := backoff{failures: i + 1}.bound(1)
		if i < len(want) && got != want[i] || got > maxBackoff {
			t.Errorf("wait %d is %v", i, got)
		}
	}
}

func TestErrorsNeverHoldTheToken(t *testing.T) {
	c, err := New(Options{Token: "very-secret"})
	if err != nil {
		t.Fatal(err)
	}
	got := c.explain(`watch service "web"`, readNeeds, errors.New("token very-secret is unknown")).Error()
	if want := `consul: watch service "web" at http://127.0.0.1:8500: token [redacted] is unknown`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if strings.Contains(c.Spec(Health{Service: "web"}).Key, "very-secret") {
		t.Error("the key of a spec holds the token")
	}
}
