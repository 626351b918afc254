package template

import (
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		text string
		want []Part
	}{
		{"plain 100%%", []Part{{Text: "plain 100%"}}},
		{"%{status}", []Part{{Kind: Value, Name: "status"}}},
		{"a %{ status | or(---) }b", []Part{{Text: "a "}, {Kind: Value, Name: "status", Modifiers: []Modifier{{"or", "---"}}}, {Text: "b"}}},
		{"%{status|or()}", []Part{{Kind: Value, Name: "status", Modifiers: []Modifier{{"or", ""}}}}},
		{"%{status|or(a|b})}", []Part{{Kind: Value, Name: "status", Modifiers: []Modifier{{"or", "a|b}"}}}}},
		{"%{req.header( X-Tenant , 40 )|max(3)|pad(9)}", []Part{{Kind: Value, Name: "req.header", Args: []string{"x-tenant", "40"}, Modifiers: []Modifier{{"max", "3"}, {"pad", "9"}}}}},
		{"%( %{route}%)", []Part{{Kind: Open}, {Text: " "}, {Kind: Value, Name: "route"}, {Kind: Close}}},
		{"%{req.header(cookie)|redact}", []Part{{Kind: Value, Name: "req.header", Args: []string{"cookie"}, Modifiers: []Modifier{{"redact", ""}}}}},
		{"tab\there", []Part{{Text: "tab\there"}}},
	} {
		got, problems := Parse(tc.text)
		if len(problems) > 0 || !slices.EqualFunc(got, tc.want, same) {
			t.Errorf("%s\ngot  %+v %v\nwant %+v", tc.text, got, problems, tc.want)
		}
	}
}

func same(a, b Part) bool {
	return a.Kind == b.Kind && a.Text == b.Text && a.Name == b.Name && slices.Equal(a.Args, b.Args) && slices.Equal(a.Modifiers, b.Modifiers)
}

func TestProblems(t *testing.T) {
	for _, tc := range []struct {
		text    string
		offset  int
		message string
		word    string
	}{
		{"", 0, "is empty", ""},
		{"50%", 2, "a percent sign begins", ""},
		{"%d", 0, "a percent sign begins", ""},
		{"a\nb", 1, "control character", ""},
		{"ab %{tiem}", 5, "no value of this name", "tiem"},
		{"%{}", 2, "name of a value is missing", ""},
		{"%{time", 0, "has no end", ""},
		{"%{time(a}", 0, "has no end", ""},
		{"%{time(utc)}", 2, "takes rfc3339 or clf", "utc"},
		{"%{status(x)}", 2, "takes no argument", ""},
		{"%{req.header}", 2, "req.header(name, length)", ""},
		{"%{req.header()}", 2, "is not the name of a field", ""},
		{"%{req.header(a b)}", 2, "is not the name of a field", ""},
		{"%{req.header(a, 0)}", 2, "number from 1 to", ""},
		{"%{req.header(a, 1, 2)}", 2, "a name and a length", ""},
		{"%{resp.header(Set-Cookie)}", 2, "set-cookie holds a credential", ""},
		{"%{req.header(x-api-key, 9)}", 2, "x-api-key holds a credential", ""},
		{"%{status|orr(x)}", 9, "no modifier of this name", "orr"},
		{"%{status|or}", 9, "or needs an argument", ""},
		{"%{status|max(x)}", 9, "is not a number", ""},
		{"%{status|max(0)}", 9, "is not a number from 1", ""},
		{"%{status|redact(x)}", 9, "takes no argument", ""},
		{"%{status|reveal}", 9, "is for req.header", ""},
		{"%(x%)", 0, "holds no value", ""},
		{"%( %{status}", 0, "has no end", ""},
		{"x %)", 2, "no group is open", ""},
		{"%(%{status} %(%{route}%)", 12, "cannot stand in groups", ""},
		{strings.Repeat("x", MaxLength+1), 0, "longer than", ""},
	} {
		_, problems := Parse(tc.text)
		if len(problems) != 1 || problems[0].Offset != tc.offset || !strings.Contains(problems[0].Message, tc.message) || problems[0].Word != tc.word {
			t.Errorf("%.50s: got %+v", tc.text, problems)
		}
	}
}

func TestEveryProblemIsSaidAtOnceAndTheyAreBounded(t *testing.T) {
	if _, problems := Parse("%{a} %{b} %{c}"); len(problems) != 3 {
		t.Errorf("%d problems", len(problems))
	}
	if _, problems := Parse(strings.Repeat("%{a}", 1000)); len(problems) != maxProblems {
		t.Errorf("%d problems", len(problems))
	}
}

func TestPresetsParse(t *testing.T) {
	for _, p := range Presets() {
		if _, problems := Parse(p.Template); len(problems) > 0 {
			t.Errorf("%s: %+v", p.Name, problems)
		}
		if got, ok := PresetOf(p.Name); !ok || got != p {
			t.Errorf("%s is not found", p.Name)
		}
	}
	if _, ok := PresetOf("none"); ok {
		t.Error("a preset that is none")
	}
	for i, name := range Escapes() {
		if e, ok := ParseEscape(name); !ok || int(e) != i || e.String() != name {
			t.Errorf("%s is read as %v", name, e)
		}
	}
}

func TestSecretNames(t *testing.T) {
	for name, want := range map[string]bool{
		"authorization": true, "Proxy-Authorization": true, "cookie": true, "Set-Cookie": true, "x-api-key": true, "X-Auth-Token": true,
		"x-amz-security-token": true, "X-Vault-Token": true, "user-agent": false, "x-tenant": false, "keyboard": false, "": false,
	} {
		if got := Secret([]byte(name)); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for word := range SecretWords() {
		var b nameBuffer
		if len(word) > len(b.buf) {
			t.Errorf("%q does not fit the buffer", word)
		}
	}
}

// Whatever a template holds, reading it ends, and what is accepted needs no second look.
func FuzzParse(f *testing.F) {
	for _, p := range Presets() {
		f.Add(p.Template)
	}
	f.Add("%{req.header(a,3)|or(x)|reveal}%(%%%)")
	f.Fuzz(func(t *testing.T, text string) {
		parts, problems := Parse(text)
		for _, p := range problems {
			if p.Offset < 0 || p.Offset > len(text) || p.Message == "" {
				t.Fatalf("%+v", p)
			}
		}
		if len(problems) > 0 {
			return
		}
		open := false
		for _, p := range parts {
			if p.Kind == Open || p.Kind == Close {
				if open == (p.Kind == Open) {
					t.Fatalf("groups: %+v", parts)
				}
				open = !open
			}
			if p.Kind == Value && p.Name == "" {
				t.Fatalf("%+v", parts)
			}
		}
	})
}
