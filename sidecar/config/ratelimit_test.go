package config

import (
	"testing"
	"time"
)

func TestRate(t *testing.T) {
	for _, c := range []struct {
		text  string
		count int
		per   time.Duration
		meant string // of what is none
	}{
		{"100/s", 100, time.Second, ""}, {"5/m", 5, time.Minute, ""}, {"1000/h", 1000, time.Hour, ""}, {"10/d", 10, 24 * time.Hour, ""},
		{"30/10s", 30, 10 * time.Second, ""}, {"1/500ms", 1, 500 * time.Millisecond, ""}, {" 7 / 1m30s ", 7, 90 * time.Second, ""},
		{"100", 0, 0, "100/s"}, {"100rps", 0, 0, "100/s"}, {"100 per second", 0, 0, "100/s"}, {"5/min", 0, 0, "5/m"}, {"5/Hour", 0, 0, "5/h"}, {"2/days", 0, 0, "2/d"},
		{"0/s", 0, 0, ""}, {"-1/s", 0, 0, ""}, {"1.5/s", 0, 0, ""}, {"/s", 0, 0, ""}, {"1/", 0, 0, "1/s"}, {"1/0s", 0, 0, ""}, {"1/1us", 0, 0, ""},
		{"1/10000h", 0, 0, ""}, {"2000000000/s", 0, 0, ""}, {"", 0, 0, ""}, {"x", 0, 0, ""},
	} {
		count, per, err := Rate(c.text).Per()
		if count != c.count || per != c.per || (err == nil) != (c.count > 0) {
			t.Errorf("%q: %d in %v, %v", c.text, count, per, err)
		}
		if err != nil && Rate(c.text).meant() != c.meant {
			t.Errorf("%q: meant %q, want %q", c.text, Rate(c.text).meant(), c.meant)
		}
		if want := float64(c.count) / max(c.per.Seconds(), 1e-9); Rate(c.text).PerSecond() != want {
			t.Errorf("%q: %v a second, want %v", c.text, Rate(c.text).PerSecond(), want)
		}
	}
}

func FuzzRate(f *testing.F) {
	f.Add("100/s")
	f.Add("30/10s")
	f.Fuzz(func(t *testing.T, text string) {
		count, per, err := Rate(text).Per()
		if err == nil && (count < 1 || per < time.Millisecond) {
			t.Errorf("%q is %d in %v", text, count, per)
		}
		if meant := Rate(text).meant(); meant != "" {
			if _, _, err := Rate(meant).Per(); err != nil && count == 0 && len(meant) < 10 {
				t.Errorf("%q: %q was meant, which is none: %v", text, meant, err)
			}
		}
	})
}
