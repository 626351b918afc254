// Package file finds endpoints in a file that others write: a template engine, a
// deployment, a ConfigMap. It exists so that the last good content outlives
// whatever happens to the file. It must not know of configuration files,
// balancing or the proxy.
package file

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/discovery/filewatch"
)

const (
	// maxSize bounds a file, in bytes.
	maxSize = 8 << 20
	// DefaultPoll is how often a file is read although nothing was heard of it.
	DefaultPoll = 5 * time.Second
)

// Options of a source. Path is required.
type Options struct {
	Path string
	// Poll is how often the file is read although nothing was heard of it; 0:
	// DefaultPoll.
	Poll time.Duration
	// Log gets what concerns the watch; nil discards.
	Log *slog.Logger
}

// Spec returns what a discovery.Set needs to read the endpoints of o.
func Spec(o Options) discovery.Spec {
	return discovery.Spec{
		Key:  fmt.Sprintf("file %q %v", o.Path, o.Poll),
		From: name(o.Path),
		New:  func() discovery.Source { return New(o) },
	}
}

func name(path string) string { return "file:" + path }

// source watches one file; what follows options is owned by Run.
type source struct {
	options Options

	last  string // content of the last good read
	index uint64 // of the last good content
	away  bool   // the last read was no good
	fault string // why
}

// New returns a source for the endpoints in a file. A file that is missing,
// unreadable or wrong in any place is a failure, never a smaller set.
func New(o Options) discovery.Source {
	if o.Poll <= 0 {
		o.Poll = DefaultPoll
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &source{options: o}
}

// Run implements discovery.Source. It returns ctx's error only.
func (s *source) Run(ctx context.Context, out func(discovery.Update)) error {
	return filewatch.Watch(ctx, s.options.Log, []string{s.options.Path}, s.options.Poll, func() { s.look(out) })
}

// look reads the file and reports what is news.
func (s *source) look(out func(discovery.Update)) {
	content, err := read(s.options.Path)
	if err == nil && s.index > 0 && content == s.last {
		if s.away {
			s.away, s.fault = false, ""
			out(discovery.Update{Endpoints: s.parsed(), Index: s.index, At: time.Now()})
		}
		return
	}
	var endpoints []discovery.Endpoint
	if err == nil {
		endpoints, err = parse(s.options.Path, content)
	}
	if err != nil {
		news := err.Error() != s.fault
		s.away, s.fault = true, err.Error()
		out(discovery.Update{Err: fmt.Errorf("file: %w", err), News: news, At: time.Now()})
		return
	}
	s.last, s.away, s.fault = content, false, ""
	s.index++
	out(discovery.Update{Endpoints: endpoints, Index: s.index, At: time.Now()})
}

// parsed is the last good content again.
func (s *source) parsed() []discovery.Endpoint {
	endpoints, err := parse(s.options.Path, s.last)
	if err != nil {
		panic(err) // it was parsed before
	}
	return endpoints
}

// read returns the content of a regular file. Opening does not wait for the writer
// of a named pipe.
func read(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return "", err
	}
	if len(data) > maxSize {
		return "", fmt.Errorf("%s is larger than %d MiB", path, maxSize>>20)
	}
	return string(data), nil
}
