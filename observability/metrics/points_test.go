package metrics

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestCleanLabel(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"plain":              {"api", "api"},
		"empty":              {"", ""},
		"not ASCII":          {"größe", "größe"},
		"no UTF-8":           {"a\xffb", "a\ufffdb"},
		"control characters": {"a\x00b\nc\x7fd\u0085", "a\ufffdb\ufffdc\ufffdd\ufffd"},
		"longest":            {strings.Repeat("a", labelLimit), strings.Repeat("a", labelLimit)},
		"too long":           {strings.Repeat("a", labelLimit+1), strings.Repeat("a", labelLimit)},
		"cut in a character": {"a" + strings.Repeat("ä", labelLimit), "a" + strings.Repeat("ä", labelLimit/2-1)},
		"longer when clean":  {strings.Repeat("\x00", labelLimit), strings.Repeat("\ufffd", labelLimit/3)},
	} {
		if got := cleanLabel(tc.in); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func FuzzCleanLabel(f *testing.F) {
	for _, s := range []string{"api", "a\xff", "a\x00\n\"\\", strings.Repeat("ä", 200), strings.Repeat("\xf0\x9f\x98", 100)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := cleanLabel(s)
		if len(got) > labelLimit || !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) || cleanLabel(got) != got {
			t.Fatalf("%q becomes %q", s, got)
		}
	})
}
