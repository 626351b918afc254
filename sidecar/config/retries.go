package config

import (
	"reflect"

	"go.yaml.in/yaml/v3"
)

// Retries says which attempts are repeated, and how many repeats a service has to bear.
type Retries struct {
	// Attempts in all, the first included; 1: nothing is repeated.
	Attempts int `yaml:"attempts"`
	// On are the failures that are repeated; in the file a lone word will do. Left out: those
	// in which nothing was answered, and with PerTryTimeout its own.
	On       RetryCauses  `yaml:"on"`
	Statuses StatusRanges `yaml:"statuses"` // of answers, beside those of On
	// GRPCStatuses are those of answers that are nothing but a status.
	GRPCStatuses GRPCStatuses `yaml:"grpc_statuses"`
	// PerTryTimeout bounds an attempt until the head of its answer; zero: no limit.
	PerTryTimeout Duration    `yaml:"per_try_timeout"`
	Backoff       Backoff     `yaml:"backoff"`
	Budget        RetryBudget `yaml:"budget"`
	// Replay is how much of a request's body is kept to be sent again.
	Replay Size `yaml:"replay"`
}

// RetryCauses is a list of words.
type RetryCauses []string

// The words of RetryCauses.
const (
	RetryConnectFailure = "connect_failure"
	RetryRefusedStream  = "refused_stream"
	RetryReset          = "reset"
	RetryTimeout        = "timeout"
	Retry5xx            = "5xx"
	RetryGatewayError   = "gateway_error" // 502, 503, 504
)

// GRPCStatuses is a list of gRPC's statuses, in lower case; a lone one will do.
type GRPCStatuses []string

// grpcStatuses are those that a call can fail with, from code 1 on.
var grpcStatuses = []string{
	"cancelled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists", "permission_denied",
	"resource_exhausted", "failed_precondition", "aborted", "out_of_range", "unimplemented", "internal", "unavailable",
	"data_loss", "unauthenticated",
}

// Code is the number that gRPC gives the status called name; 0: none has that name.
func (GRPCStatuses) Code(name string) int {
	for i, s := range grpcStatuses {
		if s == name {
			return i + 1
		}
	}
	return 0
}

// Backoff is the wait before a repeat: anything up to Base, which doubles up to Max.
type Backoff struct {
	Base Duration `yaml:"base"`
	Max  Duration `yaml:"max"`
}

// RetryBudget bounds the repeats of a service.
type RetryBudget struct {
	// Percent of the exchanges may be repeats; beyond it, Min at a time and Min a second.
	Percent int `yaml:"percent"`
	Min     int `yaml:"min"`
}

// decodeNode takes a lone word as a list of one.
func (c *RetryCauses) decodeNode(d *decoder, n *yaml.Node, path string) {
	*c = d.words(n, path)
}

// decodeNode takes a lone word as a list of one.
func (s *GRPCStatuses) decodeNode(d *decoder, n *yaml.Node, path string) {
	*s = d.words(n, path)
}

// words decodes a list of texts, or a lone one.
func (d *decoder) words(n *yaml.Node, path string) (list []string) {
	if n.Kind == yaml.SequenceNode {
		d.list(n, reflect.ValueOf(&list).Elem(), path)
		return list
	}
	var one string
	d.text(n, reflect.ValueOf(&one).Elem(), path)
	return []string{one}
}
