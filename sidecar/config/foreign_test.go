package config

import (
	"strings"
	"testing"
	"time"
)

type foreign struct {
	Image string   `yaml:"image"`
	Wait  Duration `yaml:"wait"`
	Ports []int    `yaml:"ports"`
	Inner struct {
		Mode string `yaml:"mode"`
		On   bool   `yaml:"on"`
	} `yaml:"inner"`
	Names map[string]string `yaml:"names"`
	Ours  int
}

func TestDecodeForeign(t *testing.T) {
	f := foreign{Image: "default", Ours: 7}
	f.Inner.Mode = "kept"
	places, problems := Decode("settings.yaml", []byte("wait: 2s\nports: [1, 2]\ninner: {on: true}\nnames: {a: b}\n"), &f)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if f.Image != "default" || f.Inner.Mode != "kept" || !f.Inner.On || f.Wait.D() != 2*time.Second || len(f.Ports) != 2 || f.Names["a"] != "b" || f.Ours != 7 {
		t.Errorf("%+v", f)
	}
	if !places.Given("ports[1]") || places.Given("image") {
		t.Error("what is given is not known")
	}
	want := `settings.yaml:3:1: inner.mode: is wrong; did you mean "right"?`
	if got := places.ProblemAt("inner.mode", "is wrong", "right").String(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	_, problems = Decode("settings.yaml", []byte("imag: x\nwait: 2\nours: 1\n"), &f)
	for i, want := range []string{
		`settings.yaml:1:1: imag: unknown field; did you mean "image"?`,
		`settings.yaml:2:7: wait: "2" is not a duration`,
		`settings.yaml:3:1: ours: unknown field; known here: image, wait, ports, inner, names`,
	} {
		if len(problems) != 3 || !strings.HasPrefix(problems[i].String(), want) {
			t.Fatalf("%v", problems)
		}
	}
	if _, problems = Decode("settings.yaml", []byte("a: ]"), &f); len(problems) != 1 {
		t.Error(problems)
	}
	if _, problems = Decode("settings.yaml", nil, &f); len(problems) != 0 {
		t.Error(problems)
	}
}
