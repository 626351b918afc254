package config

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

const small = "listeners: [{name: web, address: 127.0.0.1:8080, service: web}]\n" +
	"services: [{name: web, endpoints: [127.0.0.1:9001]}]\n"

func TestAliasesAreBounded(t *testing.T) {
	var file strings.Builder
	file.WriteString("services:\n- {name: s, endpoints: &e [127.0.0.1:1" + strings.Repeat(", 127.0.0.1:1", 999) + "]}\n")
	for i := range 1000 {
		fmt.Fprintf(&file, "- {name: s%d, endpoints: *e}\n", i)
	}
	_, problems := Load("bomb.yaml", []byte(file.String()))
	if len(problems) != 1 || !strings.Contains(problems[0].Message, "with its aliases followed the file holds more than 250000 values") {
		t.Errorf("got %.300v", problems)
	}
}

func TestMergesAreBounded(t *testing.T) {
	var file strings.Builder
	file.WriteString("services:\n- &m0 {name: a, endpoints: [127.0.0.1:1]}\n")
	for i := range 12 {
		again := strings.Repeat(fmt.Sprintf(", *m%d", i), 9)
		fmt.Fprintf(&file, "- &m%d {<<: [*m%d%s], name: b%d}\n", i+1, i, again, i)
	}
	_, problems := Load("bomb.yaml", []byte(file.String()))
	if len(problems) != 1 || !strings.Contains(problems[0].Message, "with its aliases followed") {
		t.Errorf("got %.300v", problems)
	}
}

func TestProblemsAreBounded(t *testing.T) {
	file := "listeners:\n" + strings.Repeat("- {}\n", 1000)
	_, problems := Load("many.yaml", []byte(file))
	last := problems[len(problems)-1]
	if len(problems) != maxProblems+1 || !strings.HasSuffix(last.Message, "more problems are not shown") {
		t.Errorf("got %d problems, the last %v", len(problems), last)
	}
}

func TestHugeFile(t *testing.T) {
	_, problems := Load("huge.yaml", make([]byte, maxFile+1))
	if len(problems) != 1 || problems[0].String() != "huge.yaml: the file is larger than 8MiB" {
		t.Errorf("got %v", problems)
	}
}

func TestLineEndsAndByteOrderMark(t *testing.T) {
	for name, text := range map[string]string{
		"crlf":             strings.ReplaceAll(small, "\n", "\r\n"),
		"byte order mark":  "\ufeff" + small,
		"no final newline": strings.TrimSpace(small),
		"explicit start":   "---\n" + small + "...\n",
		"json":             `{"listeners": [{"name": "web", "address": "127.0.0.1:8080", "service": "web"}], "services": [{"name": "web", "endpoints": ["127.0.0.1:9001"]}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, problems := Load("f.yaml", []byte(text)); len(problems) > 0 {
				t.Error(problems)
			}
		})
	}
}

func TestKeysCannotUpsetATerminal(t *testing.T) {
	_, problems := Load("f.yaml", []byte(small+`"\x1b[31mred\n": 1`))
	if text := problems.Error(); strings.ContainsAny(text, "\x1b\n") || !strings.Contains(text, `"\x1b[31mred\n"`) {
		t.Errorf("got %q", text)
	}
}

func TestRelativeFileNames(t *testing.T) {
	c, problems := Load(filepath.Join("etc", "larboard", "l.yaml"), []byte(small+
		"consul: {token_file: token}\naccess_log: access.log\nadmin: {socket: /run/admin.sock}\n"+
		"identity: {files: {cert: ../svid.pem, key: k, bundle: b, bundles: {other.org: o}}}\n"))
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	files := c.Identity.Files
	got := []string{c.Consul.TokenFile, c.AccessLog[0].Path, c.Admin.Socket, files.Cert, files.Bundle, files.Bundles["other.org"]}
	want := []string{"etc/larboard/token", "etc/larboard/access.log", "/run/admin.sock", "etc/svid.pem", "etc/larboard/b", "etc/larboard/o"}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestProblemAt(t *testing.T) {
	c, _ := Load("f.yaml", []byte("listeners:\n- name: web\n  tls:\n    certificates:\n    - cert: a.pem\n"))
	for _, test := range []struct{ path, want string }{
		{"listeners[0].tls.certificates[0].cert", "f.yaml:5:13"},
		{"listeners[0].tls.certificates[0].key", "f.yaml:5:7"},
		{"listeners[0].tls.certificates", "f.yaml:4:5"},
		{"listeners[0].routes[3].service", "f.yaml:2:3"},
		{"services", "f.yaml:1:1"},
		{"", "f.yaml:1:1"},
	} {
		if p := c.ProblemAt(test.path, "wrong"); p.Position() != test.want || p.Path != test.path {
			t.Errorf("%q: got %s, want %s", test.path, p.Position(), test.want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"*.good.yaml", "*.bad.yaml"} {
		files, _ := filepath.Glob(filepath.Join("testdata", pattern))
		for _, file := range files {
			f.Add(mustRead(f, file))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, problems := Load("f.yaml", data)
		for _, p := range problems {
			if p.File != "f.yaml" || p.Message == "" || p.Line < 0 || p.Column < 0 {
				t.Fatalf("bad problem %+v", p)
			}
			if strings.ContainsAny(p.String(), "\n\x1b") {
				t.Fatalf("unprintable problem %q", p)
			}
		}
		if len(problems) > 0 {
			return
		}
		readBack(t, c)
		readBack(t, Expand(c))
		PrintJSON(c)
		if again, problems := Load("f.yaml", PrintOrigins(c)); len(problems) > 0 || string(Print(again)) != string(Print(Expand(c))) {
			t.Fatalf("with origins it reads back otherwise: %v\n%s", problems, PrintOrigins(c))
		}
	})
}
