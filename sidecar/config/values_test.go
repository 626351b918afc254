package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for _, test := range []struct {
		text string
		want Duration
		back string // as printed
		ok   bool
	}{
		{"250ms", Duration(250 * time.Millisecond), "250ms", true},
		{"90s", Duration(90 * time.Second), "1m30s", true},
		{"1h", Duration(time.Hour), "1h", true},
		{"60m", Duration(time.Hour), "1h", true},
		{"10m", Duration(10 * time.Minute), "10m", true},
		{"100h", Duration(100 * time.Hour), "100h", true},
		{"1.5s", Duration(1500 * time.Millisecond), "1.5s", true},
		{"0", 0, "0s", true},
		{"5", 0, "", false},
		{"-1s", 0, "", false},
		{"", 0, "", false},
		{"1 s", 0, "", false},
		{"99999999999h", 0, "", false},
	} {
		got, err := ParseDuration(test.text)
		if (err == nil) != test.ok || got != test.want {
			t.Errorf("%q: got %v, %v", test.text, got, err)
			continue
		}
		if test.ok && got.String() != test.back {
			t.Errorf("%q is printed as %q, want %q", test.text, got, test.back)
		}
	}
}

func TestParseSize(t *testing.T) {
	for _, test := range []struct {
		text string
		want Size
		back string
		ok   bool
	}{
		{"64KiB", 64 << 10, "64KiB", true},
		{"65536", 64 << 10, "64KiB", true},
		{"1 MiB", 1 << 20, "1MiB", true},
		{"3GiB", 3 << 30, "3GiB", true},
		{"100B", 100, "100", true},
		{"1025", 1025, "1025", true},
		{"0", 0, "0", true},
		{"64KB", 0, "", false},
		{"-1", 0, "", false},
		{"9999999999GiB", 0, "", false},
		{"KiB", 0, "", false},
		{"", 0, "", false},
	} {
		got, err := ParseSize(test.text)
		if (err == nil) != test.ok || got != test.want {
			t.Errorf("%q: got %v, %v", test.text, got, err)
			continue
		}
		if test.ok && got.String() != test.back {
			t.Errorf("%q is printed as %q, want %q", test.text, got, test.back)
		}
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	c, problems := Load("f.yaml", []byte(small+"consul: {token: very-secret}\n"))
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "token", c.Consul.Token)
	asJSON, err := json.Marshal(c.Consul)
	if err != nil {
		t.Fatal(err)
	}
	shown := fmt.Sprintf("%v %+v %#v %s %q", c.Consul, c.Consul, c.Consul, c.Consul.Token, c.Consul.Token) +
		log.String() + string(asJSON) + string(Print(c)) + string(PrintJSON(c))
	if strings.Contains(shown, "very-secret") {
		t.Errorf("the secret is shown: %s", shown)
	}
	if c.Consul.Token.Reveal() != "very-secret" {
		t.Error("the secret is lost")
	}
}

func TestStatusRanges(t *testing.T) {
	ranges := StatusRanges{{200, 299}, {304, 304}}
	for status, want := range map[int]bool{199: false, 200: true, 299: true, 300: false, 304: true, 305: false} {
		if ranges.Contains(status) != want {
			t.Errorf("%d: got %v", status, !want)
		}
	}
}

func TestSuggest(t *testing.T) {
	names := []string{"timeouts", "address", "path_prefix", "round_robin", "warn", "tls"}
	for word, want := range map[string]string{
		"timout": "timeouts", "Timeouts": "timeouts", "adress": "address", "pathPrefix": "path_prefix",
		"path-prefix": "path_prefix", "roundrobin": "round_robin", "warning": "warn", "tsl": "tls",
		"": "", "x": "", "frobnicate": "", strings.Repeat("timeouts", 20): "",
	} {
		if got := suggest(word, names); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"kitten", "sitting", 3},
	} {
		if got := distance(test.a, test.b); got != test.want {
			t.Errorf("%q, %q: got %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

func TestShare(t *testing.T) {
	for text, want := range map[string]string{
		"1%": "1%", "0.01": "1%", "0": "0%", "1": "100%", "100%": "100%", "0.1%": "0.1%", "7%": "7%", "12.5 %": "12.5%", "0.000001": "0.0001%", "33.3333%": "33.3333%",
	} {
		s, err := ParseShare(text)
		if err != nil || s.String() != want {
			t.Errorf("%s: %v, %v", text, s, err)
		}
		if again, err := ParseShare(s.String()); err != nil || again.String() != want {
			t.Errorf("%s is printed as %v, which is read as %v, %v", text, s, again, err)
		}
	}
	for _, text := range []string{"", "%", "1.1", "-1%", "101%", "NaN", "Inf", "half", "1 in 10"} {
		if s, err := ParseShare(text); err == nil {
			t.Errorf("%q is read as %v", text, s)
		}
	}
}
