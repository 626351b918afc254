package accesslog

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/larboard-proxy/larboard/observability"
)

// Set is the access logs in force, which change at a reload. The zero value holds none.
type Set struct {
	logs atomic.Pointer[[]*Log]

	mu      sync.Mutex // guards what follows
	retired map[string]Counts
	ending  []*Log // out of force, not yet retired
}

// Counts is what became of the lines of a log, or of several of one name.
type Counts struct {
	Written uint64 // handed to the sink
	Dropped uint64 // found no room in the ring
	Failed  uint64 // were lost by the sink
	Skipped uint64 // were left out by the log's conditions, or not drawn in the sample
}

func (c *Counts) add(other Counts) {
	c.Written += other.Written
	c.Dropped += other.Dropped
	c.Failed += other.Failed
	c.Skipped += other.Skipped
}

// Observe tells every log of the record. It implements observability.Observer.
func (s *Set) Observe(r *observability.Record) {
	for _, l := range s.all() {
		l.Observe(r)
	}
}

func (s *Set) all() []*Log {
	if logs := s.logs.Load(); logs != nil {
		return *logs
	}
	return nil
}

// Swap brings logs into force and returns those that no longer are. A loop may still be in
// their Observe: they are to run until every loop has made a turn, and then to be given to
// Retire. One goroutine at a time.
func (s *Set) Swap(logs []*Log) (gone []*Log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.all() {
		if !slices.Contains(logs, l) {
			gone = append(gone, l)
		}
	}
	s.ending = append(s.ending, gone...)
	s.logs.Store(&logs)
	return gone
}

// Retire forgets a log whose Run has returned, but not what it has counted. One that is still
// in force stays.
func (s *Set) Retire(l *Log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.ending, l) {
		return
	}
	s.ending = slices.DeleteFunc(s.ending, func(e *Log) bool { return e == l })
	if s.retired == nil {
		s.retired = map[string]Counts{}
	}
	c := s.retired[l.name]
	c.add(l.Counts())
	s.retired[l.name] = c
}

// Counts returns what became of the lines by the name of their log, those of logs that
// are no longer in force included.
func (s *Set) Counts() map[string]Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]Counts{}
	for name, c := range s.retired {
		out[name] = c
	}
	for _, l := range slices.Concat(s.all(), s.ending) {
		c := out[l.name]
		c.add(l.Counts())
		out[l.name] = c
	}
	return out
}

// Reopen opens the files of all logs anew and returns the names of those that have one.
// Where that fails, the old file stays in use.
func (s *Set) Reopen() (names []string, err error) {
	var errs []error
	for _, l := range s.all() {
		switch reopened, err := l.Reopen(); {
		case err != nil:
			errs = append(errs, err)
		case reopened:
			names = append(names, l.name)
		}
	}
	return names, errors.Join(errs...)
}
