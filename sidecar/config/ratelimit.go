package config

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// RateLimit bounds how often something is asked for; one of Rate and Shared is set.
type RateLimit struct {
	// Name is how answers, logs and metrics call it.
	Name string `yaml:"name"`
	Rate Rate   `yaml:"rate"`
	// Burst is how many may come at once; where the file has none, or 0, as many as Rate's number.
	Burst int      `yaml:"burst"`
	By    *LimitBy `yaml:"by"` // never nil after Load where Rate is set
	// Keys bounds how many different ones are told apart; where the file has none, or 0, 100,000.
	Keys   int          `yaml:"keys"`
	Shared *SharedLimit `yaml:"shared"`
}

// Rate is a number in a time: 100/s, 5/m, 1000/h, 10/d, 30/10s.
type Rate string

// LimitBy says what has a limit of its own each; one of its fields is set. In the file the words all,
// source and identity will do.
type LimitBy struct {
	All      *LimitByAll      `yaml:"all"`
	Source   *LimitBySource   `yaml:"source"`
	Identity *LimitByIdentity `yaml:"identity"`
	Header   string           `yaml:"header"` // its name
	Query    string           `yaml:"query"`  // its key
}

// LimitByAll is one limit for all together.
type LimitByAll struct{}

// LimitBySource is a limit for each address of a client, or for each block of them.
type LimitBySource struct {
	V4 int `yaml:"v4"` // the bits of an address that count
	V6 int `yaml:"v6"`
}

// LimitByIdentity is a limit for each SPIFFE ID of a caller.
type LimitByIdentity struct{}

// ConnectionRate bounds how fast a listener takes connections. A lone text in the file is Rate.
type ConnectionRate struct {
	Rate  Rate     `yaml:"rate"`
	Burst int      `yaml:"burst"` // as RateLimit.Burst
	By    *LimitBy `yaml:"by"`    // all or source; never nil after Load
	Keys  int      `yaml:"keys"`  // as RateLimit.Keys
}

// SharedLimit is asked of the rate limit service.
type SharedLimit struct {
	Domain      string       `yaml:"domain"`
	Descriptors []Descriptor `yaml:"descriptors"`
	Hits        int          `yaml:"hits"` // what one request counts for
}

// Descriptor is what the service is told of a request in one respect. In the file a lone entry will
// do for a list of one.
type Descriptor []DescriptorEntry

// DescriptorEntry is a key and where its value comes from: one of Value, From, Header and Query. In the
// file a lone text is Key, and From where it is one of its words.
type DescriptorEntry struct {
	Key    string `yaml:"key"`
	Value  string `yaml:"value"`
	From   string `yaml:"from"`
	Header string `yaml:"header"`
	Query  string `yaml:"query"`
}

// DescriptorSources are the values of DescriptorEntry.From.
func DescriptorSources() []string {
	return []string{"path", "method", "authority", "source", "identity", "listener", "route", "service"}
}

// RateLimitService speaks version 3 of Envoy's rate limit service protocol. A lone text in the file is
// Address.
type RateLimitService struct {
	Address string   `yaml:"address"` // HOST:PORT or unix:///PATH
	Timeout Duration `yaml:"timeout"`
	// OnFailure is what becomes of requests while it does not answer: allow, deny.
	OnFailure string `yaml:"on_failure"`
	// Calls bounds how many are asked about at once.
	Calls int `yaml:"calls"`
	// Remember bounds for how long it is remembered that something is over its limit; 0: not at all.
	Remember Duration   `yaml:"remember"`
	TLS      *ClientTLS `yaml:"tls"` // nil: plain text
}

// RateLimitFields are what answers say of rate limits. A lone text in the file is Answers.
type RateLimitFields struct {
	Answers string `yaml:"answers"` // denied, always, never
	Form    string `yaml:"form"`    // ratelimit, trio, x_ratelimit
}

// The values of RateLimitService.OnFailure, RateLimitFields.Answers and RateLimitFields.Form.
const (
	QuotaAllow = "allow"
	QuotaDeny  = "deny"

	LimitFieldsDenied = "denied"
	LimitFieldsAlways = "always"
	LimitFieldsNever  = "never"

	RateLimitForm  = "ratelimit"
	TrioForm       = "trio"
	XRateLimitForm = "x_ratelimit"
)

// The bounds of rate limits.
const (
	limitKeys    = 100_000
	maxLimitKeys = 10_000_000
	maxBurst     = 1_000_000_000
	maxLimits    = 16 // in one list
	maxCalls     = 100_000
)

func (l *LimitBySource) setDefaults() { *l = LimitBySource{V4: 32, V6: 64} }

func (l *SharedLimit) setDefaults() { *l = SharedLimit{Domain: "larboard", Hits: 1} }

func (s *RateLimitService) setDefaults() {
	*s = RateLimitService{Timeout: Duration(20 * time.Millisecond), OnFailure: QuotaAllow, Calls: 1000, Remember: Duration(10 * time.Second)}
}

func (f *RateLimitFields) setDefaults() {
	*f = RateLimitFields{Answers: LimitFieldsDenied, Form: RateLimitForm}
}

func (c *ConnectionRate) fromText(text string)   { c.Rate = Rate(text) }
func (s *RateLimitService) fromText(text string) { s.Address = text }
func (f *RateLimitFields) fromText(text string)  { f.Answers = text }
func (e *DescriptorEntry) fromText(text string)  { e.Key = text }

// decodeNode takes a word for a mapping with that key.
func (b *LimitBy) decodeNode(d *decoder, n *yaml.Node, path string) {
	if n.Kind != yaml.ScalarNode || isNull(n) {
		d.structure(n, reflect.ValueOf(b).Elem(), path)
		return
	}
	switch n.Value {
	case "all":
		b.All = &LimitByAll{}
	case "source":
		b.Source = &LimitBySource{}
		b.Source.setDefaults()
	case "identity":
		b.Identity = &LimitByIdentity{}
	default:
		meant := suggest(n.Value, []string{"all", "source", "identity"})
		switch strings.ToLower(n.Value) {
		case "ip", "address", "client", "remote_address":
			meant = "source"
		case "spiffe", "spiffe_id", "caller", "peer":
			meant = "identity"
		}
		d.report(n, path, fmt.Sprintf("%q is none of all, source, identity, {header: NAME}, {query: KEY}", n.Value), meant)
		return
	}
	d.lone[path] = n.Value
}

// kind is the word for b in the names of limits.
func (b *LimitBy) kind() string {
	switch {
	case b == nil || b.All != nil:
		return "all"
	case b.Source != nil:
		return "source"
	case b.Identity != nil:
		return "identity"
	case b.Header != "":
		return "header"
	}
	return "query"
}

// decodeNode takes a lone entry as a list of one.
func (s *Descriptor) decodeNode(d *decoder, n *yaml.Node, path string) {
	if n.Kind == yaml.SequenceNode {
		d.list(n, reflect.ValueOf((*[]DescriptorEntry)(s)).Elem(), path)
		return
	}
	var one DescriptorEntry
	d.structure(n, reflect.ValueOf(&one).Elem(), path)
	*s = Descriptor{one}
}

// Per returns the number and the time of r.
func (r Rate) Per() (count int, per time.Duration, err error) {
	number, in, found := strings.Cut(string(r), "/")
	count, err = strconv.Atoi(strings.TrimSpace(number))
	if found && (errors.Is(err, strconv.ErrRange) || err == nil && (count < 1 || count > maxBurst)) {
		return 0, 0, fmt.Errorf("%q is not a rate: its number is not between 1 and %d", string(r), maxBurst)
	}
	if err != nil || !found {
		return 0, 0, fmt.Errorf("%q is not a rate; write a number and a time, like 100/s, 5/m or 30/10s", string(r))
	}
	switch in = strings.TrimSpace(in); in {
	case "s":
		per = time.Second
	case "m":
		per = time.Minute
	case "h":
		per = time.Hour
	case "d":
		per = 24 * time.Hour
	default:
		d, err := ParseDuration(in)
		if err != nil || d < Duration(time.Millisecond) || d > maxDuration {
			return 0, 0, fmt.Errorf("%q is not a rate; the time is s, m, h, d or one like 10s, from 1ms to a year", string(r))
		}
		per = d.D()
	}
	return count, per, nil
}

// PerSecond is r as a number; 0 for what is none.
func (r Rate) PerSecond() float64 {
	count, per, err := r.Per()
	if err != nil {
		return 0
	}
	return float64(count) / per.Seconds()
}

// meant is what was probably meant by a rate of another form.
func (r Rate) meant() string {
	text := strings.ToLower(strings.ReplaceAll(string(r), " ", ""))
	number := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz/")
	if n, err := strconv.Atoi(number); err != nil || n < 1 {
		return ""
	}
	switch strings.Trim(text[len(number):], "/") {
	case "", "rps", "sec", "second", "seconds", "ps", "persecond":
		return number + "/s"
	case "rpm", "min", "minute", "minutes", "perminute":
		return number + "/m"
	case "rph", "hr", "hour", "hours", "perhour":
		return number + "/h"
	case "day", "days", "perday":
		return number + "/d"
	}
	return ""
}

// inheritLimits fills in what limits leave out; owner is what they are for.
func inheritLimits(all []RateLimit, owner string) {
	taken := map[string]bool{}
	for i := range all {
		taken[all[i].Name] = true
	}
	for i := range all {
		l := &all[i]
		if l.Shared == nil {
			l.By = cmp.Or(l.By, &LimitBy{All: &LimitByAll{}})
			l.Keys = cmp.Or(l.Keys, limitKeys)
			l.Burst = l.Rate.burst(l.Burst)
		} else {
			l.Shared.inherit()
		}
		if l.Name != "" {
			continue
		}
		kind := "shared"
		if l.Shared == nil {
			kind = l.By.kind()
		}
		name := owner + "." + kind
		for n := 2; taken[name]; n++ {
			name = fmt.Sprintf("%s.%s-%d", owner, kind, n)
		}
		l.Name, taken[name] = name, true
	}
}

// burst is n, or as many as the rate's number.
func (r Rate) burst(n int) int {
	if n == 0 {
		n, _, _ = r.Per()
	}
	return n
}

func (s *SharedLimit) inherit() {
	for _, d := range s.Descriptors {
		for i := range d {
			e := &d[i]
			if e.Value == "" && e.From == "" && e.Header == "" && e.Query == "" && slices.Contains(DescriptorSources(), e.Key) {
				e.From = e.Key
			}
		}
	}
}

// inheritLimits does so for all of l.
func (l *Listener) inheritLimits() {
	inheritLimits(l.Limits, l.Name)
	for i := range l.Routes {
		inheritLimits(l.Routes[i].Limits, fmt.Sprintf("%s.routes.%d", l.Name, i))
	}
	l.ConnectionRate.inherit()
}

func (w *Workload) inheritLimits(listener string) {
	inheritLimits(w.Limits, listener)
	w.ConnectionRate.inherit()
}

func (c *ConnectionRate) inherit() {
	if c != nil {
		c.By = cmp.Or(c.By, &LimitBy{All: &LimitByAll{}})
		c.Burst = c.Rate.burst(c.Burst)
		c.Keys = cmp.Or(c.Keys, limitKeys)
	}
}
