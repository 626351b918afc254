// Package child runs one process below ours: an application beside its proxy. It exists
// because os/exec reaps that process alone, and as the first process of a container we
// inherit the orphans of all others. It must not know what the process is for.
package child

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Options say what to run and how.
type Options struct {
	// Command is the program and its arguments; the program is looked for as a shell does.
	Command []string
	// OwnGroup puts it into a process group of its own, which the signals of a terminal do
	// not reach and which Kill ends as a whole.
	OwnGroup bool
	// Without are variables of our environment that it does not get.
	Without []string
	// OnThread, where set, is called on the thread that starts it, just before.
	OnThread func()
}

// Child is one process that is started once at most. Its methods are safe for concurrent
// use. Where our process dies, it is sent SIGTERM (Linux).
type Child struct {
	// immutable after New
	path    string
	options Options
	ended   chan struct{}

	mu      sync.Mutex // guards what follows; held for moments
	process *os.Process
	over    bool           // it has ended, or is never to start
	end     syscall.Signal // what End sends

	status syscall.WaitStatus // read after ended
}

// ErrAbandoned is that Abandon was called before Start.
var ErrAbandoned = errors.New("it is not to be started any more")

// New finds the program; nothing runs yet. Errors: those of exec.LookPath.
func New(o Options) (*Child, error) {
	path, err := exec.LookPath(o.Command[0])
	if err != nil {
		return nil, err
	}
	return &Child{path: path, options: o, ended: make(chan struct{}), end: syscall.SIGTERM}, nil
}

// Path is the program that was found.
func (c *Child) Path() string { return c.path }

// Start starts it with our standard streams, directory and environment, and returns once it
// runs. Once.
func (c *Child) Start() error {
	started := make(chan error, 1)
	go c.run(started)
	return <-started
}

// run starts it and waits for it, on one thread: the kernel takes the end of the thread
// that has started it for that of the parent.
func (c *Child) run(started chan<- error) {
	runtime.LockOSThread() // for good: the thread goes with the goroutine
	p, err := c.start()
	started <- err
	if err != nil {
		return
	}
	which := p.Pid
	if os.Getpid() == 1 {
		which = -1 // orphans are ours, too
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(which, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			c.finish(status) // nobody is left
			return
		case pid == p.Pid:
			c.finish(status)
		}
	}
}

func (c *Child) start() (*os.Process, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return nil, ErrAbandoned
	}
	if c.options.OnThread != nil {
		c.options.OnThread()
	}
	p, err := os.StartProcess(c.path, c.options.Command, &os.ProcAttr{
		Env: c.environment(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Sys: attributes(c.options.OwnGroup),
	})
	if err != nil {
		return nil, err
	}
	c.process = p
	return p, nil
}

func (c *Child) environment() []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.Contains(c.options.Without, name)
	})
}

// finish notes how it has ended; the first time counts.
func (c *Child) finish(status syscall.WaitStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	c.over, c.status = true, status
	close(c.ended)
}

// Abandon sees to it that it is never started; one that runs is left alone.
func (c *Child) Abandon() {
	c.mu.Lock()
	running := c.process != nil
	c.mu.Unlock()
	if !running {
		c.finish(0)
	}
}

// Signal sends it a signal, if it runs.
func (c *Child) Signal(s os.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil && !c.over {
		_ = c.process.Signal(s) // the only error left is that it has just ended
	}
}

// EndWith has End send s in place of SIGTERM.
func (c *Child) EndWith(s syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end = s
}

// End asks it to end and returns at once; any number of times.
func (c *Child) End() {
	c.mu.Lock()
	s := c.end
	c.mu.Unlock()
	c.Signal(s)
}

// Kill ends it at once, with its process group where that is its own.
func (c *Child) Kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil || c.over {
		return
	}
	if c.options.OwnGroup {
		_ = syscall.Kill(-c.process.Pid, syscall.SIGKILL)
	}
	_ = c.process.Kill()
}

// Ended is closed once it has ended, or is never to start.
func (c *Child) Ended() <-chan struct{} { return c.ended }

// Running reports whether it was started and has not ended.
func (c *Child) Running() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process != nil && !c.over
}

// Started reports whether it was started.
func (c *Child) Started() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process != nil
}

// Code is its exit code, as a shell tells it: 128 and the signal's number where a signal
// has ended it. Only after Ended.
func (c *Child) Code() int {
	if c.status.Signaled() {
		return 128 + int(c.status.Signal())
	}
	return c.status.ExitStatus()
}
