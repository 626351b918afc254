package config

import (
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/larboard-proxy/larboard/observability/accesslog/template"
)

// AccessLogs are the access logs of a file. A lone mapping or text in the file is a list of
// one.
type AccessLogs []AccessLog

// AccessLog is one line for each exchange. A lone string in the file is Path.
type AccessLog struct {
	Path string `yaml:"path"` // AccessLogOff, AccessLogStdout, or a file; empty: Syslog
	// Name of the log in metrics and messages; empty in a file: access, and access-2 and
	// so on for those that follow.
	Name string `yaml:"name"`
	// Syslog is a server that lines are sent to; nil: Path.
	Syslog *Syslog `yaml:"syslog"`
	// Format is one of the presets of the template language; empty: Template.
	Format   string      `yaml:"format"`
	Template LogTemplate `yaml:"template"`
	// Escape is how values in Template are escaped: one of template.Escapes.
	Escape string `yaml:"escape"`
	// Capture names the fields of the heads that the presets show.
	Capture LogCapture `yaml:"capture"`
	// When says of which exchanges there are lines; nil: of all.
	When *LogConditions `yaml:"when"`
	// Sample is the share of these that is logged; nil: all.
	Sample *LogSample `yaml:"sample"`
	// Buffer is the memory of each loop for lines that wait to be written, in bytes.
	Buffer Size `yaml:"buffer"`
}

// Syslog is a server and what it is sent. A lone string in the file is Address.
type Syslog struct {
	Address string `yaml:"address"` // udp://HOST:PORT, tcp://HOST:PORT or unix:///PATH
	// Format is SyslogRFC5424 or SyslogRFC3164.
	Format   string `yaml:"format"`
	Facility string `yaml:"facility"`
	// Level is that of a line, ErrorLevel of one about an exchange that failed.
	Level      string `yaml:"level"`
	ErrorLevel string `yaml:"error_level"`
	Tag        string `yaml:"tag"`  // the program's name in messages
	Host       string `yaml:"host"` // the machine's; empty: its own
	// Framing is how messages are told apart in a stream: FramingOctets or FramingLines;
	// empty: octets over TCP, lines over Unix sockets.
	Framing   string `yaml:"framing"`
	MaxLength Size   `yaml:"max_length"` // of a message, in bytes
}

// The values of Syslog.Format and Syslog.Framing.
const (
	SyslogRFC5424 = "rfc5424"
	SyslogRFC3164 = "rfc3164"

	FramingOctets = "octets"
	FramingLines  = "lines"
)

// LogConditions say of which exchanges a log has lines.
type LogConditions struct {
	// Wanted are those of which any of these holds; without any of them: all.
	Status     StatusRanges `yaml:"status"`
	Failed     bool         `yaml:"failed"`
	SlowerThan Duration     `yaml:"slower_than"`
	Reasons    []string     `yaml:"reasons"` // codes of the table of reasons
	// Of the wanted ones, those of which each of these holds.
	Direction Direction `yaml:"direction"` // empty: both
	Listeners []string  `yaml:"listeners"`
	Services  []string  `yaml:"services"`
	// Of these, those of which none of these holds.
	SkipPaths  []string `yaml:"skip_paths"`
	SkipAgents []string `yaml:"skip_agents"`
	SkipEmpty  bool     `yaml:"skip_empty"`
}

// LogSample is the share of the exchanges that are logged. A lone share in the file is Rate.
type LogSample struct {
	Rate Share `yaml:"rate"`
	// By is SampleByTrace or SampleByChance.
	By string `yaml:"by"`
	// Failures are logged in any case.
	Failures bool `yaml:"failures"`
}

// The values of LogSample.By.
const (
	SampleByTrace  = "trace"
	SampleByChance = "chance"
)

// LogCapture are fields of the request's and the response's head.
type LogCapture struct {
	Request  []CapturedField `yaml:"request"`
	Response []CapturedField `yaml:"response"`
}

// CapturedField is a field and how much of it is kept. A lone string in the file is Name.
type CapturedField struct {
	Name   string `yaml:"name"`
	Length int    `yaml:"length"` // bytes
}

// The values of AccessLog.Path that are no file.
const (
	AccessLogOff    = "off"
	AccessLogStdout = "stdout"
)

// LogTemplate is a text in the language of package template.
type LogTemplate string

// decodeNode reads a template and reports what is wrong with it where it stands.
func (t *LogTemplate) decodeNode(d *decoder, n *yaml.Node, path string) {
	before := len(d.problems)
	d.text(n, reflect.ValueOf((*string)(t)).Elem(), path)
	if len(d.problems) > before {
		return
	}
	*t = LogTemplate(strings.TrimRight(string(*t), "\n"))
	_, problems := template.Parse(string(*t))
	if !strings.Contains(string(*t), "%") {
		d.report(n, path, "names no value, so that all lines would be the same; write %{NAME}, like %{status}", "")
		return
	}
	for _, p := range problems {
		at := *n
		at.Line, at.Column = placeIn(n, p.Offset)
		d.report(&at, path, fmt.Sprintf("at character %d: %s", p.Offset+1, p.Message), suggest(p.Word, p.Known))
	}
}

// placeIn is where in the file byte offset of a text stands: exactly, where the text is on one
// line without escapes, else as near as can be told.
func placeIn(n *yaml.Node, offset int) (line, column int) {
	head := n.Value[:min(offset, len(n.Value))]
	switch {
	case n.Style&(yaml.LiteralStyle) != 0:
		return n.Line + 1 + strings.Count(head, "\n"), 0
	case n.Style&yaml.FoldedStyle != 0:
		return n.Line, n.Column
	case n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		return n.Line, n.Column + 1 + len([]rune(head))
	}
	return n.Line, n.Column + len([]rune(head))
}

// decodeNode takes a lone mapping or text as a list of one.
func (l *AccessLogs) decodeNode(d *decoder, n *yaml.Node, path string) {
	if n.Kind == yaml.SequenceNode {
		d.list(n, reflect.ValueOf((*[]AccessLog)(l)).Elem(), path)
		return
	}
	var one AccessLog
	d.structure(n, reflect.ValueOf(&one).Elem(), path)
	*l = AccessLogs{one}
}

// fromText takes a lone string as the path.
func (a *AccessLog) fromText(text string) { a.Path = text }

func (a *AccessLog) setDefaults() {
	*a = AccessLog{Path: AccessLogOff, Format: FormatText, Buffer: 256 << 10}
}

// fromText takes a lone string as the address.
func (s *Syslog) fromText(text string) { s.Address = text }

func (s *Syslog) setDefaults() {
	*s = Syslog{Format: SyslogRFC5424, Facility: "local0", Level: "info", ErrorLevel: "err", Tag: "larboard", MaxLength: 8 << 10}
}

func (s *LogSample) setDefaults() { *s = LogSample{Rate: 1, By: SampleByTrace, Failures: true} }

// decodeNode takes a lone share as the rate.
func (s *LogSample) decodeNode(d *decoder, n *yaml.Node, path string) {
	if n.Kind == yaml.ScalarNode && !isNull(n) {
		s.setDefaults()
		s.Rate.decodeNode(d, n, path)
		d.lone[path] = "rate"
		return
	}
	d.structure(n, reflect.ValueOf(s).Elem(), path)
}

// fromText takes a lone string as the name.
func (f *CapturedField) fromText(text string) { f.Name = text }

func (f *CapturedField) setDefaults() { *f = CapturedField{Length: 64} }

// finish fills in what depends on other fields and on the place in the list.
func (l AccessLogs) finish(d *decoder) {
	for i := range l {
		a, path := &l[i], d.elementPath("access_log", i)
		switch {
		case a.Syslog != nil && !d.has(path+".path"):
			a.Path = ""
		case a.Path == "stderr" || a.Path == "-":
			at := path + ".path"
			if !d.has(at) {
				at = path
			}
			d.report(&yaml.Node{Line: d.positions[at].line, Column: d.positions[at].column}, at,
				fmt.Sprintf("%q is none of off, stdout and a file; ./%s is a file of that name", a.Path, a.Path), AccessLogStdout)
		case a.Path != AccessLogOff && a.Path != AccessLogStdout:
			a.Path = d.resolved(a.Path)
		}
		if s := a.Syslog; s != nil && s.Framing == "" {
			switch {
			case strings.HasPrefix(s.Address, "tcp:"):
				s.Framing = FramingOctets
			case strings.HasPrefix(s.Address, "unix:"):
				s.Framing = FramingLines
			}
		}
		if a.Template != "" && !d.has(path+".format") {
			a.Format = ""
		}
		if a.Name == "" {
			a.Name = "access"
			if i > 0 {
				a.Name = fmt.Sprintf("access-%d", i+1)
			}
		}
	}
}
