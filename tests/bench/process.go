//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a child of this run, bound to one CPU. It dies with its parent,
// and stop ends it by its own id.
type process struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	output *os.File
	stdout *json.Decoder // of output
	stderr lastText
	ended  chan struct{} // closed when it has been waited for
	err    error         // valid after ended
}

// startProcess starts argv on cpu. The caller stops it.
func startProcess(cpu int, name string, argv ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(argv[0], argv[1:]...), ended: make(chan struct{})}
	p.cmd.Stderr = &p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	// An *os.File of our own: Wait closes the one of StdoutPipe under the reader.
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p.cmd.Stdout = write
	p.output, p.stdout = read, json.NewDecoder(read)
	err = onCPU(cpu, p.cmd.Start)
	write.Close()
	if err != nil {
		read.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop asks, waits three seconds and then kills. It returns when the process
// has ended.
func (p *process) stop() {
	p.stdin.Close()
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(3 * time.Second):
		p.cmd.Process.Kill()
		<-p.ended
	}
	p.output.Close()
}

// decode reads the next JSON value the process prints, at most for limit; on
// ctx, on time or on an early end the process is killed.
func (p *process) decode(ctx context.Context, limit time.Duration, v any) error {
	timer := time.AfterFunc(limit, func() { p.cmd.Process.Kill() })
	defer timer.Stop()
	stop := context.AfterFunc(ctx, func() { p.cmd.Process.Kill() })
	defer stop()
	if err := p.stdout.Decode(v); err != nil {
		<-p.ended
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return p.failure(err)
	}
	return nil
}

// failure describes why a process is of no use; call it after ended.
func (p *process) failure(err error) error {
	if p.err != nil && (err == nil || errors.Is(err, io.EOF)) {
		err = p.err
	}
	return fmt.Errorf("%s: %w: %s", p.name, err, p.stderr.text())
}

// lastText keeps the last 4 KiB written to it.
type lastText struct {
	mu  sync.Mutex
	buf []byte
}

func (t *lastText) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - 4<<10; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(b), nil
}

func (t *lastText) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(bytes.ToValidUTF8(t.buf, nil)))
}
