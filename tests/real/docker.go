package real

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// dockerTime bounds one command of Docker; a whole stack takes longer, see Compose.
const dockerTime = 2 * time.Minute

// Docker skips a test where no Docker Engine answers this user.
func Docker(t testing.TB) {
	t.Helper()
	binary, err := exec.LookPath("docker")
	if err != nil {
		t.Skipf("needs a Docker Engine: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, binary, "version", "--format", "{{.Server.Version}}").CombinedOutput(); err != nil {
		t.Skipf("needs a Docker Engine, and none answers: %v: %s", err, bytes.TrimSpace(out))
	}
}

// DockerRun runs a command of docker to its end and returns what it printed on its output; one
// that fails ends the test.
func DockerRun(t testing.TB, args ...string) string {
	t.Helper()
	ran := Run(t, dockerTime, "docker", args...)
	if ran.Code != 0 {
		t.Fatalf("docker %s: exit code %d\n%s%s", strings.Join(args, " "), ran.Code, ran.Stdout, ran.Stderr)
	}
	return strings.TrimSpace(ran.Stdout)
}

// Image is made of files of this machine alone: nothing is fetched.
type Image struct {
	// Files by their path in the image, without a slash before it: the path here.
	Files map[string]string
	// Dirs are directories that anybody may write to.
	Dirs []string
	// Changes are lines of a Dockerfile, such as an ENTRYPOINT.
	Changes []string
}

// MakeImage makes an image under a name, which is removed at the end of the test.
func MakeImage(t testing.TB, name string, i Image) {
	t.Helper()
	args := []string{"import"}
	for _, c := range i.Changes {
		args = append(args, "--change", c)
	}
	ctx, cancel := context.WithTimeout(t.Context(), dockerTime)
	defer cancel()
	read, write := io.Pipe()
	go func() { write.CloseWithError(i.tar(write)) }()
	defer read.Close()
	cmd := exec.CommandContext(ctx, Installed(t, "docker"), append(args, "-", name)...)
	cmd.Stdin = read
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("docker import %s: %v\n%s", name, err, out)
	}
	RemoveImage(t, name)
}

// RemoveImage has an image removed at the end of the test, once the containers of later calls
// have gone.
func RemoveImage(t testing.TB, name string) {
	t.Helper()
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", "-f", name).Run() })
}

// tar writes the image's files.
func (i Image) tar(to io.Writer) error {
	w := tar.NewWriter(to)
	made := map[string]bool{}
	dir := func(name string, mode int64) error {
		if made[name] || name == "." {
			return nil
		}
		made[name] = true
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode})
	}
	for _, name := range i.Dirs {
		if err := dir(name, 0o1777); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(i.Files)) {
		if err := dir(path.Dir(name), 0o755); err != nil {
			return err
		}
		if err := addFile(w, name, i.Files[name]); err != nil {
			return err
		}
	}
	return w.Close()
}

func addFile(w *tar.Writer, name, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}

// Libraries are the files that a dynamically linked program of this machine needs beside itself,
// by their path in an image, as Image.Files wants them.
func Libraries(t testing.TB, program string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for line := range strings.Lines(Run(t, time.Minute, "ldd", program).Stdout) {
		for _, word := range strings.Fields(line) {
			if strings.HasPrefix(word, "/") {
				all[strings.TrimPrefix(word, "/")] = word
			}
		}
	}
	return all
}

// ComposeStack is a project of docker-compose. Its methods end the test on failure and are for
// its goroutine.
type ComposeStack struct {
	Project string

	t       testing.TB
	command []string
	env     []string
	ids     map[string]string // of containers, by service
}

// Compose makes a project of the file docker-compose.yaml in dir, under a name of its own and
// with the variables given; its containers, networks and volumes are removed at the end of the
// test. Docker must have been asked for.
func Compose(t testing.TB, dir string, variables map[string]string) *ComposeStack {
	t.Helper()
	s := &ComposeStack{Project: fmt.Sprintf("larboard-test-%d", os.Getpid()), t: t, env: os.Environ(), ids: map[string]string{}}
	for name, value := range variables {
		s.env = append(s.env, name+"="+value)
	}
	s.command = []string{"docker", "compose"}
	if exec.Command("docker", "compose", "version").Run() != nil {
		s.command = []string{Installed(t, "docker-compose")}
	}
	s.command = append(s.command, "-p", s.Project, "-f", filepath.Join(dir, "docker-compose.yaml"))
	t.Cleanup(s.finish)
	return s
}

// Run is one command of docker-compose; it returns its output.
func (s *ComposeStack) Run(args ...string) string {
	s.t.Helper()
	out, err := s.run(s.t.Context(), 4*time.Minute, args...)
	if err != nil {
		s.t.Fatalf("docker-compose %s: %v\n%s\n%s", strings.Join(args, " "), err, tail(out, 40), s.state())
	}
	return out
}

func (s *ComposeStack) run(ctx context.Context, within time.Duration, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.command[0], append(slices.Clone(s.command[1:]), args...)...)
	cmd.Env = s.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		return stdout.String() + stderr.String(), err
	}
	return stdout.String(), nil
}

// Container is the ID of a service's container, which must stay the same for the whole test.
func (s *ComposeStack) Container(service string) string {
	s.t.Helper()
	if id := s.ids[service]; id != "" {
		return id
	}
	id := strings.TrimSpace(s.Run("ps", "-q", service))
	if id == "" {
		s.t.Fatalf("no container of %s\n%s", service, s.state())
	}
	s.ids[service] = id
	return id
}

// Address is where a port of a service is published on this machine.
func (s *ComposeStack) Address(service string, port int) string {
	s.t.Helper()
	return strings.TrimSpace(s.Run("port", service, fmt.Sprint(port)))
}

// Logs is what a service has written.
func (s *ComposeStack) Logs(service string) string {
	s.t.Helper()
	ran := Run(s.t, dockerTime, "docker", "logs", s.Container(service))
	return ran.Stdout + ran.Stderr
}

// state is what docker-compose says of all containers.
func (s *ComposeStack) state() string {
	out, _ := s.run(context.Background(), dockerTime, "ps", "-a")
	return out
}

// finish is the end of the test.
func (s *ComposeStack) finish() {
	if s.t.Failed() {
		logs, _ := s.run(context.Background(), dockerTime, "logs", "--no-color", "--tail", "15")
		s.t.Logf("the stack at the end:\n%s\n%s", s.state(), logs)
	}
	if out, err := s.run(context.Background(), 4*time.Minute, "down", "-v", "-t", "1", "--remove-orphans"); err != nil {
		s.t.Errorf("docker-compose down: %v\n%s", err, out)
	}
}
