package yamltext

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func parse(data []byte) (all []*yaml.Node, err error) {
	d := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var n yaml.Node
		switch err := d.Decode(&n); {
		case err == io.EOF:
			return all, nil
		case err != nil:
			return nil, err
		}
		all = append(all, &n)
	}
}

// tree is what text means, written as by FromJSON.
func tree(t testing.TB, text string) *yaml.Node {
	t.Helper()
	roots, err := parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	n, err := Resolved(roots[0].Content[0])
	if err != nil {
		t.Fatal(err)
	}
	plain(n)
	return n
}

// patched changes the first document of text.
func patched(t testing.TB, text, before, after string, path ...any) string {
	t.Helper()
	parsed, err := New([]byte(text), parse)
	if err != nil {
		t.Fatal(err)
	}
	if err := parsed.Documents[0].Patch(path, tree(t, before), tree(t, after)); err != nil {
		t.Fatal(err)
	}
	out, err := parsed.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestPatch(t *testing.T) {
	for _, test := range []struct{ name, text, before, after, want string }{
		{"a key is added at the end of its mapping", "a: 1 # one\n# next\nb:\n  c: 2 # two\n\nd: 3\n", "{b: {}}", "{b: {e: x}}", "a: 1 # one\n# next\nb:\n  c: 2 # two\n  e: x\n\nd: 3\n"},
		{"to the document", "a: 1\n# end\n", "{}", "{b: {c: [1]}}", "a: 1\nb:\n  c:\n  - 1\n# end\n"},
		{"without a line break at the end", "a: 1", "{}", "{b: 2}", "a: 1\nb: 2"},
		{"CRLF", "a: 1\r\nb:\r\n  c: 2\r\n", "{b: {}}", "{b: {d: {e: 1}}}", "a: 1\r\nb:\r\n  c: 2\r\n  d:\r\n    e: 1\r\n"},
		{"behind a literal", "a: |\n  x\n\n  y\n\nb: 1\n", "{a: \"x\\n\\ny\\n\"}", "{a: \"x\\n\\ny\\n\", c: 1}", "a: |\n  x\n\n  y\n\nb: 1\nc: 1\n"},
		{"behind a literal at the end", "b: 1\na: |+\n  x\n\n\n# c\n", "{}", "{c: 1}", "b: 1\na: |+\n  x\n\n\nc: 1\n# c\n"},
		{"behind folded plain text", "a: one\n  two\n  three # c\n", "{}", "{c: 1}", "a: one\n  two\n  three # c\nc: 1\n"},
		{"a value keeps its quotes", "a: 'x' # c\nb: \"y\"\nc: z\n", "{a: x, b: y, c: z}", "{a: it's, b: '1', c: '2'}", "a: 'it''s' # c\nb: \"1\"\nc: \"2\"\n"},
		{"a value becomes a mapping", "a: x # gone\nb: 1\n", "{a: x}", "{a: {c: 1}}", "a:\n  c: 1\nb: 1\n"},
		{"no value becomes a mapping", "a:\nb: 1\n", "{b: 1}", "{a: {c: 1}, b: 1}", "a:\n  c: 1\nb: 1\n"},
		{"a key goes with its lines", "a:\n  # of b\n  b: 1 # c\n  d:\n  - 1\ne: 2\n", "{a: {b: 1, d: [1]}}", "{a: {b: 1}}", "a:\n  # of b\n  b: 1 # c\ne: 2\n"},
		{"the only key goes", "a:\n  b: 1\ne: 2\n", "{a: {b: 1}}", "{a: {}}", "a: {}\ne: 2\n"},
		{"first in an item", "- name: x\n  b: 1\n  # d\n  c: 2\n", "[{name: x, b: 1, c: 2}]", "[{b: 1, c: 2}]", "- b: 1\n  c: 2\n"},
		{"an item before the others", "l:\n# first\n- name: a\n  x: 1\n", "{l: [{name: a, x: 1}]}", "{l: [{name: o, q: [1]}, {name: a, x: 1}]}", "l:\n# first\n- name: o\n  q:\n  - 1\n- name: a\n  x: 1\n"},
		{"an item behind, indented", "l:\n    - name: a\n      x: 1 # one\nm: 1\n", "{l: [{name: a, x: 1}]}", "{l: [{name: a, x: 2}, {name: o}]}", "l:\n    - name: a\n      x: 2 # one\n    - name: o\nm: 1\n"},
		{"items go", "l:\n- 1\n- 2 # two\n- 3\n", "{l: [1, 2, 3]}", "{l: [1]}", "l:\n- 1\n"},
		{"a wider indentation", "a:\n    b:\n        c: 1\n", "{a: {b: {c: 1}}}", "{a: {b: {c: 1, d: {e: {f: 1}}}}}", "a:\n    b:\n        c: 1\n        d:\n            e:\n                f: 1\n"},
		{"braces", "a: {b: 1, c: [x, y]} # c\n", "{a: {b: 1, c: [x, y]}}", "{a: {b: '1', c: [x, z, y], d: {e: f}}}", "a: {b: \"1\", c: [x, z, y], d: {e: f}} # c\n"},
		{"empty braces", "a: {}\nb: []\n", "{a: {}, b: []}", "{a: {c: 1}, b: [1]}", "a: {c: 1}\nb: [1]\n"},
		{"braces that become empty", "a: { b: 1 }\nc: 1\n", "{a: {b: 1}}", "{a: {}}", "a: {  }\nc: 1\n"},
		{"JSON", "{\n  \"a\": {\n    \"b\": [\n      {\"x\": 1}\n    ]\n  }\n}\n", "{a: {b: [{x: 1}]}}", "{a: {b: [{x: 1}, {y: 2}], c: {d: e}}}", "{\n  \"a\": {\n    \"b\": [\n      {\"x\": 1},\n      {\n        \"y\": 2\n      }\n    ],\n    \"c\": {\n      \"d\": \"e\"\n    }\n  }\n}\n"},
		{"JSON on a line", `{"a":{"b":[]}}`, "{a: {b: []}}", "{a: {b: [1], c: x}}", `{"a":{"b":[1], "c": "x"}}`},
		{"JSON with signs", `{"a": "<b>"}`, "{a: <b>}", "{a: '<c> & d', e: '>'}", `{"a": "<c> & d", "e": ">"}`},
		{"JSON with tabs", "{\n\t\"a\": {\n\t\t\"b\": 1\n\t}\n}", "{a: {b: 1}}", "{a: {b: 1, c: [1]}}", "{\n\t\"a\": {\n\t\t\"b\": 1,\n\t\t\"c\": [\n\t\t\t1\n\t\t]\n\t}\n}"},
		{"a merged key is overridden", "x: &x {b: 1}\na:\n  <<: *x\n", "{a: {b: 1}}", "{a: {b: 2}}", "x: &x {b: 1}\na:\n  <<: *x\n  b: 2\n"},
		{"an alias is written out where it changes", "x: &x {b: 1}\na: *x\n", "{a: {b: 1}}", "{a: {b: 2}}", "x: &x {b: 1}\na: {b: 2}\n"},
		{"what has an anchor and is used elsewhere", "x: &x {b: 1}\na: *x\n", "{x: {b: 1}}", "{x: {b: 2}}", "x: {b: 2}\na: {b: 1}\n"},
		{"after a byte order mark", "\ufeffa: 1\n", "{a: 1}", "{a: 2}", "\ufeffa: 2\n"},
		{"wide characters", "{\"ä\": \"öß€\", b: 1}\n", "{b: 1}", "{b: 2}", "{\"ä\": \"öß€\", b: 2}\n"},
		{"a text of several lines", "a: 1\n", "{}", "{b: {c: \"x\\n  y\\n\"}}", "a: 1\nb:\n  c: |\n    x\n      y\n"},
		{"texts that are no numbers", "a: 1\n", "{}", "{b: '1', c: 'yes', d: '0x1', e: 'null', f: '22:22'}", "a: 1\nb: \"1\"\nc: \"yes\"\nd: \"0x1\"\ne: \"null\"\nf: \"22:22\"\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := patched(t, test.text, test.before, test.after)
			if got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
			if same := patched(t, test.text, test.before, test.before); same != test.text {
				t.Errorf("nothing was to change:\n%s", same)
			}
		})
	}
}

// What was added and is taken away again leaves no trace.
func TestThereAndBack(t *testing.T) {
	for _, text := range []string{
		"a:\n  l:\n  - name: x # c\n    v: 1\n  # end\n\n# more\nz: 1\n",
		"a:\n    l:\n      - name: x\n        v: 1\nb:\n    x: y",
		"{\n  \"a\": {\n    \"l\": [\n      {\n        \"name\": \"x\",\n        \"v\": 1\n      }\n    ]\n  }\n}\n",
		`{"a": {"l": [{"name": "x", "v": 1}]}}`,
		"a: {l: [{name: x, v: 1}], q: 'r'}\r\n",
		"# head\n---\na:\n  l: [{name: x, v: 1}]   # c\n...\n",
	} {
		before, after := "{a: {l: [{name: x, v: 1}]}}", "{a: {l: [{name: n, p: {q: 1}}, {name: x, v: 2, w: [1, 2]}, {name: o}], m: {k: \"a\\nb\\n\"}}}"
		there := patched(t, text, before, after)
		if !Equal(Get(Get(tree(t, there), "a"), "m"), tree(t, "{k: \"a\\nb\\n\"}")) {
			t.Errorf("got\n%s", there)
		}
		if back := patched(t, there, after, before); back != text {
			t.Errorf("there\n%s\nback\n%s\nnot\n%s", there, back, text)
		}
	}
}

func TestPath(t *testing.T) {
	text := "items:\n- spec: # s\n    a: 1\n- spec:\n    a: 2\n"
	got := patched(t, text, "{a: 2}", "{a: 2, b: 3}", "items", 1, "spec")
	if want := text + "    b: 3\n"; got != want {
		t.Errorf("got\n%s", got)
	}
}

// Other documents stay byte for byte.
func TestDocuments(t *testing.T) {
	text := "# nothing\n---\n# a\na:   1\n---\nb: 2\n---\n\n---\n{c:   3}\n"
	parsed, err := New([]byte(text), parse)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range parsed.Documents {
		if Get(d.Root, "b") != nil {
			d.Patch(nil, tree(t, "{}"), tree(t, "{x: 1}"))
		}
	}
	got, err := parsed.Bytes()
	if want := strings.Replace(text, "b: 2\n", "b: 2\nx: 1\n", 1); err != nil || string(got) != want {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestLaughs(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := range 9 {
		n := string(rune('0' + i))
		m := string(rune('1' + i))
		b.WriteString("a" + m + ": &a" + m + " [*a" + n + ", *a" + n + ", *a" + n + ", *a" + n + ", *a" + n + ", *a" + n + ", *a" + n + ", *a" + n + ", *a" + n + "]\n")
	}
	parsed, err := New([]byte(b.String()), parse)
	if err != nil {
		t.Fatal(err)
	}
	if err := parsed.Documents[0].Patch(nil, tree(t, "{}"), tree(t, "{b: 1}")); err != errTooLarge {
		t.Errorf("got %v", err)
	}
}

func TestJSON(t *testing.T) {
	roots, err := parse([]byte("a: yes\nb: 'yes'\nc: 0644\nd: [1.5, null, 2020-01-01]\n8080: x\n"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := JSON(roots[0].Content[0])
	if want := `{"a":true,"b":"yes","c":420,"d":[1.5,null,"2020-01-01"],"8080":"x"}`; err != nil || string(got) != want {
		t.Errorf("%v: %s", err, got)
	}
}

// Whatever the text: no panic, what comes out says what was meant, and other documents
// are whole.
func FuzzPatch(f *testing.F) {
	for _, text := range []string{
		"a: 1\n", "a: {b: [1, 2]}\n---\nc: |\n  x\n", "- a\n- - b\n", "a: &x\n- 1\nb: *x\n", "? a\n: b\n", "{a, b: , c}", "a: 'x\n  y'\r\n", "\ufeff---\n!!map {a: !!str }\n",
		"a: >-\n  x\n\n y\n", "[a: 1, b]", "a:\n- b: 1\n  c:\n# d\n- \n", "<<: {a: 1}\nb: 1",
	} {
		f.Add([]byte(text), byte(0))
	}
	f.Fuzz(func(t *testing.T, data []byte, which byte) {
		if len(data) > 4096 {
			return
		}
		parsed, err := New(data, parse)
		if err != nil || len(parsed.Documents) == 0 {
			return
		}
		d := parsed.Documents[int(which)%len(parsed.Documents)]
		if d.Root == nil || d.Root.Kind != yaml.MappingNode {
			return
		}
		before, err := Resolved(d.Root)
		if err != nil {
			return
		}
		after := altered(before)
		if err := d.Patch(nil, before, after); err != nil {
			return
		}
		out, err := parsed.Bytes()
		if err != nil {
			return // said, and nothing is damaged
		}
		roots, err := parse(out)
		if err != nil || len(roots) != len(parsed.Documents) {
			t.Fatalf("%v, %d documents of %d\n%q\n%q", err, len(roots), len(parsed.Documents), data, out)
		}
		for i, other := range parsed.Documents {
			if !other.holds(roots[i]) {
				t.Fatalf("document %d\n%q\n%q", i, data, out)
			}
		}
	})
}

// altered adds a key to each mapping, drops each second other key, and adds an item to each list.
func altered(n *yaml.Node) *yaml.Node {
	out := *n
	out.Content = nil
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if i%4 == 0 || n.Content[i].Kind != yaml.ScalarNode {
				out.Content = append(out.Content, n.Content[i], altered(n.Content[i+1]))
			}
		}
		if index(n, "added") < 0 {
			out.Content = append(out.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: "added", Tag: "!!str"}, &yaml.Node{Kind: yaml.ScalarNode, Value: "1", Tag: "!!int"})
		}
	case yaml.SequenceNode:
		for _, child := range n.Content {
			out.Content = append(out.Content, altered(child))
		}
		out.Content = append(out.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: "added", Tag: "!!str"})
	}
	return &out
}
