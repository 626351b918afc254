// Package template is the language that lines of the access log are described in: what
// can be named, how a template is read, and the templates of the presets. It exists
// apart from package accesslog, which turns templates into lines, so that whoever reads a
// configuration can say what is wrong with a template and where, without knowing how lines are
// made. It is pure and must not know of records, sinks or configuration files.
//
// A template is literal text with
//
//	%{NAME}                  a value, see Fields
//	%{NAME(ARGUMENT, ...)}   with arguments
//	%{NAME|MODIFIER|...}     changed by modifiers, see Modifiers
//	%( ... %)                a group, which is left out where a value in it is empty
//	%%                       a percent sign
//
// Outside of groups an empty value is shown as a dash, unless `or` says otherwise.
package template

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

const (
	// MaxLength bounds a template, in bytes.
	MaxLength = 8 << 10
	// maxProblems bounds what is reported of one template.
	maxProblems = 20
)

// Kind is what a Part is.
type Kind uint8

// The kinds.
const (
	Literal Kind = iota
	Value
	Open  // a group begins
	Close // and ends
)

// Part is one piece of a template.
type Part struct {
	Kind Kind
	Text string // of a Literal
	// Of a Value:
	Name      string
	Args      []string
	Modifiers []Modifier
}

// Modifier changes how a value is shown.
type Modifier struct{ Name, Arg string }

// Modifier returns the argument of a modifier; the last one of a name counts.
func (p *Part) Modifier(name string) (arg string, ok bool) {
	for _, m := range p.Modifiers {
		if m.Name == name {
			arg, ok = m.Arg, true
		}
	}
	return arg, ok
}

// Problem is one thing that is wrong with a template.
type Problem struct {
	Offset  int // in the template, in bytes
	Message string
	// Word is what is unknown, and Known what could stand there instead; empty: no guess
	// makes sense.
	Word  string
	Known []string
}

// Parse takes a template apart. Where there are problems the parts must not be used.
func Parse(text string) ([]Part, []Problem) {
	p := parser{text: text}
	if len(text) > MaxLength {
		p.report(0, fmt.Sprintf("the template is longer than %d bytes", MaxLength))
		return nil, p.problems
	}
	p.template()
	return p.parts, p.problems
}

type parser struct {
	text     string
	at       int // what is read next
	parts    []Part
	problems []Problem
	group    int // offset of the open group; -1: none
	values   int // in the open group
}

func (p *parser) report(offset int, message string) { p.unknown(offset, message, "", nil) }

func (p *parser) unknown(offset int, message, word string, known []string) {
	if len(p.problems) < maxProblems {
		p.problems = append(p.problems, Problem{offset, message, word, known})
	}
}

func (p *parser) template() {
	p.group = -1
	for p.at < len(p.text) {
		i := strings.IndexByte(p.text[p.at:], '%')
		if i < 0 {
			p.literal(p.text[p.at:])
			p.at = len(p.text)
			break
		}
		p.literal(p.text[p.at : p.at+i])
		p.at += i
		p.escape()
	}
	if p.group >= 0 {
		p.report(p.group, "the group has no end; write %) where it ends")
	}
	if len(p.text) == 0 {
		p.report(0, "the template is empty")
	}
}

func (p *parser) literal(text string) {
	if i := strings.IndexFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\t' }); i >= 0 {
		p.report(p.at+i, "a control character would break the line; a template is one line")
	}
	if text == "" {
		return
	}
	if n := len(p.parts); n > 0 && p.parts[n-1].Kind == Literal {
		p.parts[n-1].Text += text
		return
	}
	p.parts = append(p.parts, Part{Kind: Literal, Text: text})
}

// escape reads what a percent sign introduces.
func (p *parser) escape() {
	begin, next := p.at, byte(0)
	if p.at+1 < len(p.text) {
		next = p.text[p.at+1]
	}
	p.at = min(p.at+2, len(p.text))
	switch next {
	case '%':
		p.literal("%")
	case '{':
		p.value(begin)
	case '(':
		if p.group >= 0 {
			p.report(begin, "groups cannot stand in groups")
		}
		p.group, p.values = begin, 0
		p.parts = append(p.parts, Part{Kind: Open})
	case ')':
		switch {
		case p.group < 0:
			p.report(begin, "no group is open here; write %( where it begins")
		case p.values == 0:
			p.report(p.group, "the group holds no value, and would never be left out")
		}
		p.group = -1
		p.parts = append(p.parts, Part{Kind: Close})
	default:
		p.report(begin, "a percent sign begins %{NAME}, %( or %); write %% for the sign itself")
	}
}

// value reads NAME(ARGUMENTS)|MODIFIERS} and what it means.
func (p *parser) value(begin int) {
	p.values++
	end := p.closing()
	if end < 0 {
		p.report(begin, "the value has no end; write } after its name")
		p.at = len(p.text)
		return
	}
	body, at := p.text[p.at:end], p.at
	p.at = end + 1
	pieces := splitOutside(body, '|')
	part := Part{Kind: Value}
	var offset int
	part.Name, part.Args, offset = call(pieces[0], at)
	p.field(&part, offset)
	at += len(pieces[0]) + 1
	for _, piece := range pieces[1:] {
		name, args, offset := call(piece, at)
		p.modifier(&part, name, args, offset)
		at += len(piece) + 1
	}
	p.credential(&part, offset)
	p.parts = append(p.parts, part)
}

// credential refuses to show a field that holds a secret unless the template says so.
func (p *parser) credential(part *Part, offset int) {
	if !strings.HasSuffix(part.Name, ".header") || len(part.Args) == 0 || !Secret([]byte(part.Args[0])) {
		return
	}
	_, redact := part.Modifier("redact")
	_, reveal := part.Modifier("reveal")
	if !redact && !reveal {
		p.report(offset, fmt.Sprintf("%s holds a credential; write |redact after %s(%s) to see only that it was sent, or |reveal to log it all the same",
			part.Args[0], part.Name, part.Args[0]))
	}
}

// closing finds the brace that ends a value, past those within parentheses.
func (p *parser) closing() int {
	depth := 0
	for i := p.at; i < len(p.text); i++ {
		switch p.text[i] {
		case '(':
			depth++
		case ')':
			depth = max(0, depth-1)
		case '}':
			if depth == 0 {
				return i
			}
		}
	}
	return -1
}

// splitOutside cuts text at each sep that stands in no parentheses.
func splitOutside(text string, sep byte) (pieces []string) {
	depth, from := 0, 0
	for i := range len(text) {
		switch c := text[i]; {
		case c == '(':
			depth++
		case c == ')':
			depth = max(0, depth-1)
		case c == sep && depth == 0:
			pieces = append(pieces, text[from:i])
			from = i + 1
		}
	}
	return append(pieces, text[from:])
}

// call takes NAME(ARGUMENTS) at an offset of the template apart and returns the offset of
// the name. A nil args: there are no parentheses.
func call(text string, at int) (name string, args []string, offset int) {
	trimmed := strings.TrimLeft(text, " ")
	offset = at + len(text) - len(trimmed)
	trimmed = strings.TrimRight(trimmed, " ")
	name, rest, found := strings.Cut(trimmed, "(")
	if !found {
		return name, nil, offset
	}
	rest, closed := strings.CutSuffix(rest, ")")
	if !closed {
		return trimmed, nil, offset // which no name is like
	}
	return name, strings.Split(rest, ","), offset
}

// field checks the name and the arguments of a value.
func (p *parser) field(part *Part, offset int) {
	i := slices.IndexFunc(fields[:], func(f Field) bool { return f.Name == part.Name })
	if i < 0 {
		known := make([]string, len(fields))
		for i, f := range fields {
			known[i] = f.Name
		}
		what := "there is no value of this name"
		if part.Name == "" {
			what = "the name of a value is missing"
		}
		p.unknown(offset, what, part.Name, known)
		return
	}
	f := &fields[i]
	for i := range part.Args {
		part.Args[i] = strings.TrimSpace(part.Args[i])
	}
	switch {
	case len(part.Args) == 0 && f.Required:
		p.report(offset, fmt.Sprintf("%s needs an argument: %s(%s)", f.Name, f.Name, f.Args))
	case len(part.Args) > 0 && f.check == nil:
		p.report(offset, f.Name+" takes no argument")
	case len(part.Args) > 0:
		if message, word, known := f.check(part); message != "" {
			p.unknown(offset, message, word, known)
		}
	}
}

// modifier checks a modifier and adds it.
func (p *parser) modifier(part *Part, name string, args []string, offset int) {
	i := slices.IndexFunc(modifiers[:], func(m Change) bool { return m.Name == name })
	if i < 0 {
		known := make([]string, len(modifiers))
		for i, m := range modifiers {
			known[i] = m.Name
		}
		p.unknown(offset, "there is no modifier of this name", name, known)
		return
	}
	m := &modifiers[i]
	arg := strings.Join(args, ",")
	switch {
	case m.Arg == "" && args != nil:
		p.report(offset, name+" takes no argument")
	case m.Arg != "" && args == nil:
		p.report(offset, fmt.Sprintf("%s needs an argument: %s(%s)", name, name, m.Arg))
	case m.check != nil:
		if message := m.check(part, arg); message != "" {
			p.report(offset, message)
		}
	}
	part.Modifiers = append(part.Modifiers, Modifier{name, arg})
}
