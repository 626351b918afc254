package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/larboard-proxy/larboard/observability/accesslog/template"
	"github.com/larboard-proxy/larboard/policy"
)

// maxCaptures bounds the fields that one log captures of one head.
const maxCaptures = 32

func (v *validator) accessLogs(list AccessLogs) {
	names, files := map[string]int{}, map[string]int{}
	for i := range list {
		a, path := &list[i], v.elementPath("access_log", i)
		v.name(join(path, "name"), a.Name)
		if first, twice := names[a.Name]; twice {
			v.report(join(path, "name"), fmt.Sprintf("%q is the name of access_log[%d], too", a.Name, first))
		} else {
			names[a.Name] = i
		}
		if first, twice := files[a.Path]; twice && a.Path != AccessLogOff && a.Path != "" {
			v.report(join(path, "path"), fmt.Sprintf("%s is written by access_log[%d], too", a.Path, first))
		} else {
			files[a.Path] = i
		}
		v.accessLog(path, a)
	}
}

func (v *validator) accessLog(path string, a *AccessLog) {
	switch {
	case a.Template == "":
		v.oneOf(join(path, "format"), a.Format, template.PresetNames()...)
		if a.Escape != "" {
			v.report(join(path, "escape"), "is for a template; each format has its own")
		}
	case a.Format != "":
		v.exclusive(path, "format", "template")
	case a.Escape != "":
		v.oneOf(join(path, "escape"), a.Escape, template.Escapes()...)
	}
	v.logPlace(path, a)
	v.captured(join(path, "capture.request"), a.Capture.Request)
	v.captured(join(path, "capture.response"), a.Capture.Response)
	if a.Syslog != nil {
		v.exclusive(path, "path", "syslog")
		v.syslog(join(path, "syslog"), a.Syslog)
	}
	v.between(join(path, "buffer"), a.Buffer, 16<<10, 1<<30)
	v.logConditions(join(path, "when"), a.When)
	if s := a.Sample; s != nil {
		at := join(path, "sample")
		v.oneOf(join(at, "by"), s.By, SampleByTrace, SampleByChance)
		if s.Rate == 0 && !v.broken(join(at, "rate")) {
			v.report(join(at, "rate"), "is 0%, which logs nothing; path: off does")
		}
	}
}

// logPlace checks where the lines go.
func (v *validator) logPlace(path string, a *AccessLog) {
	if a.Path != AccessLogOff || v.given(join(path, "path")) || a.Syslog != nil {
		return
	}
	for _, field := range []string{"name", "format", "template", "capture", "when", "sample"} {
		if v.given(join(path, field)) {
			v.incomplete(path, "needs path or syslog: without them nothing is logged")
			return
		}
	}
}

// The names of RFC 5424 section 6.2.1, and those that others have for the same.
var (
	syslogFacilities = [...]string{"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
		"ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"}
	syslogLevels = [...]string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}
	otherLevels  = map[string]string{"error": "err", "warn": "warning", "panic": "emerg", "critical": "crit"}
)

func (v *validator) syslog(path string, s *Syslog) {
	if v.required(join(path, "address"), s.Address) {
		at := join(path, "address")
		if !v.given(at) {
			at = path
		}
		v.syslogAddress(at, s.Address)
	}
	v.spelled(join(path, "format"), s.Format, map[string]string{"5424": SyslogRFC5424, "3164": SyslogRFC3164, "bsd": SyslogRFC3164},
		SyslogRFC5424, SyslogRFC3164)
	v.oneOf(join(path, "facility"), s.Facility, syslogFacilities[:]...)
	v.spelled(join(path, "level"), s.Level, otherLevels, syslogLevels[:]...)
	v.spelled(join(path, "error_level"), s.ErrorLevel, otherLevels, syslogLevels[:]...)
	v.headerWord(join(path, "tag"), s.Tag, 48)
	if s.Host != "" {
		v.headerWord(join(path, "host"), s.Host, 255)
	}
	switch {
	case s.Framing == "":
	case strings.HasPrefix(s.Address, "udp:"):
		v.report(join(path, "framing"), "is for streams; over UDP each message is a datagram")
	default:
		v.oneOf(join(path, "framing"), s.Framing, FramingOctets, FramingLines)
	}
	v.between(join(path, "max_length"), s.MaxLength, 480, 64<<10)
}

func (v *validator) syslogAddress(path, text string) {
	scheme, rest, found := strings.Cut(text, "://")
	switch {
	case scheme == "unix" || strings.HasPrefix(text, "unix:"):
		v.unixAddress(path, text)
	case !found && strings.HasPrefix(text, "/"):
		v.propose(path, fmt.Sprintf("%q is a path; write unix://PATH", text), "unix://"+text)
	case !found:
		v.propose(path, fmt.Sprintf("%q is none of udp://HOST:PORT, tcp://HOST:PORT and unix:///PATH", text), "udp://"+text)
	case scheme != "udp" && scheme != "tcp":
		v.propose(path, fmt.Sprintf("%q is none of udp://HOST:PORT, tcp://HOST:PORT and unix:///PATH", text), "udp://"+rest)
	case !strings.Contains(strings.TrimRight(rest, "]"), ":"):
		v.propose(path, fmt.Sprintf("%q has no port; that of syslog is 514", text), text+":514")
	default:
		v.hostAndPort(path, rest)
	}
}

// headerWord checks a word in the header of a syslog message (RFC 5424 section 6).
func (v *validator) headerWord(path, word string, most int) {
	if word == "" || len(word) > most || !printable(word) {
		v.report(path, fmt.Sprintf("%q is not a word of up to %d printable characters without blanks", word, most))
	}
}

func (v *validator) logConditions(path string, w *LogConditions) {
	if w == nil {
		return
	}
	if w.Direction != "" {
		v.oneOf(join(path, "direction"), string(w.Direction), string(Inbound), string(Outbound))
	}
	if at := join(path, "status"); v.given(at) && len(w.Status) == 0 && !v.decoder.failed[at+"[0]"] {
		v.report(at, "the list is empty")
	}
	codes := reasonCodes()
	for i, code := range w.Reasons {
		if at := fmt.Sprintf("%s.reasons[%d]", path, i); !slices.Contains(codes, code) {
			v.propose(at, fmt.Sprintf("%q is not the code of a reason; larboard ctl reasons lists them", code), suggest(code, codes))
		}
	}
	for i, p := range w.SkipPaths {
		at := fmt.Sprintf("%s.skip_paths[%d]", path, i)
		if inner := strings.TrimSuffix(p, "*"); strings.Contains(inner, "*") {
			v.report(at, fmt.Sprintf("%q: a * stands only at the end", p))
		} else {
			v.urlPath(at, inner)
		}
	}
	for i, p := range w.SkipAgents {
		if strings.Contains(strings.TrimSuffix(p, "*"), "*") {
			v.report(fmt.Sprintf("%s.skip_agents[%d]", path, i), fmt.Sprintf("%q: a * stands only at the end", p))
		}
	}
}

// reasonCodes lists the codes that a log line can have.
func reasonCodes() (codes []string) {
	for _, r := range policy.Reasons() {
		if r != policy.None {
			codes = append(codes, r.String())
		}
	}
	return codes
}

// logTargets looks for listeners and services that the conditions of logs name and nobody has. To
// be called where all else is right, for what shorthands come to.
func (v *validator) logTargets() {
	out := Expand(v.config)
	var listeners, services []string
	for _, l := range out.Listeners {
		listeners = append(listeners, l.Name)
	}
	for _, s := range out.Services {
		services = append(services, s.Name)
	}
	for i, a := range v.config.AccessLog {
		if a.When == nil {
			continue
		}
		path := join(v.elementPath("access_log", i), "when")
		v.known(join(path, "listeners"), a.When.Listeners, listeners, "listener")
		v.known(join(path, "services"), a.When.Services, services, "service")
	}
}

func (v *validator) known(path string, names, known []string, what string) {
	for i, name := range names {
		if !slices.Contains(known, name) {
			v.propose(fmt.Sprintf("%s[%d]", path, i), fmt.Sprintf("there is no %s %q; there are %s", what, name, strings.Join(known, ", ")), suggest(name, known))
		}
	}
}

func (v *validator) captured(path string, list []CapturedField) {
	if len(list) > maxCaptures {
		v.report(path, fmt.Sprintf("names more than %d fields", maxCaptures))
	}
	for i, f := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		where := at
		if v.given(join(at, "name")) || f.Name == "" {
			where = join(at, "name")
		}
		if !v.required(where, f.Name) {
			continue
		}
		switch {
		case !template.IsFieldName(f.Name):
			v.report(where, fmt.Sprintf("%q is not the name of a field", f.Name))
		case template.Secret([]byte(f.Name)):
			v.report(where, fmt.Sprintf("%s holds a credential, which is not captured; a template can show it, see the manual", strings.ToLower(f.Name)))
		}
		v.between(join(at, "length"), f.Length, 1, template.MaxFieldLength)
	}
}
