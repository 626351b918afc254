package config

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Tracing is how the proxy takes part in distributed traces.
type Tracing struct {
	OTLP *OTLP `yaml:"otlp"` // where spans are sent
	// Sample is the share of requests that are recorded where their callers have not decided.
	Sample Share `yaml:"sample"`
	// Propagate are the forms in which endpoints are told of a trace; all are read.
	Propagate TraceFormats `yaml:"propagate"`
	// Trust says whose contexts count.
	Trust TraceTrust `yaml:"trust"`
	// Service is the name that spans are shown under; empty: that of the workload, or
	// larboard.
	Service string `yaml:"service"`
	// Attributes are of every span, as its resource.
	Attributes map[string]string `yaml:"attributes"`
}

// TraceFormat is a form in which header fields carry a trace's context.
type TraceFormat string

// The formats.
const (
	TraceW3C     TraceFormat = "w3c"
	TraceB3      TraceFormat = "b3"
	TraceB3Multi TraceFormat = "b3multi"
)

// TraceFormats is one or several; a lone word in the file is a list of one.
type TraceFormats []TraceFormat

// TraceTrust says whose contexts count.
type TraceTrust string

// The values of Tracing.Trust.
const (
	// TrustMesh: those of callers with a SPIFFE ID, and of the own workload.
	TrustMesh TraceTrust = "mesh"
	// TrustAll: those of everybody.
	TrustAll TraceTrust = "all"
)

// spansInterval is the default of OTLP.Interval for spans.
const spansInterval = Duration(5 * time.Second)

func (t *Tracing) setDefaults() {
	*t = Tracing{Sample: 0.01, Propagate: TraceFormats{TraceW3C}, Trust: TrustMesh}
}

func (t *Tracing) inherit(c *Config) {
	if t == nil {
		return
	}
	t.OTLP.every(spansInterval)
	if t.Service == "" && c.Workload != nil {
		t.Service = c.Workload.Service
	}
}

// Running is what a proxy that was started with t takes over of is by a reload: who is
// recorded, and what endpoints are told. Either may be nil.
func (t *Tracing) Running(is *Tracing) *Tracing {
	if t == nil || is == nil {
		return t
	}
	now := *is
	now.OTLP, now.Service, now.Attributes = t.OTLP, t.Service, t.Attributes
	return &now
}

// Started is the other half of is: t with what takes effect at the next start only.
func (t *Tracing) Started(is *Tracing) *Tracing {
	if t == nil || is == nil {
		return is
	}
	return is.Running(t)
}

// decodeNode takes a lone word as a list of one.
func (f *TraceFormats) decodeNode(d *decoder, n *yaml.Node, path string) {
	if n.Kind == yaml.SequenceNode {
		d.list(n, reflect.ValueOf((*[]TraceFormat)(f)).Elem(), path)
		return
	}
	var one string
	d.text(n, reflect.ValueOf(&one).Elem(), path)
	*f = TraceFormats{TraceFormat(one)}
}

func (v *validator) tracing(t *Tracing) {
	if t == nil {
		return
	}
	if t.OTLP == nil {
		v.incomplete("tracing", "needs otlp, where its spans are sent")
	}
	v.otlp("tracing.otlp", t.OTLP)
	v.oneOf("tracing.trust", string(t.Trust), string(TrustMesh), string(TrustAll))
	if len(t.Propagate) == 0 {
		v.report("tracing.propagate", "the list is empty; leave it out for w3c")
	}
	for i, f := range t.Propagate {
		path := fmt.Sprintf("tracing.propagate[%d]", i)
		if !v.given(path) {
			path = "tracing.propagate"
		}
		v.spelled(path, string(f), otherFormats, string(TraceW3C), string(TraceB3), string(TraceB3Multi))
		if slices.Contains(t.Propagate[:i], f) {
			v.report(path, fmt.Sprintf("%q is given twice", f))
		}
	}
	for name := range t.Attributes {
		if name == "service.name" {
			v.report(join("tracing.attributes", name), "is told by tracing.service")
		}
	}
}

// otherFormats are the names that OpenTelemetry's libraries and others have for the formats.
var otherFormats = map[string]string{
	"tracecontext": "w3c", "traceparent": "w3c", "trace_context": "w3c", "b3single": "b3", "b3-multi": "b3multi", "b3_multi": "b3multi", "zipkin": "b3multi",
}

// Share is a part of a whole, 0 to 1; in the file a percentage like 1% or a number like 0.01.
type Share float64

// ParseShare reads a share.
func ParseShare(text string) (Share, error) {
	number, percent := strings.CutSuffix(text, "%")
	value, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || math.IsNaN(value) {
		return 0, fmt.Errorf("%q is not a share; write a percentage like 1%%", text)
	}
	if percent {
		value /= 100
	}
	if value < 0 || value > 1 {
		return 0, fmt.Errorf("%s is not between 0%% and 100%%", text)
	}
	return Share(math.Round(value*1e12) / 1e12), nil // what is printed reads as the same
}

// String is the share as a percentage.
func (s Share) String() string {
	return strconv.FormatFloat(math.Round(float64(s)*1e12)/1e10, 'f', -1, 64) + "%"
}

// decodeNode reads 1%, 0.01 or 1.
func (s *Share) decodeNode(d *decoder, n *yaml.Node, path string) {
	if n.Kind != yaml.ScalarNode || isNull(n) {
		d.wrongType(n, path, "a share like 1% or 0.01")
		return
	}
	value, err := ParseShare(n.Value)
	if err != nil {
		meant := ""
		if _, err := ParseShare(n.Value + "%"); err == nil {
			meant = n.Value + "%"
		}
		d.report(n, path, err.Error(), meant)
		return
	}
	*s = value
}
