package admin

import (
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// Problem is one thing wrong with a configuration that was refused.
type Problem struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
}

// reloadAnswer is the answer to POST /api/v1/reload.
type reloadAnswer struct {
	Applied  bool      `json:"applied"`
	Problems []Problem `json:"problems"`
}

// reload applies the configuration: 200, or 422 and the problems where it is
// refused, or 409 while another reload runs.
func (s *Server) reload(w http.ResponseWriter, _ *http.Request) {
	if !s.reloading.TryLock() {
		writeError(w, http.StatusConflict, "another reload is under way")
		return
	}
	defer s.reloading.Unlock()
	if err := s.views.Reload(); err != nil {
		writeJSON(w, http.StatusUnprocessableEntity, reloadAnswer{Problems: problemsOf(err)})
		return
	}
	writeJSON(w, http.StatusOK, reloadAnswer{Applied: true, Problems: []Problem{}})
}

// problemsOf takes an error apart: what errors.Join has joined, else the lines of
// its text. Of an error that wraps one whose text begins with a position, the
// wrapped one is taken, so that the position is found.
func problemsOf(err error) []Problem {
	list := []Problem{}
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		if joined, ok := inner.(interface{ Unwrap() []error }); ok {
			for _, e := range joined.Unwrap() {
				list = append(list, problemsOf(e)...)
			}
			return list
		}
		if position.MatchString(inner.Error()) {
			err = inner
		}
	}
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, parseProblem(line))
		}
	}
	return list
}

// position matches the beginning of "larboard.yaml:14:7: message" or "env:NAME:14:7: message",
// the column being optional.
var position = regexp.MustCompile(`^((?:env:)?[^:]+):(\d{1,9}):(?:(\d{1,9}):)? `)

func parseProblem(text string) Problem {
	m := position.FindStringSubmatch(text)
	if m == nil {
		return Problem{Message: text}
	}
	line, _ := strconv.Atoi(m[2])
	column, _ := strconv.Atoi(m[3]) // empty: 0
	return Problem{File: m[1], Line: line, Column: column, Message: text[len(m[0]):]}
}
