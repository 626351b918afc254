package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/larboard-proxy/larboard/sidecar"
	"github.com/larboard-proxy/larboard/sidecar/child"
)

// endWithin is what an application gets to end where its proxy has failed.
const endWithin = 10 * time.Second

// killWithin is what the kernel gets to end a process.
const killWithin = 5 * time.Second

// server is a proxy that serves, what signals mean for it, and the application below it.
type server struct {
	sidecar *sidecar.Sidecar
	log     *slog.Logger
	app     *child.Child  // nil: none
	within  time.Duration // what the proxy has to become ready before app is started

	signalled bool // to end
	failed    error
}

// run serves until the proxy has ended, and then the application.
func (s *server) run() error {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, s.heeded()...)
	defer signal.Stop(signals)
	// A reader of the log that leaves must not take us along. Ignoring the signal would have
	// the application ignore it, too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.sidecar.Run(ctx) }()
	ready, ended := s.whenReady(ctx)
	// Their outcomes are logged.
	reload, endReloads := coalesced(func() {
		notify(notifyReloading())
		_ = s.sidecar.Reload()
		notify(notifyReady)
	})
	defer endReloads()
	reopen, endReopens := coalesced(func() { _, _ = s.sidecar.ReopenLogs() })
	defer endReopens()
	for {
		select {
		case err := <-done:
			return s.outcome(err)
		case err := <-ready:
			if err != nil {
				s.failed = err
				s.sidecar.Stop()
			}
		case <-ended:
			ended = nil
			if s.app.Started() {
				s.log.Info("the application has ended", "code", s.app.Code())
				s.sidecar.Stop()
			}
		case sig := <-signals:
			switch {
			case sig == syscall.SIGHUP:
				reload()
			case sig == syscall.SIGUSR1 && s.app == nil:
				reopen()
			case sig == syscall.SIGTERM || sig == os.Interrupt:
				s.terminate(sig, cancel)
			default:
				s.app.Signal(sig)
			}
		}
	}
}

// heeded are the signals that mean something to us or are passed on.
func (s *server) heeded() []os.Signal {
	own := []os.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGTERM, os.Interrupt}
	if s.app != nil {
		own = append(own, syscall.SIGQUIT, syscall.SIGUSR2, syscall.SIGWINCH)
	}
	return own
}

// terminate begins the drain, at whose right moment the application gets the signal; the
// second time everything ends at once.
func (s *server) terminate(sig os.Signal, cancel context.CancelFunc) {
	if s.signalled {
		s.log.Warn("second signal: ending at once")
		if s.app != nil {
			s.app.Kill()
		}
		cancel()
		return
	}
	s.signalled = true
	if s.app != nil {
		s.app.EndWith(sig.(syscall.Signal))
	}
	s.sidecar.Stop()
}

// whenReady starts the application once the proxy is ready, and tells the service manager.
// The first channel tells whether that went well; the second is closed when the
// application has ended, or is not to start.
func (s *server) whenReady(ctx context.Context) (ready <-chan error, ended <-chan struct{}) {
	told := make(chan error, 1)
	go func() {
		<-s.sidecar.Stopping()
		notify(notifyStopping)
	}()
	if s.app == nil {
		go func() {
			if s.sidecar.AwaitReady(ctx) == nil {
				notify(notifyReady)
			}
		}()
		return nil, nil
	}
	go func() { told <- s.startApplication(ctx) }()
	return told, s.app.Ended()
}

func (s *server) startApplication(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.within)
	defer cancel()
	err := s.sidecar.AwaitReady(ctx)
	if err == nil {
		notify(notifyReady)
		s.log.Info("starting the application")
		if err = s.app.Start(); err != nil {
			err = fmt.Errorf("the application cannot be started: %w", err)
		}
	} else {
		err = fmt.Errorf("the proxy is not ready after %s, and the application was not started: %w", s.within, err)
	}
	if err == nil {
		return nil
	}
	s.app.Abandon()
	if s.sidecar.Draining() {
		return nil // we were told to end before
	}
	return err
}

// outcome ends an application that is still there, and makes an exit code of how all has
// ended: the application's, unless we have failed.
func (s *server) outcome(err error) error {
	if s.app == nil || !s.app.Started() {
		if s.app != nil {
			s.app.Abandon()
		}
		return ended(errors.Join(s.failed, err))
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		s.log.Error("the proxy has failed: ending the application", "error", err)
		s.app.End()
		await(s.app.Ended(), endWithin)
	}
	if s.app.Running() {
		s.log.Warn("the application has not ended in time and is killed")
		s.app.Kill()
		await(s.app.Ended(), killWithin)
	}
	switch {
	case err != nil:
		return ended(err)
	case s.app.Running():
		return errors.New("the application does not end")
	case s.app.Code() != 0:
		return &ExitError{Code: s.app.Code()}
	}
	return nil
}

// ended words a drain that was cut short.
func ended(err error) error {
	if errors.Is(err, context.Canceled) {
		return &ExitError{Code: exitFailed, Err: errors.New("ended before the drain was over")}
	}
	return err
}

func await(c <-chan struct{}, within time.Duration) {
	select {
	case <-c:
	case <-time.After(within):
	}
}

// coalesced returns a function that has f called beside the caller; calls that come while
// one waits are one. end is to be called at last.
func coalesced(f func()) (call, end func()) {
	calls := make(chan struct{}, 1)
	go func() {
		for range calls {
			f()
		}
	}()
	call = func() {
		select {
		case calls <- struct{}{}:
		default:
		}
	}
	return call, func() { close(calls) }
}
