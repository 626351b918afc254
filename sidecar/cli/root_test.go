package cli

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// asLarboard makes the test binary behave as larboard itself, so that the tests
// see a real process: its arguments, streams and exit code.
const asLarboard = "LARBOARD_TEST_AS_BINARY"

func TestMain(m *testing.M) {
	if os.Getenv(asLarboard) != "" {
		os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// result is what a finished process left behind.
type result struct {
	code           int
	stdout, stderr string
}

// larboard runs the binary in dir.
func larboard(t *testing.T, dir string, args ...string) result {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	cmd.Env = append(os.Environ(), asLarboard+"=1")
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// directory returns a new directory with the given files.
func directory(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// contains fails the test unless text holds each of parts.
func contains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s lacks %q:\n%s", what, part, text)
		}
	}
}

func TestCommands(t *testing.T) {
	for _, test := range []struct {
		name   string
		args   []string
		code   int
		stdout []string
		stderr []string
	}{
		{"nothing lists the commands", nil, 0, []string{"Examples:", "larboard check -c larboard.yaml", "run ", "check ", "config ", "schema ", "demo ", "version "}, nil},
		{"help", []string{"check", "--help"}, 0, []string{"larboard check -c edge.yaml", "--config FILE", `(default "larboard.yaml")`}, nil},
		{"version", []string{"version"}, 0, []string{"larboard ", "go1."}, nil},
		{"schema", []string{"schema"}, 0, []string{`"title": "Larboard's configuration file"`, `"service"`}, nil},
		{"unknown command", []string{"chekc"}, 2, nil, []string{`unknown command "chekc"; did you mean "check"?`, "larboard --help"}},
		{"unknown flag", []string{"check", "--fast"}, 2, nil, []string{"unknown flag: --fast", "larboard check --help"}},
		{"flag without value", []string{"check", "-c"}, 2, nil, []string{"needs an argument"}},
		{"argument", []string{"check", "edge.yaml"}, 2, nil, []string{`unexpected argument "edge.yaml"`, "-c"}},
		{"unknown output", []string{"check", "-o", "xml"}, 2, nil, []string{`"xml" is none of text, json`}},
		{"unknown output of config", []string{"config", "-o", "xml"}, 2, nil, []string{`"xml" is none of yaml, json`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := larboard(t, t.TempDir(), test.args...)
			if got.code != test.code {
				t.Errorf("exit code %d, want %d", got.code, test.code)
			}
			contains(t, "stdout", got.stdout, test.stdout...)
			contains(t, "stderr", got.stderr, test.stderr...)
		})
	}
}
