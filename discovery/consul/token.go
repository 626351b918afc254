package consul

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
)

// maxToken bounds a token file; Consul's tokens have 36 characters.
const maxToken = 4096

// tokenSource yields the ACL token: a fixed one, or what a file holds now.
type tokenSource struct {
	// immutable
	fixed string
	file  string
	log   *slog.Logger

	mu     sync.Mutex // guards what follows
	last   string     // last token read from the file
	failed bool       // the last read failed: said once
}

// get returns the token, empty where none is configured. A file that cannot be
// read any more leaves the last token in force; one that never could is an error.
// It reads the file each time: queries are rare, and times of change do not tell
// every change.
func (s *tokenSource) get() (string, error) {
	if s.file == "" {
		return s.fixed, nil
	}
	token, err := readToken(s.file)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.last, s.failed = token, false
		return token, nil
	}
	if s.last == "" {
		return "", err
	}
	if !s.failed {
		s.failed = true
		s.log.Warn("consul token file unreadable, last token kept", "error", err)
	}
	return s.last, nil
}

// redact takes the token out of a text that is to be shown.
func (s *tokenSource) redact(text string) string {
	s.mu.Lock()
	secrets := []string{s.fixed, s.last}
	s.mu.Unlock()
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "[redacted]")
		}
	}
	return text
}

// readToken reads one token; its errors never hold the file's content.
func readToken(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	token, err := parseToken(data)
	if err != nil {
		return "", fmt.Errorf("token file %s: %w", file, err)
	}
	return token, nil
}

// parseToken takes a token out of a file's content: one word of printable ASCII,
// with white space around it ignored.
func parseToken(data []byte) (string, error) {
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return "", errors.New("is empty")
	}
	if len(data) > maxToken {
		return "", errors.New("is too long for a token")
	}
	for _, c := range data {
		if c <= ' ' || c > '~' {
			return "", errors.New("holds more than one word, or characters a token cannot have")
		}
	}
	return string(data), nil
}
