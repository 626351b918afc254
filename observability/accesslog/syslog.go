package accesslog

import (
	"fmt"
	"os"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/larboard-proxy/larboard/observability"
)

// SyslogOptions say to whom lines are sent as syslog messages, and how.
type SyslogOptions struct {
	// Network is udp, tcp or unix; of unix, datagrams or a stream, whichever is offered.
	Network string
	Address string // host:port, or a path
	// Format is SyslogRFC5424 or SyslogRFC3164.
	Format SyslogFormat
	// Facility is 0 to 23, Level and ErrorLevel are 0 (emerg) to 7 (debug): of lines, and of
	// those of exchanges that failed.
	Facility, Level, ErrorLevel int
	Tag                         string // the program's name in messages
	Host                        string // the machine's name in messages; empty: its own
	// OctetCounting frames the messages of a stream by their length (RFC 6587 section
	// 3.4.1); otherwise each ends with a line end.
	OctetCounting bool
	// MaxLength of a message, its header included, in bytes; what is longer is cut.
	MaxLength int
}

// SyslogFormat is a form of the header of messages.
type SyslogFormat uint8

// The formats.
const (
	SyslogRFC5424 SyslogFormat = iota
	SyslogRFC3164
)

// facilities and severities by name, in the order of their numbers (RFC 5424 section
// 6.2.1).
var (
	facilities = [...]string{"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
		"ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"}
	severities = [...]string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}
)

// SyslogFacility returns the number of a facility.
func SyslogFacility(name string) (int, error) { return indexIn(facilities[:], name, "facility") }

// SyslogLevel returns the number of a level.
func SyslogLevel(name string) (int, error) { return indexIn(severities[:], name, "level") }

func indexIn(names []string, name, what string) (int, error) {
	for i, n := range names {
		if n == name {
			return i, nil
		}
	}
	return 0, fmt.Errorf("syslog: there is no %s %q", what, name)
}

// syslogHead makes the headers of messages. Immutable; the time is the loop's.
type syslogHead struct {
	priority [2]string // <PRI> and what stands before the time: of others, of failures
	form     stampForm
	millis   bool
	rest     string // after the time
	most     int
}

// No library: the standard one's package knows neither RFC 5424 nor framing, is frozen, and
// formats at the time of writing; the header is a few bytes, which the loop appends before
// the line at no allocation.
func newSyslogHead(o *SyslogOptions) *syslogHead {
	h := &syslogHead{most: o.MaxLength}
	if h.most == 0 {
		h.most = 8 << 10
	}
	host := o.Host
	if host == "" {
		host, _ = os.Hostname()
	}
	if host == "" {
		host = "-"
	}
	pid := strconv.Itoa(os.Getpid())
	for i, level := range [...]int{o.Level, o.ErrorLevel} {
		h.priority[i] = "<" + strconv.Itoa(o.Facility*8+level) + ">"
	}
	if o.Format == SyslogRFC3164 {
		h.form = stampForm{time.Stamp, true}
		h.rest = " " + host + " " + o.Tag + "[" + pid + "]: "
		if o.Network == "unix" && o.Host == "" { // the daemon beside us knows where it is
			h.rest = " " + o.Tag + "[" + pid + "]: "
		}
		return h
	}
	h.priority[0] += "1 "
	h.priority[1] += "1 "
	h.form, h.millis = stampForm{"2006-01-02T15:04:05.", false}, true
	h.rest = " " + host + " " + o.Tag + " " + pid + " - - "
	return h
}

// append appends the header of a message about an exchange that ends now.
func (h *syslogHead) append(dst []byte, s *stamp, r *observability.Record) []byte {
	priority := h.priority[0]
	if failed(r) {
		priority = h.priority[1]
	}
	dst = append(dst, priority...)
	now := r.Start.Add(r.Total)
	dst = s.append(dst, now, &h.form)
	if h.millis {
		dst = append(appendThousandths(dst, now.Nanosecond()/1e6), 'Z')
	}
	return append(dst, h.rest...)
}

// cut cuts a message at the most that it may be long, between characters.
func (h *syslogHead) cut(message []byte) []byte {
	if len(message) <= h.most {
		return message
	}
	n := h.most
	for n > 0 && !utf8.RuneStart(message[n]) {
		n--
	}
	return message[:n]
}
