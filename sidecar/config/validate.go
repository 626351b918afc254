package config

import (
	"fmt"
	"slices"
	"strings"
)

// validator looks for what is wrong in a decoded configuration beyond the types
// of its fields.
type validator struct {
	config  *Config
	decoder *decoder
	// services are the names that routes may use.
	services []string
}

// maxDecisions bounds the memory of decisions: each takes up to 2 KiB on each loop.
const maxDecisions = 100_000

// validate reports every problem it finds to the decoder.
func (v *validator) validate() {
	c := v.config
	v.services = c.serviceNames()
	if c.Version != 1 {
		v.report("version", fmt.Sprintf("%d is not a version of the format; 1 is the only one", c.Version))
	}
	if len(c.Listeners) == 0 && c.Workload == nil && len(c.Upstreams) == 0 && len(c.Workloads) == 0 && !v.given("capture") {
		v.report("listeners", "nothing to do: the file has no listeners, workload or upstreams")
	}
	v.process()
	v.interception()
	for i := range c.Listeners {
		v.listener(listenerPath(i), &c.Listeners[i])
	}
	for i := range c.Services {
		v.service(servicePath(i), &c.Services[i])
	}
	v.metrics(&c.Metrics)
	v.tracing(c.Tracing)
	v.rateLimitFields(c.RateLimitFields)
	v.rateLimitService(c.RateLimitService)
	v.consul(&c.Consul)
	v.identities()
	v.workload()
	v.workloads()
	for i := range c.Upstreams {
		v.lonelyUpstream(upstreamPath(i), &c.Upstreams[i])
	}
	v.uniqueNames()
	v.uniqueAddresses()
	v.uniqueRegistrations()
}

// process checks the settings of the process as a whole.
func (v *validator) process() {
	c := v.config
	if c.Admin.Address != "" {
		v.adminAddress(c.Admin.Address)
	}
	v.socketPath("admin.socket", c.Admin.Socket)
	v.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	v.oneOf("log.format", c.Log.Format, FormatText, FormatJSON)
	v.accessLogs(c.AccessLog)
	if c.Engine != "" || v.given("engine") {
		v.oneOf("engine", c.Engine, EngineEvents, EngineGoroutines)
	}
	v.between("loops", c.Loops, 0, 1024)
	v.cpus(c.CPUs)
	v.between("decisions", c.Decisions, 0, maxDecisions)
	v.between("limits.handshakes", c.Limits.Handshakes, 0, 1024)
	v.between("limits.connections", c.Limits.Connections, 0, MaxConnections)
	v.between("limits.fields", c.Limits.Fields, 1, 10000)
	v.between("limits.head", c.Limits.Head, 1<<10, 1<<20)
	v.between("limits.request_line", c.Limits.RequestLine, 256, 1<<20)
	v.between("limits.accept_burst", c.Limits.AcceptBurst, 1, 10000)
	v.between("limits.buffers", c.Limits.Buffers, 4<<20, 1<<40)
	if c.Limits.RequestLine > c.Limits.Head {
		v.report("limits.request_line", fmt.Sprintf("%s is more than limits.head, %s", c.Limits.RequestLine, c.Limits.Head))
	}
	v.drain(c.Drain)
	v.probes(c.Probes)
	v.positive("timeouts.connect", c.Timeouts.Connect)
	v.positive("timeouts.request_head", c.Timeouts.RequestHead)
	v.positive("timeouts.idle", c.Timeouts.Idle)
}

// maxCPU is the largest number that a Linux CPU set of fixed size holds.
const maxCPU = 1023

func (v *validator) cpus(all []int) {
	for i, n := range all {
		path := fmt.Sprintf("cpus[%d]", i)
		v.between(path, n, 0, maxCPU)
		if slices.Contains(all[:i], n) {
			v.report(path, fmt.Sprintf("CPU %d is given twice", n))
		}
	}
}

// MaxConnections is more than any host has ports and memory for.
const MaxConnections = 100_000_000

// report notes a problem with the field at path, unless it or what surrounds it
// is already known to be wrong.
func (v *validator) report(path, message string) { v.propose(path, message, "") }

// propose is report with what was probably meant.
func (v *validator) propose(path, message, suggestion string) {
	if v.broken(path) {
		return
	}
	p := v.config.ProblemAt(path, message)
	if p.Line == 0 {
		p.Line, p.Column = 1, 1 // an empty file
	}
	p.Suggestion = suggestion
	v.decoder.failed[path] = true
	v.decoder.problems = append(v.decoder.problems, p)
}

// broken reports whether the field at path or what surrounds it has a problem.
func (v *validator) broken(path string) bool {
	for at := path; at != ""; at = parentPath(at) {
		if v.decoder.failed[at] {
			return true
		}
	}
	return v.decoder.failed[""]
}

// incomplete is report for a mapping that lacks its essential entry, unless
// something in it is already known to be wrong: that is probably the entry.
func (v *validator) incomplete(path, message string) {
	for failed := range v.decoder.failed {
		if strings.HasPrefix(failed, path+".") {
			return
		}
	}
	v.report(path, message)
}

// given reports whether the file itself holds the field.
func (v *validator) given(path string) bool { return v.config.source.has(path) }

// required reports a field that was left out.
func (v *validator) required(path, value string) bool {
	if value == "" && !v.given(path) {
		v.report(path, "is missing")
	}
	return value != ""
}

// oneOf checks value against a list of words.
func (v *validator) oneOf(path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		v.propose(path, fmt.Sprintf("%q is none of %s", value, strings.Join(allowed, ", ")), suggest(value, allowed))
	}
}

// spelled is oneOf with the words that others have for the same.
func (v *validator) spelled(path, value string, others map[string]string, allowed ...string) {
	meant, ok := others[strings.ToLower(value)]
	if !ok {
		v.oneOf(path, value, allowed...)
		return
	}
	v.propose(path, fmt.Sprintf("%q is none of %s", value, strings.Join(allowed, ", ")), meant)
}

// between checks a number or a size against its bounds.
func (v *validator) between(path string, value any, low, high int64) {
	var n int64
	switch value := value.(type) {
	case int:
		n = int64(value)
	case Size:
		n = int64(value)
	}
	if n >= low && n <= high {
		return
	}
	if _, ok := value.(Size); ok {
		v.report(path, fmt.Sprintf("%v is not between %s and %s", value, Size(low), Size(high)))
		return
	}
	v.report(path, fmt.Sprintf("%v is not between %d and %d", value, low, high))
}

// positive refuses zero for the times whose lack would let a silent peer hold a
// connection for ever. What is inherited is reported where it is given.
func (v *validator) positive(path string, d Duration) {
	if d == 0 && v.given(path) {
		v.report(path, "must be more than zero")
	}
}

// exclusive reports the second of two fields that must not both be given.
func (v *validator) exclusive(path, first, second string) {
	if v.given(join(path, first)) && v.given(join(path, second)) {
		v.report(join(path, second), fmt.Sprintf("excludes %s, which is given too", first))
	}
}
