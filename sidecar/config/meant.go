package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// otherNames are what other proxies and libraries call our fields.
var otherNames = map[string]string{
	"circuitbreaker": "breaker", "circuitbreaking": "breaker", "circuitbreakers": "breaker",
	"outlierdetection": "ejection", "passivehealthcheck": "ejection", "outliers": "ejection",
	"retry": "retries", "retrypolicy": "retries", "retryon": "on", "numretries": "attempts", "maxattempts": "attempts", "retrybudget": "budget",
	"perretrytimeout": "per_try_timeout", "retrybackoff": "backoff", "budgetpercent": "percent", "minretryconcurrency": "min",
	"consecutiveerrors": "consecutive", "consecutive5xx": "consecutive", "consecutivefailures": "consecutive", "threshold": "failures",
	"baseejectiontime": "time", "maxejectiontime": "max_time", "maxejectionpercent": "max_percent", "opentimeout": "open", "halfopenrequests": "probes",
	"ratelimit": "limits", "ratelimits": "limits", "ratelimiting": "limits", "throttle": "limits", "key": "by", "failuremode": "on_failure", "failopen": "on_failure",
	"lb": "balance", "lbpolicy": "balance", "loadbalancing": "balance", "loadbalancer": "balance", "maxconns": "max_connections",
	"trace": "tracing", "traces": "tracing", "opentelemetry": "tracing", "otel": "tracing", "sampling": "sample", "samplerate": "sample", "ratio": "sample",
	"propagators": "propagate", "propagation": "propagate", "servicename": "service", "maxseries": "series", "cardinality": "series",
	"errorlog": "log", "loglevel": "level", "file": "path", "filter": "when", "condition": "when", "conditions": "when", "exporter": "otlp", "collector": "otlp",
}

// suggestField is suggest for the name of a field, with what others call it.
func suggestField(word string, names []string) string {
	if meant := otherNames[fold(word)]; meant != "" && slices.Contains(names, meant) {
		return meant
	}
	return suggest(word, names)
}

// lone says which field of a mapping is meant by a lone value in its place, where the value is one for it.
type lone struct {
	field string
	fits  func(text string) bool
}

func isNumber(text string) bool   { _, err := strconv.ParseUint(text, 10, 31); return err == nil }
func isDuration(text string) bool { _, err := ParseDuration(text); return err == nil }
func isRate(text string) bool     { _, _, err := Rate(text).Per(); return err == nil }
func isURL(text string) bool      { return strings.Contains(text, "://") }

var loneValues = map[reflect.Type]lone{
	reflect.TypeFor[Retries]():     {"attempts", isNumber},
	reflect.TypeFor[RetryBudget](): {"percent", isNumber},
	reflect.TypeFor[Backoff]():     {"base", isDuration},
	reflect.TypeFor[Breaker]():     {"failures", isNumber},
	reflect.TypeFor[Ejection]():    {"consecutive", isNumber},
	reflect.TypeFor[RateLimit]():   {"rate", isRate},
	reflect.TypeFor[Tracing]():     {"otlp", isURL},
}

// meantMapping is the mapping that was probably meant by a lone value in the place of one of type t.
func meantMapping(t reflect.Type, n *yaml.Node) string {
	known, ok := loneValues[t]
	if !ok || n.Kind != yaml.ScalarNode || n.Value == "" {
		return ""
	}
	switch text := strings.TrimSuffix(n.Value, "%"); strings.ToLower(text) {
	case "true", "on", "yes":
		return "{}"
	case "false", "off", "no", "none", "never":
		if t == reflect.TypeFor[Retries]() {
			return "{attempts: 1}"
		}
		return ""
	default:
		if !known.fits(text) {
			return ""
		}
		return fmt.Sprintf("{%s: %s}", known.field, text)
	}
}

// meantDuration is what was probably meant by a duration of another form: without a unit those from 100 on
// are taken for milliseconds.
func meantDuration(text string) string {
	text = strings.ToLower(strings.ReplaceAll(text, " ", ""))
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz")
	unit := text[len(digits):]
	switch unit {
	case "":
		unit = "s"
		if n, err := strconv.Atoi(digits); err == nil && n >= 100 {
			unit = "ms"
		}
	case "sec", "secs", "second", "seconds":
		unit = "s"
	case "min", "mins", "minute", "minutes":
		unit = "m"
	case "hr", "hrs", "hour", "hours":
		unit = "h"
	case "msec", "msecs", "millis", "millisecond", "milliseconds":
		unit = "ms"
	case "d", "day", "days":
		if n, err := strconv.Atoi(digits); err == nil {
			digits, unit = strconv.Itoa(24*n), "h"
		}
	}
	if !isDuration(digits + unit) {
		return ""
	}
	return digits + unit
}

// meantStatuses is the range that was probably meant by 5xx.
func meantStatuses(text string) string {
	if class, ok := strings.CutSuffix(strings.ToLower(text), "xx"); ok && len(class) == 1 && class >= "1" && class <= "5" {
		return class + "00-" + class + "99"
	}
	return ""
}
