// Package filewatch tells when files may have changed, however they are replaced:
// written in place, renamed over, or swapped by a link as Kubernetes does it. It
// must not know what the files hold; who is told reads and compares.
package filewatch

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settle is how long files must be quiet before they are read: most writers need
	// two system calls at least.
	settle = 50 * time.Millisecond
	// settleMost bounds the wait where they are never quiet.
	settleMost = time.Second
)

// Watch calls changed at once, then whenever something happened in a directory of
// paths, and every poll, until ctx ends, whose error it returns. changed is called
// from Watch's goroutine and compares contents by itself.
//
// Directories are watched, not files: an atomic rename and Kubernetes' swap of the
// ..data link replace the file, and a watch on it would stay with the old one. The
// poll covers what inotify does not see: network file systems, links that lead out
// of the directory, a directory replaced as a whole, no watches left.
func Watch(ctx context.Context, log *slog.Logger, paths []string, poll time.Duration, changed func()) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("files are only polled", "every", poll, "error", err)
		return pollOnly(ctx, poll, changed)
	}
	defer watcher.Close()
	addDirectories(watcher, paths)
	changed()
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	var quiet settling
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case event := <-watcher.Events:
			// Reading the files must not lead to reading them again.
			if event.Op != fsnotify.Chmod {
				quiet.disturb(time.Now())
			}
		case err := <-watcher.Errors:
			log.Warn("file watch failed, the poll goes on", "error", err)
			quiet.disturb(time.Now())
		case <-quiet.over:
			quiet = settling{}
			changed()
		case <-ticker.C:
			addDirectories(watcher, paths)
			if quiet.over == nil { // else a writer is at work
				changed()
			}
		}
	}
}

// settling waits for the end of a writer's work; the zero value waits for nothing.
type settling struct {
	since time.Time // first event
	over  <-chan time.Time
}

// disturb puts the end off, within bounds.
func (s *settling) disturb(now time.Time) {
	if s.over == nil {
		s.since = now
	}
	if s.over == nil || now.Sub(s.since) < settleMost {
		s.over = time.After(settle)
	}
}

func pollOnly(ctx context.Context, poll time.Duration, changed func()) error {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		changed()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// addDirectories adds what is not watched yet; a directory that does not exist is
// tried again at the next poll.
func addDirectories(watcher *fsnotify.Watcher, paths []string) {
	watched := watcher.WatchList()
	for _, path := range paths {
		if dir := filepath.Dir(path); !slices.Contains(watched, dir) && watcher.Add(dir) == nil {
			watched = append(watched, dir)
		}
	}
}
