package accesslog

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/observability/accesslog/template"
)

// appender appends one value of a record, or nothing where it is empty. It runs on the loop and
// must not allocate.
type appender func(dst []byte, p *producer, r *observability.Record) []byte

// shortText is the length of texts that are copied as one block, without a call.
const shortText = 32

// step is a piece of a line: text, and then a value.
type step struct {
	text      string
	short     [shortText]byte // text, where it fits
	value     appender        // nil: none follows
	otherwise string          // in place of an empty value outside of a group
	opens     bool            // a group begins before the text
	// after is the step that follows the group that this one is in, which an empty value
	// leaves out; 0: it is in none.
	after int
}

// Format is a compiled template: what a line looks like. Immutable.
type Format struct {
	steps  []step
	stamps []stampForm // of the times in it, which each producer keeps
}

// Capture is a field that the forms with captures show.
type Capture struct {
	Name   string // in lower case
	Length int    // bytes of its value that are kept
}

// NewCapture is the capture of a field, whatever the case of its name.
func NewCapture(name string, length int) Capture { return Capture{strings.ToLower(name), length} }

// Captures are the fields that req.captures and resp.captures show, in their order.
type Captures struct{ Request, Response []Capture }

// Compile makes a format of a template; its error is that of a template that was not checked
// before.
func Compile(text string, escape template.Escape, captures Captures) (*Format, error) {
	parts, problems := template.Parse(text)
	if len(problems) > 0 {
		p := problems[0]
		return nil, fmt.Errorf("template: at byte %d: %s", p.Offset, p.Message)
	}
	c := compiler{escape: escape, captures: captures, format: &Format{}}
	for i := range parts {
		if err := c.part(&parts[i]); err != nil {
			return nil, err
		}
	}
	c.flush(step{})
	return c.format, nil
}

// Preset compiles the preset of that name.
func Preset(name string, captures Captures) (*Format, error) {
	p, ok := template.PresetOf(name)
	if !ok {
		return nil, fmt.Errorf("template: there is no preset %q", name)
	}
	return Compile(p.Template, p.Escape, captures)
}

// compiler turns parts into steps.
type compiler struct {
	escape   template.Escape
	captures Captures
	format   *Format
	text     string // before the next step
	opens    bool   // a group begins there
	grouped  []int  // steps of the open group
	inGroup  bool
}

func (c *compiler) part(p *template.Part) error {
	switch p.Kind {
	case template.Literal:
		c.text += p.Text
	case template.Open:
		if c.text != "" {
			c.flush(step{})
		}
		c.opens, c.inGroup = true, true
	case template.Close:
		c.flush(step{})
		for _, i := range c.grouped {
			c.format.steps[i].after = len(c.format.steps)
		}
		c.grouped, c.inGroup = nil, false
	case template.Value:
		otherwise, given := p.Modifier("or")
		if !given && !c.inGroup {
			otherwise = "-"
		}
		value, err := c.value(p, otherwise)
		if err != nil {
			return err
		}
		if c.inGroup && !given {
			c.grouped = append(c.grouped, len(c.format.steps))
		}
		c.flush(step{value: value, otherwise: otherwise})
	}
	return nil
}

// flush adds a step with the text before it.
func (c *compiler) flush(s step) {
	if s.value == nil && c.text == "" && !c.opens {
		return
	}
	s.text, s.opens = c.text, c.opens
	copy(s.short[:], s.text)
	c.text, c.opens = "", false
	c.format.steps = append(c.format.steps, s)
}

// value makes the appender of a value with its modifiers.
func (c *compiler) value(p *template.Part, otherwise string) (appender, error) {
	build := makers[p.Name]
	if build == nil {
		return nil, errors.New("template: no value is made for " + p.Name)
	}
	value := build(c, p)
	for _, m := range p.Modifiers {
		switch m.Name {
		case "above":
			value = above(value, int64(number(m.Arg)))
		case "only":
			value = only(value, m.Arg)
		case "pad":
			value = padded(value, number(m.Arg), false, otherwise)
		case "right":
			value = padded(value, number(m.Arg), true, otherwise)
		}
	}
	return value, nil
}

// number reads an argument that template.Parse has checked.
func number(arg string) int {
	n, _ := strconv.Atoi(arg)
	return n
}

// above leaves out numbers up to most.
func above(value appender, most int64) appender {
	return func(dst []byte, p *producer, r *observability.Record) []byte {
		start := len(dst)
		dst = value(dst, p, r)
		if n, ok := parseInt(dst[start:]); !ok || n <= most {
			return dst[:start]
		}
		return dst
	}
}

// parseInt reads the whole part of a number.
func parseInt(text []byte) (n int64, ok bool) {
	for i, b := range text {
		if b == '.' && i > 0 {
			break
		}
		if b < '0' || b > '9' || n > 1<<50 {
			return 0, false
		}
		n = n*10 + int64(b-'0')
	}
	return n, len(text) > 0
}

// only leaves out all but one text.
func only(value appender, text string) appender {
	return func(dst []byte, p *producer, r *observability.Record) []byte {
		start := len(dst)
		if dst = value(dst, p, r); string(dst[start:]) != text { // no allocation: the compiler knows this form
			return dst[:start]
		}
		return dst
	}
}

const blanks = "                                                                                "

// padded fills a value, or what stands in its place, up to a width in bytes.
func padded(value appender, width int, right bool, otherwise string) appender {
	return func(dst []byte, p *producer, r *observability.Record) []byte {
		start := len(dst)
		dst = value(dst, p, r)
		if len(dst) == start {
			dst = append(dst, otherwise...)
		}
		n := len(dst) - start
		if n == 0 || n >= width {
			return dst
		}
		for missing := width - n; missing > 0; missing -= len(blanks) {
			dst = append(dst, blanks[:min(missing, len(blanks))]...)
		}
		if right {
			copy(dst[start+width-n:], dst[start:start+n])
			for i := start; i < start+width-n; i++ {
				dst[i] = ' '
			}
		}
		return dst
	}
}

// append appends the line without its end.
func (f *Format) append(dst []byte, p *producer, r *observability.Record) []byte {
	group := 0
	for i := 0; i < len(f.steps); i++ {
		s := &f.steps[i]
		if s.opens {
			group = len(dst)
		}
		if n := len(dst); len(s.text) <= shortText && cap(dst)-n >= shortText {
			*(*[shortText]byte)(dst[n : n+shortText]) = s.short
			dst = dst[:n+len(s.text)]
		} else {
			dst = append(dst, s.text...)
		}
		if s.value == nil {
			continue
		}
		n := len(dst)
		dst = s.value(dst, p, r)
		if len(dst) > n {
			continue
		}
		if s.after > 0 {
			dst = dst[:group]
			i = s.after - 1
			continue
		}
		dst = append(dst, s.otherwise...)
	}
	return dst
}

// stampForm is how a time is written up to its second.
type stampForm struct {
	layout string
	local  bool
}

// stamp is a time as one loop has written it last; made once a second.
type stamp struct {
	second int64
	text   []byte
}

// append appends t up to its second.
func (s *stamp) append(dst []byte, t time.Time, form *stampForm) []byte {
	if second := t.Unix(); second != s.second || len(s.text) == 0 {
		s.second = second
		if form.local {
			t = t.Local()
		} else {
			t = t.UTC()
		}
		s.text = t.AppendFormat(s.text[:0], form.layout)
	}
	return append(dst, s.text...)
}
