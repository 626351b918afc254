package real

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// stopTime is what a server gets to end by itself.
const stopTime = 10 * time.Second

// process is one run of a server. Its methods are for one goroutine, except that
// exited may be waited for anywhere.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has been waited for
	err    error         // of Wait; read after exited
}

// startProcess runs a binary with both outputs appended to a log file. It dies
// with the test process.
func startProcess(binary, logFile string, args ...string) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &process{cmd: exec.Command(binary, args...), exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = dieWithUs()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", binary, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// pid is the process id.
func (p *process) pid() int { return p.cmd.Process.Pid }

// signal sends one signal; a process that has ended is no error.
func (p *process) signal(s os.Signal) error {
	err := p.cmd.Process.Signal(s)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// stop ends the process, frozen or not: politely, then not. It returns when the
// process has gone.
func (p *process) stop() { p.stopWithin(stopTime) }

// stopWithin is stop with another time to end by itself.
func (p *process) stopWithin(d time.Duration) {
	_ = p.signal(syscall.SIGTERM)
	_ = p.signal(syscall.SIGCONT)
	polite := time.NewTimer(d)
	defer polite.Stop()
	select {
	case <-p.exited:
	case <-polite.C:
		p.kill()
	}
}

// kill ends the process without a chance to say goodbye.
func (p *process) kill() {
	_ = p.signal(syscall.SIGKILL)
	<-p.exited
}
