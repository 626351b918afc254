package admin

import (
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
// its text.
func problemsOf(err error) []Problem {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		list := []Problem{}
		for _, e := range joined.Unwrap() {
			list = append(list, problemsOf(e)...)
		}
		return list
	}
	list := []Problem{}
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, parseProblem(line))
		}
	}
	return list
}

// position matches "larboard.yaml:14:7: message", the column being optional.
var position = regexp.MustCompile(`^(.+?):(\d{1,9}):(?:(\d{1,9}):)? (.*)$`)

func parseProblem(text string) Problem {
	m := position.FindStringSubmatch(text)
	if m == nil {
		return Problem{Message: text}
	}
	line, _ := strconv.Atoi(m[2])
	column, _ := strconv.Atoi(m[3]) // empty: 0
	return Problem{File: m[1], Line: line, Column: column, Message: m[4]}
}
