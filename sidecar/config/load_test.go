package config

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the expected files of testdata anew")

// readCase loads a file of testdata under its bare name, which is how its
// positions are written in the expected text.
func readCase(t *testing.T, file string) (*Config, Problems) {
	t.Helper()
	return Load(filepath.Base(file), mustRead(t, file))
}

// golden compares got with the file beside the case, or writes it with -update.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got:\n%s\nwant:\n%s", file, got, want)
	}
}

func cases(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files match %s (%v)", pattern, err)
	}
	return files
}

func TestBadFiles(t *testing.T) {
	for _, file := range cases(t, "*.bad.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, problems := readCase(t, file)
			if len(problems) == 0 {
				t.Fatal("no problem was found")
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".txt", []byte(problems.Error()+"\n"))
		})
	}
}

func TestGoodFiles(t *testing.T) {
	for _, file := range cases(t, "*.good.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, problems := readCase(t, file)
			if err := problems.Err(); err != nil {
				t.Fatal(err)
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".txt", Print(Expand(c)))
		})
	}
}

// What is printed means the same as what was read, with and without the
// shorthand.
func TestPrintedFilesReadBack(t *testing.T) {
	for _, file := range cases(t, "*.good.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, problems := readCase(t, file)
			if err := problems.Err(); err != nil {
				t.Fatal(err)
			}
			readBack(t, c)
			readBack(t, Expand(c))
		})
	}
}

func readBack(t *testing.T, c *Config) {
	t.Helper()
	again, problems := Load(c.source.file, Print(c))
	if err := problems.Err(); err != nil {
		t.Fatalf("%v\nin\n%s", err, Print(c))
	}
	want := *c
	if want.Consul.Token != "" {
		want.Consul.Token = redacted
	}
	want.Metrics.OTLP = withoutSecrets(want.Metrics.OTLP)
	if want.Tracing != nil {
		shown := *want.Tracing
		shown.OTLP = withoutSecrets(shown.OTLP)
		want.Tracing = &shown
	}
	want.source, again.source = source{}, source{}
	if !reflect.DeepEqual(&want, again) {
		t.Errorf("read back:\n%+v\nwant:\n%+v", again, &want)
	}
}

func mustRead(tb testing.TB, file string) []byte {
	tb.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}
