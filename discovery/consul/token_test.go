package consul

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTokenFileIsFollowed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	var log strings.Builder
	s := &tokenSource{file: file, log: slog.New(slog.NewTextHandler(&log, nil))}
	if token, err := s.get(); err == nil {
		t.Errorf("without a file: %q, want an error", token)
	}
	for _, c := range []struct{ name, content, want string }{
		{"first", "one\n", "one"},
		{"rotated", "two", "two"},
		{"emptied", "\n", "two"},
		{"still empty", "", "two"},
		{"two words", "three four", "two"},
		{"control character", "thr\x00ee", "two"},
		{"too long", strings.Repeat("x", maxToken+1), "two"},
		{"rotated again", " five ", "five"},
	} {
		if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := s.get(); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
	if got := strings.Count(log.String(), "unreadable"); got != 1 {
		t.Errorf("%d log lines for one time of failure:\n%s", got, &log)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got, err := s.get(); err != nil || got != "five" {
		t.Errorf("after the file went: %q, %v", got, err)
	}
	for _, secret := range []string{"two", "three", "five"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log shows %q", secret)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	for _, seed := range []string{"", "abc", " a b ", "a\r\nX-Other: b", "\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		token, err := parseToken(data)
		if err == nil && (token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' })) {
			t.Errorf("%q gives the token %q", data, token)
		}
	})
}
