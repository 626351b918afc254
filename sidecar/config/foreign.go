package config

import "reflect"

// Decode fills the struct that into points to from the document data of the file name, as
// strictly as Load does: by `yaml` tags, every problem at once, each with its place and what was
// probably meant. It is for the settings of others, which have their defaults in *into before
// and are validated afterwards, with the Places that it returns. Structs behind pointers begin
// empty. The kinds of fields are text, bool, int, float64, Duration, Size, Secret, structs,
// pointers, lists and maps of those by name; any other kind panics.
func Decode(name string, data []byte, into any) (Places, Problems) {
	root, problem := parse(name, data)
	if problem != nil {
		return Places{source{file: name}}, Problems{*problem}
	}
	d := newDecoder(name)
	if root != nil {
		d.value(root, reflect.ValueOf(into).Elem(), "")
	}
	d.problems.Sort()
	return Places{d.source}, d.problems.shortened()
}

// Places remembers where in a file each field stood.
type Places struct{ source source }

// ProblemAt is Config.ProblemAt for what Decode has read.
func (p Places) ProblemAt(path, message, suggestion string) Problem {
	at := p.source.at(path)
	return Problem{File: p.source.file, Line: at.line, Column: at.column, Path: path, Message: message, Suggestion: suggestion}
}

// Given reports whether the file itself holds the field at path.
func (p Places) Given(path string) bool { return p.source.has(path) }
