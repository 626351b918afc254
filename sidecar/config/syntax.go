package config

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds the size of a configuration file.
const maxFile = 8 << 20

// parse turns data into its one YAML document; nil with a problem where there is
// none, nil without a problem for an empty file. Text that is no YAML gives one
// problem, since everything after it would be guesswork.
func parse(name string, data []byte) (*yaml.Node, *Problem) {
	if len(data) > maxFile {
		return nil, &Problem{File: name, Message: fmt.Sprintf("the file is larger than %s", Size(maxFile))}
	}
	if p := badText(name, data); p != nil {
		return nil, p
	}
	lines := &lineReader{rest: data}
	decoder := yaml.NewDecoder(lines)
	var document, second yaml.Node
	switch err := decoder.Decode(&document); {
	case err == io.EOF:
		return nil, nil
	case err != nil:
		return nil, syntaxProblem(name, data, lines.lines, err)
	}
	switch err := decoder.Decode(&second); {
	case err == io.EOF:
		return document.Content[0], nil
	case err != nil:
		return nil, syntaxProblem(name, data, lines.lines, err)
	}
	return nil, &Problem{File: name, Line: second.Line, Column: second.Column,
		Message: "a second document begins here; a configuration file holds one"}
}

// Documents parses a stream of YAML documents, as other programs' files hold them: each is a
// DocumentNode with positions. Text that is no YAML gives one problem. It is pure.
func Documents(name string, data []byte) ([]*yaml.Node, *Problem) {
	if len(data) > maxFile {
		return nil, &Problem{File: name, Message: fmt.Sprintf("the file is larger than %s", Size(maxFile))}
	}
	if p := badText(name, data); p != nil {
		return nil, p
	}
	lines := &lineReader{rest: data}
	decoder := yaml.NewDecoder(lines)
	var all []*yaml.Node
	for {
		document := &yaml.Node{}
		switch err := decoder.Decode(document); {
		case err == io.EOF:
			return all, nil
		case err != nil:
			return nil, syntaxProblem(name, data, lines.lines, err)
		}
		all = append(all, document)
	}
}

// lineReader hands out one line at a time and counts them, which tells how far
// the parser came: the library names no column, and often the line where an outer
// structure began.
type lineReader struct {
	rest  []byte
	lines int
}

func (r *lineReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := len(r.rest)
	if end := bytes.IndexByte(r.rest, '\n'); end >= 0 {
		n = end + 1
	}
	n = copy(p, r.rest[:n])
	if r.rest[n-1] == '\n' || n == len(r.rest) {
		r.lines++
	}
	r.rest = r.rest[n:]
	return n, nil
}

// badText finds bytes that no YAML file may hold.
func badText(name string, data []byte) *Problem {
	line, start := 1, 0
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		message := ""
		switch {
		case r == utf8.RuneError && n == 1:
			message = fmt.Sprintf("the file is not UTF-8: byte 0x%02x", data[i])
		case r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == 0x7f:
			message = fmt.Sprintf("control character 0x%02x", data[i])
		case r == '\n':
			line, start = line+1, i+1
		}
		if message != "" {
			return &Problem{File: name, Line: line, Column: 1 + utf8.RuneCount(data[start:i]), Message: message}
		}
		i += n
	}
	return nil
}

// syntaxProblem places a parser's error. A tab used for indentation is by far the
// commonest cause and has its own words.
func syntaxProblem(name string, data []byte, reached int, err error) *Problem {
	lines := strings.SplitAfter(string(data), "\n")
	reached = min(max(reached, 1), len(lines))
	for i, line := range lines[:reached] {
		indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
		if tab := strings.IndexByte(indent, '\t'); tab >= 0 {
			return &Problem{File: name, Line: i + 1, Column: tab + 1, Message: "a tab in the indentation; YAML allows only spaces"}
		}
	}
	line := brokenLine(lines, reached)
	text := lines[line-1]
	column := 1 + len(text) - len(strings.TrimLeft(text, " "))
	return &Problem{File: name, Line: line, Column: column, Message: "not YAML: " + cause(err)}
}

// lookBack bounds how many lines before the parser's stop are tried.
const lookBack = 64

// brokenLine returns the number of the line that breaks the document: the one
// after the longest readable beginning. An open quote or bracket is so reported
// where it was opened and not at the end of the file.
func brokenLine(lines []string, reached int) int {
	for end := reached - 1; end > 0 && end > reached-lookBack; end-- {
		if readable(strings.Join(lines[:end], "")) && strings.TrimSpace(lines[end]) != "" {
			return end + 1
		}
	}
	return reached
}

// readable reports whether text is YAML, in however many documents.
func readable(text string) bool {
	decoder := yaml.NewDecoder(strings.NewReader(text))
	for {
		var ignored yaml.Node
		if err := decoder.Decode(&ignored); err != nil {
			return err == io.EOF
		}
	}
}

// cause is the library's message without its prefix and its line.
func cause(err error) string {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if strings.HasPrefix(text, "line ") {
		if _, after, ok := strings.Cut(text, ": "); ok {
			return after
		}
	}
	return text
}
