package policy

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
)

// The names are those of gRPC's own library.
func TestGRPCStatusNames(t *testing.T) {
	for code := 0; code <= 16; code++ {
		s := GRPCStatusOf(code)
		if s.Code() != code {
			t.Errorf("code %d became %d", code, s.Code())
		}
		var theirs codes.Code
		if err := theirs.UnmarshalJSON([]byte(`"` + s.String() + `"`)); err != nil || int(theirs) != code {
			t.Errorf("%d is called %q, which gRPC knows as %d (%v)", code, s, theirs, err)
		}
	}
	for _, code := range []int{-1, 17, 1 << 20} {
		if s := GRPCStatusOf(code); s != GRPCUnknown {
			t.Errorf("code %d is %v, want UNKNOWN", code, s)
		}
	}
	if s := GRPCNone; s.Code() != -1 || s.String() != "" || s.Failed() {
		t.Errorf("no call has status %d %q", s.Code(), s)
	}
}

func TestGRPCStatusFailed(t *testing.T) {
	var failed []string
	for s := GRPCOK; s < grpcStatusCount; s++ {
		if s.Failed() {
			failed = append(failed, s.String())
		}
	}
	const want = "UNKNOWN DEADLINE_EXCEEDED UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS"
	if got := strings.Join(failed, " "); got != want {
		t.Errorf("failures are %s, want %s", got, want)
	}
}
