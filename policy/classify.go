package policy

// Classifier says which outcomes of an attempt speak against its endpoint. Breakers and
// ejection share it, so that a failure is the same to both. The zero value finds none.
type Classifier uint8

// The kinds of failure; those of services[].breaker.on and services[].ejection.on.
const (
	// OnServerError: a status of 500 or above; of gRPC INTERNAL, UNKNOWN, DATA_LOSS,
	// UNAVAILABLE and DEADLINE_EXCEEDED.
	OnServerError Classifier = 1 << iota
	// OnGatewayError: 502, 503 and 504 only; of gRPC UNAVAILABLE and DEADLINE_EXCEEDED.
	OnGatewayError
	// OnLocalError: this proxy could not connect to the endpoint, found it to be somebody
	// else, or got a broken answer or none.
	OnLocalError
	// OnTimeout: the endpoint was connected too slowly, or was too slow to answer.
	OnTimeout
)

// AllFailures is every kind: the default.
const AllFailures = OnServerError | OnGatewayError | OnLocalError | OnTimeout

// Verdict is what one outcome says of its endpoint.
type Verdict uint8

// The verdicts. Neither is the zero value: nothing can be concluded.
const (
	Neither Verdict = iota
	Success
	Failure
)

func (v Verdict) String() string { return [...]string{"neither", "success", "failure"}[v] }

// Judge classifies an outcome. An answer is a success unless its status is a failure. What
// the client brought about (it left, garbled its body, allowed too little time), what this
// proxy did (draining, a limit of its own) and the end of a connection that had been kept
// say nothing of the endpoint.
func (c Classifier) Judge(o *Outcome) Verdict {
	switch {
	case o.Reason == None && o.Status < 500 && o.GRPC <= GRPCOK: // nearly always
		return Success
	case o.Reason == None:
		return c.answered(o)
	case o.Side == Upstream && c&kindOf(o) != 0:
		return Failure
	}
	return Neither
}

// answered judges what the endpoint said.
func (c Classifier) answered(o *Outcome) Verdict {
	kind := Classifier(0)
	switch {
	case o.GRPC == GRPCDeadlineExceeded && o.Hurried:
		return Neither
	case o.GRPC == GRPCUnavailable, o.GRPC == GRPCDeadlineExceeded:
		kind = OnServerError | OnGatewayError
	case o.GRPC == GRPCInternal, o.GRPC == GRPCUnknown, o.GRPC == GRPCDataLoss:
		kind = OnServerError
	case o.GRPC != GRPCNone: // has the last word, whatever the status of HTTP
	case o.Status >= 502 && o.Status <= 504:
		kind = OnServerError | OnGatewayError
	case o.Status >= 500:
		kind = OnServerError
	}
	if c&kind != 0 {
		return Failure
	}
	return Success
}

// kindOf is what a failure on the endpoint's side is; 0: nothing that speaks against it.
func kindOf(o *Outcome) Classifier {
	switch o.Reason {
	case ConnectTimeout:
		return OnLocalError | OnTimeout
	case UpstreamTimeout, TryTimeout:
		return OnTimeout
	case RequestDeadline:
		if o.Hurried {
			return 0
		}
		return OnTimeout
	case EndpointLimit, TunnelIdle:
		return 0
	case UpstreamReset, UpstreamClosed, UpstreamRefused:
		if o.Kept {
			return 0
		}
	}
	return OnLocalError
}
