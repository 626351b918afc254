package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"time"

	"github.com/larboard-proxy/larboard/observability/accesslog"
	"github.com/larboard-proxy/larboard/observability/accesslog/template"
	"github.com/larboard-proxy/larboard/observability/metrics"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

// accessLogs are the access logs in force and what they were made of. A reload keeps those
// whose configuration has not changed.
type accessLogs struct {
	set     accesslog.Set
	running []*runningLog // guarded by Sidecar.applying
}

// runningLog is one access log that is in force, or about to be.
type runningLog struct {
	conf config.AccessLog
	log  *accesslog.Log
	end  context.CancelFunc // of its Run; nil: it does not run yet
}

// prepare opens the logs of a configuration, but for those that are in force already.
func (a *accessLogs) prepare(list config.AccessLogs, loops int, log *slog.Logger) (logs []*runningLog, err error) {
	for _, conf := range list {
		if conf.Path == config.AccessLogOff && conf.Syslog == nil {
			continue
		}
		one := a.find(conf)
		if one == nil {
			opened, err := openAccessLog(conf, loops, log)
			if err != nil {
				a.abandon(logs)
				return nil, err
			}
			one = &runningLog{conf: conf, log: opened}
		}
		logs = append(logs, one)
	}
	return logs, nil
}

func (a *accessLogs) find(conf config.AccessLog) *runningLog {
	for _, r := range a.running {
		if reflect.DeepEqual(r.conf, conf) {
			return r
		}
	}
	return nil
}

// abandon closes those of logs that prepare has opened.
func (a *accessLogs) abandon(logs []*runningLog) {
	for _, r := range logs {
		if a.find(r.conf) == nil {
			r.log.Close()
		}
	}
}

// begin brings logs into force and returns those that no longer are, which still run.
func (a *accessLogs) begin(logs []*runningLog) (gone []*runningLog) {
	all := make([]*accesslog.Log, len(logs))
	for i, r := range logs {
		all[i] = r.log
	}
	left := a.set.Swap(all)
	for _, r := range a.running {
		for _, l := range left {
			if r.log == l {
				gone = append(gone, r)
			}
		}
	}
	a.running = logs
	return gone
}

func openAccessLog(conf config.AccessLog, loops int, log *slog.Logger) (*accesslog.Log, error) {
	format, err := logFormat(conf)
	if err != nil {
		return nil, err
	}
	o := accesslog.Options{Name: conf.Name, Loops: loops, Format: format, Logger: log, RingBytes: int(conf.Buffer)}
	if o.When, err = logConditions(conf); err != nil {
		return nil, err
	}
	switch {
	case conf.Syslog != nil:
		if o.Syslog, err = syslogOptions(conf.Syslog); err != nil {
			return nil, err
		}
	case conf.Path != config.AccessLogStdout:
		o.Path = conf.Path
	}
	return accesslog.New(o)
}

func syslogOptions(conf *config.Syslog) (*accesslog.SyslogOptions, error) {
	network, address, _ := strings.Cut(conf.Address, "://")
	facility, err1 := accesslog.SyslogFacility(conf.Facility)
	level, err2 := accesslog.SyslogLevel(conf.Level)
	errorLevel, err3 := accesslog.SyslogLevel(conf.ErrorLevel)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	o := &accesslog.SyslogOptions{Network: network, Address: address, Facility: facility, Level: level, ErrorLevel: errorLevel,
		Tag: conf.Tag, Host: conf.Host, OctetCounting: conf.Framing == config.FramingOctets, MaxLength: int(conf.MaxLength)}
	if conf.Format == config.SyslogRFC3164 {
		o.Format = accesslog.SyslogRFC3164
	}
	return o, nil
}

// logConditions returns nil where a log has a line for each exchange.
func logConditions(conf config.AccessLog) (*accesslog.Conditions, error) {
	w := conf.When
	if w == nil && conf.Sample == nil {
		return nil, nil
	}
	c := &accesslog.Conditions{}
	if w != nil {
		*c = accesslog.Conditions{Failed: w.Failed, SlowerThan: w.SlowerThan.D(), Direction: string(w.Direction), Listeners: w.Listeners,
			Services: w.Services, SkipPaths: w.SkipPaths, SkipAgents: w.SkipAgents, SkipEmpty: w.SkipEmpty}
		for _, s := range w.Status {
			c.Status = append(c.Status, accesslog.StatusRange{From: s.From, To: s.To})
		}
		for _, code := range w.Reasons {
			r, ok := reasonOf(code)
			if !ok {
				return nil, fmt.Errorf("access log: there is no reason %q", code)
			}
			c.Reasons = append(c.Reasons, r)
		}
	}
	if s := conf.Sample; s != nil {
		c.Sample = accesslog.Sample{Rate: float64(s.Rate), Random: s.By == config.SampleByChance, Failures: s.Failures}
	}
	return c, nil
}

func reasonOf(code string) (policy.Reason, bool) {
	for _, r := range policy.Reasons() {
		if r.String() == code {
			return r, true
		}
	}
	return 0, false
}

func logFormat(conf config.AccessLog) (*accesslog.Format, error) {
	captures := accesslog.Captures{Request: captured(conf.Capture.Request), Response: captured(conf.Capture.Response)}
	if conf.Template == "" {
		return accesslog.Preset(conf.Format, captures)
	}
	escape, _ := template.ParseEscape(conf.Escape) // empty: the first one
	return accesslog.Compile(string(conf.Template), escape, captures)
}

func captured(fields []config.CapturedField) (all []accesslog.Capture) {
	for _, f := range fields {
		all = append(all, accesslog.NewCapture(f.Name, f.Length))
	}
	return all
}

// runAccessLogs starts the logs in force that do not run yet. applying is held, or nothing
// else runs yet.
func (s *Sidecar) runAccessLogs() {
	for _, r := range s.access.running {
		if r.end != nil {
			continue
		}
		ctx, cancel := context.WithCancel(s.ctx)
		r.end = cancel
		s.run("access log", func() error {
			defer cancel()
			defer s.access.set.Retire(r.log)
			return r.log.Run(ctx)
		})
	}
}

// switchAccessLogs brings logs into force. Those that no longer are have written what they
// hold once every loop has seen the change.
func (s *Sidecar) switchAccessLogs(logs []*runningLog) {
	gone := s.access.begin(logs)
	s.runAccessLogs()
	for _, r := range gone {
		s.run("access log", func() error {
			s.awaitLoops(s.ctx)
			r.end()
			return nil
		})
	}
}

// loopTurnWithin is more than a loop that lives takes for a turn.
const loopTurnWithin = 5 * time.Second

// awaitLoops returns when each loop has made a turn, or has none to make any more.
func (s *Sidecar) awaitLoops(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, loopTurnWithin)
	defer cancel()
	loops := s.engine.Loops()
	turned := make(chan struct{}, len(loops))
	for _, l := range loops {
		l.Post(func() { turned <- struct{}{} })
	}
	for range loops {
		select {
		case <-turned:
		case <-ctx.Done():
			return
		}
	}
}

// ReopenLogs opens the files of all access logs anew, after they were renamed, and returns the
// names of those logs. Its outcome is logged. Any goroutine.
func (s *Sidecar) ReopenLogs() ([]string, error) {
	names, err := s.access.set.Reopen()
	if err != nil {
		s.log.Error("access logs not reopened: the old files stay in use", "error", err)
		return names, fmt.Errorf("the old files stay in use: %w", err)
	}
	s.log.Info("access logs reopened", "logs", names)
	return names, nil
}

func (s *Sidecar) registerAccessLogs() {
	s.metrics.Register(metrics.AccessLogDropped, func(emit metrics.Emit) {
		var n uint64
		for _, c := range s.access.set.Counts() {
			n += c.Dropped + c.Failed
		}
		emit(float64(n))
	})
	s.metrics.Register(metrics.AccessLogLines, func(emit metrics.Emit) {
		for name, c := range s.access.set.Counts() {
			emit(float64(c.Written), name, "written")
			emit(float64(c.Dropped), name, "dropped")
			emit(float64(c.Failed), name, "failed")
			emit(float64(c.Skipped), name, "skipped")
		}
	})
}
