package identity

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long files must be quiet before they are read: the writer of a
// pair needs two system calls at least.
const settle = 50 * time.Millisecond

// watchFiles calls changed at once, then whenever something happened in a
// directory of paths, and every poll, until ctx ends, whose error it returns.
// changed compares contents by itself.
//
// Directories are watched, not files: an atomic rename and Kubernetes' swap of the
// ..data link replace the file, and a watch on it would stay with the old one. The
// poll covers what inotify does not see: network file systems, links that lead out
// of the directory, a directory replaced as a whole, no watches left.
func watchFiles(ctx context.Context, log *slog.Logger, paths []string, poll time.Duration, changed func()) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("files are only polled", "every", poll, "error", err)
		return pollFiles(ctx, poll, changed)
	}
	defer watcher.Close()
	addDirectories(watcher, paths)
	changed()
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	quiet := time.NewTimer(settle)
	quiet.Stop()
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case event := <-watcher.Events:
			// Reading the files must not lead to reading them again.
			if event.Op != fsnotify.Chmod {
				quiet.Reset(settle)
			}
		case err := <-watcher.Errors:
			log.Warn("file watch failed, the poll goes on", "error", err)
			quiet.Reset(settle)
		case <-quiet.C:
			changed()
		case <-ticker.C:
			addDirectories(watcher, paths)
			changed()
		}
	}
}

func pollFiles(ctx context.Context, poll time.Duration, changed func()) error {
	for {
		changed()
		if err := pause(ctx, poll, nil); err != nil {
			return err
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
