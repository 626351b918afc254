package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxAttempts   = 20
	maxBackoff    = Duration(time.Minute)
	maxReplay     = 64 << 20
	maxPercent    = 1000
	maxRetryFloor = 1_000_000
)

// retryWords are what others call the causes.
var retryWords = map[string]string{
	"connect": RetryConnectFailure, "connection_failure": RetryConnectFailure, "connect-failure": RetryConnectFailure, "conn-failure": RetryConnectFailure,
	"refused": RetryRefusedStream, "refused-stream": RetryRefusedStream,
	"empty-response": RetryReset, "reset-before-request": RetryReset, "error": RetryReset,
	"gateway-error": RetryGatewayError, "response-timeout": RetryTimeout, "per_try_timeout": RetryTimeout, "500-599": Retry5xx,
}

func (v *validator) retries(path string, r *Retries) {
	if r == nil {
		return
	}
	v.between(join(path, "attempts"), r.Attempts, 1, maxAttempts)
	if len(r.On) == 0 {
		v.report(join(path, "on"), "is empty; to repeat nothing, set attempts: 1")
	}
	for i, word := range r.On {
		v.spelled(v.elementPath(join(path, "on"), i), word, retryWords,
			RetryConnectFailure, RetryRefusedStream, RetryReset, RetryTimeout, Retry5xx, RetryGatewayError)
	}
	for _, s := range r.Statuses {
		if s.From < 400 {
			v.report(join(path, "statuses"), fmt.Sprintf("%s is no failure; give statuses from 400 on", s))
		}
	}
	for i, name := range r.GRPCStatuses {
		v.grpcStatus(v.elementPath(join(path, "grpc_statuses"), i), name)
	}
	v.backoff(join(path, "backoff"), r.Backoff)
	v.between(join(path, "budget.percent"), r.Budget.Percent, 0, maxPercent)
	v.between(join(path, "budget.min"), r.Budget.Min, 0, maxRetryFloor)
	v.between(join(path, "replay"), r.Replay, 0, maxReplay)
}

func (v *validator) grpcStatus(path, name string) {
	switch meant := strings.ToLower(name); {
	case slices.Contains(grpcStatuses, name):
	case meant == "ok" || meant == "0":
		v.report(path, fmt.Sprintf("%q is no failure", name))
	case slices.Contains(grpcStatuses, meant):
		v.propose(path, fmt.Sprintf("%q is no gRPC status", name), meant)
	default:
		proposal := suggest(meant, grpcStatuses)
		if code, err := strconv.Atoi(name); err == nil && code >= 1 && code <= len(grpcStatuses) {
			proposal = grpcStatuses[code-1]
		}
		v.propose(path, fmt.Sprintf("%q is no gRPC status", name), proposal)
	}
}

func (v *validator) backoff(path string, b Backoff) {
	if b.Max > maxBackoff {
		v.report(join(path, "max"), fmt.Sprintf("%s is more than %s", b.Max, maxBackoff))
	}
	if b.Base > b.Max {
		at := join(path, "base")
		if !v.given(at) {
			at = join(path, "max")
		}
		v.report(at, fmt.Sprintf("the base, %s, is more than the maximum, %s", b.Base, b.Max))
	}
}
