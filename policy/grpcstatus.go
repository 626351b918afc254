package policy

import "strconv"

// GRPCStatus is how a gRPC call ended. The zero value means that it is no gRPC call;
// the code of the wire is one less, see Code.
type GRPCStatus uint8

// The statuses of gRPC (its status codes, 0 to 16).
const (
	GRPCNone GRPCStatus = iota
	GRPCOK
	GRPCCancelled
	GRPCUnknown
	GRPCInvalidArgument
	GRPCDeadlineExceeded
	GRPCNotFound
	GRPCAlreadyExists
	GRPCPermissionDenied
	GRPCResourceExhausted
	GRPCFailedPrecondition
	GRPCAborted
	GRPCOutOfRange
	GRPCUnimplemented
	GRPCInternal
	GRPCUnavailable
	GRPCDataLoss
	GRPCUnauthenticated

	grpcStatusCount
)

var grpcNames = [grpcStatusCount]string{
	"", "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
	"INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// GRPCStatusOf is the status with that code of the wire; UNKNOWN for codes that gRPC
// does not define, as its clients take them.
func GRPCStatusOf(code int) GRPCStatus {
	if code < 0 || code >= int(grpcStatusCount)-1 {
		return GRPCUnknown
	}
	return GRPCStatus(code + 1)
}

// Code is the number that grpc-status carries; -1 for GRPCNone.
func (s GRPCStatus) Code() int { return int(s) - 1 }

// String is gRPC's name of the status; empty for GRPCNone.
func (s GRPCStatus) String() string {
	if s >= grpcStatusCount {
		return strconv.Itoa(s.Code())
	}
	return grpcNames[s]
}

// Failed reports whether the status speaks against the server rather than against the
// call: what OpenTelemetry's conventions for gRPC servers count as an error.
func (s GRPCStatus) Failed() bool {
	switch s {
	case GRPCUnknown, GRPCDeadlineExceeded, GRPCUnimplemented, GRPCInternal, GRPCUnavailable, GRPCDataLoss:
		return true
	}
	return false
}
