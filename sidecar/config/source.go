package config

import (
	"fmt"
	"strings"
)

// source remembers where in the file each field stood.
type source struct {
	file      string
	positions map[string]position // by path
	lone      map[string]string   // the field that is meant, by the path of a lone text
}

type position struct{ line, column int }

// at returns the position of the field at path, or that of the nearest thing
// around it that the file holds.
func (s *source) at(path string) position {
	for {
		if p, ok := s.positions[path]; ok || path == "" {
			return p
		}
		path = parentPath(path)
	}
}

// has reports whether the file itself holds the field at path.
func (s *source) has(path string) bool {
	_, ok := s.positions[path]
	return ok
}

// elementPath is the path of a list's element, or of the list itself where the
// file has a lone value in its place.
func (s *source) elementPath(path string, i int) string {
	if at := fmt.Sprintf("%s[%d]", path, i); s.has(at) {
		return at
	}
	return path
}

// Given reports whether the file itself holds the field at path.
func (c *Config) Given(path string) bool { return c.source.has(path) }

// ProblemAt returns a problem with the field at path (like
// "listeners[0].tls.certificates[1].key"), placed where the field stands in the
// file or, where the file leaves it out, at what surrounds it. It is for those
// who find out more than this package can, such as that a file is missing.
func (c *Config) ProblemAt(path, message string) Problem {
	at := c.source.at(path)
	return Problem{File: c.source.file, Line: at.line, Column: at.column, Path: path, Message: message}
}

// parentPath cuts the last step off path: a.b[2] becomes a.b, a.b becomes a.
func parentPath(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// join adds a field's name to path.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
