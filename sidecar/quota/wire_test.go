package quota

import (
	"math"
	"testing"
	"time"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/larboard-proxy/larboard/sidecar/proxy"
)

func parsed(t *testing.T, m *ratelimitv3.RateLimitResponse) response {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var r response
	if err := r.parse(b); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAnswer(t *testing.T) {
	status := func(code, remaining, limit int, reset time.Duration) *ratelimitv3.RateLimitResponse_DescriptorStatus {
		s := &ratelimitv3.RateLimitResponse_DescriptorStatus{Code: ratelimitv3.RateLimitResponse_Code(code), LimitRemaining: uint32(remaining), DurationUntilReset: durationpb.New(reset)}
		if limit > 0 {
			s.CurrentLimit = &ratelimitv3.RateLimitResponse_RateLimit{RequestsPerUnit: uint32(limit)}
		}
		return s
	}
	type statuses = []*ratelimitv3.RateLimitResponse_DescriptorStatus
	for _, c := range []struct {
		name string
		code int
		all  statuses
		want proxy.Answer
	}{
		{"nothing more", 1, nil, proxy.Answer{}},
		{"one", 1, statuses{status(1, 4, 10, time.Second)}, proxy.Answer{Limit: 10, Remaining: 4, Reset: time.Second}},
		{"the least left", 1, statuses{status(1, 4, 10, time.Second), status(1, 2, 9, time.Hour), status(1, 3, 8, 0)}, proxy.Answer{Limit: 9, Remaining: 2, Reset: time.Hour}},
		{"without a limit", 1, statuses{status(1, 0, 0, 0)}, proxy.Answer{}},
		{"over", 2, statuses{status(1, 1, 10, time.Hour), status(2, 0, 9, time.Second), status(2, 0, 8, 2*time.Second)}, proxy.Answer{OverLimit: true, Limit: 8, Reset: 2 * time.Second}},
		{"over, says no more", 2, nil, proxy.Answer{OverLimit: true}},
		{"huge", 1, statuses{status(1, math.MaxUint32, math.MaxInt32, -time.Second)}, proxy.Answer{Limit: math.MaxInt32, Remaining: math.MaxInt32}},
	} {
		r := parsed(t, &ratelimitv3.RateLimitResponse{OverallCode: ratelimitv3.RateLimitResponse_Code(c.code), Statuses: c.all})
		if got := r.answer(); got.OverLimit != c.want.OverLimit || got.Limit != c.want.Limit || got.Remaining != c.want.Remaining || got.Reset != c.want.Reset {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// What this version of ours does not know is passed over.
func TestUnknownFields(t *testing.T) {
	some, err := structpb.NewStruct(map[string]any{"a": []any{1.5, "b"}})
	if err != nil {
		t.Fatal(err)
	}
	m := &ratelimitv3.RateLimitResponse{OverallCode: ratelimitv3.RateLimitResponse_OVER_LIMIT, RawBody: []byte("body"), DynamicMetadata: some,
		Quota: &ratelimitv3.RateLimitResponse_Quota{Requests: 5, Id: "x"}}
	m.ProtoReflect().SetUnknown([]byte{0x9d, 6, 1, 2, 3, 4, 0xa1, 6, 1, 2, 3, 4, 5, 6, 7, 8}) // fixed32 and fixed64
	if r := parsed(t, m); r.code != codeOverLimit {
		t.Errorf("%+v", r)
	}
}

// A request is one of the protocol's, whatever texts it holds.
func TestRequestIsValid(t *testing.T) {
	q := &proxy.Question{Domain: "d\xff", Hits: math.MaxUint32, Descriptors: []proxy.Descriptor{{}, {{Key: "", Value: ""}, {Key: "k", Value: "caf\xe9 \x00"}}}}
	b, err := codec{}.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	var m ratelimitv3.RateLimitRequest
	if err := proto.Unmarshal(b.Materialize(), &m); err != nil {
		t.Fatal(err)
	}
	if m.Domain != "d\uFFFD" || m.HitsAddend != math.MaxUint32 || len(m.Descriptors) != 2 || m.Descriptors[1].Entries[1].Value != "caf\uFFFD \x00" {
		t.Errorf("%v", &m)
	}
	if _, err := (codec{}).Marshal("something"); err == nil {
		t.Error("anything is a question")
	}
	if err := (codec{}).Unmarshal(mem.BufferSlice{}, &m); err == nil {
		t.Error("anything is a response")
	}
}

// Ours reads what the generated code reads, and sees the same in it.
func FuzzResponse(f *testing.F) {
	b, err := proto.Marshal(&ratelimitv3.RateLimitResponse{OverallCode: 1, Statuses: []*ratelimitv3.RateLimitResponse_DescriptorStatus{overFor(time.Second, 3)}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{0x08, 0x02})
	f.Add([]byte{0x12, 0x00, 0x1a, 0x02, 0x0a, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		var m ratelimitv3.RateLimitResponse
		var r response
		theirs, ours := proto.Unmarshal(b, &m), r.parse(b)
		if theirs != nil {
			return
		}
		if ours != nil {
			t.Fatalf("refused, and they read %v", &m)
		}
		if int32(r.code) != int32(m.OverallCode) || len(r.statuses) != len(m.Statuses) {
			t.Errorf("read %+v, and they %v", r, &m)
		}
		r.answer()
	})
}
