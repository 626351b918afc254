package admin

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/larboard-proxy/larboard/policy"
)

// DecisionView is what became of one exchange that failed, was denied or limited, or
// needed more than one attempt; or of a connection that was ended as such.
type DecisionView struct {
	ID   uint64    `json:"id"` // higher is later
	Time time.Time `json:"time"`
	// Kind is exchange or connection.
	Kind   string `json:"kind"`
	Reason string `json:"reason"`          // none: an endpoint answered in the end
	Side   string `json:"side,omitempty"`  // downstream, upstream or internal
	Phase  string `json:"phase,omitempty"` // accept, head, route, pick, connect, send, wait, body, record
	Error  string `json:"error,omitempty"` // the cause behind the reason

	Listener   string `json:"listener"`
	Direction  string `json:"direction"`
	Route      string `json:"route,omitempty"`
	Service    string `json:"service,omitempty"`
	Protocol   string `json:"protocol,omitempty"`
	Method     string `json:"method,omitempty"`
	Authority  string `json:"authority,omitempty"`
	Path       string `json:"path,omitempty"` // without query
	RequestID  string `json:"request_id,omitempty"`
	TraceID    string `json:"trace_id,omitempty"`
	Status     int    `json:"status,omitempty"` // sent to the client
	GRPCStatus string `json:"grpc_status,omitempty"`
	Client     string `json:"client,omitempty"`
	PeerID     string `json:"peer_id,omitempty"`

	DurationMS float64 `json:"duration_ms"`
	// Attempts is how many there were; Tries those that had an endpoint.
	Attempts int       `json:"attempts"`
	Tries    []TryView `json:"tries"`
}

// TryView is one attempt at one endpoint.
type TryView struct {
	Endpoint   string  `json:"endpoint"`
	EndpointID string  `json:"endpoint_id,omitempty"`
	Reason     string  `json:"reason"` // none: an answer came
	Side       string  `json:"side,omitempty"`
	Phase      string  `json:"phase,omitempty"`
	Status     int     `json:"status,omitempty"` // of the endpoint's answer
	GRPCStatus string  `json:"grpc_status,omitempty"`
	Reused     bool    `json:"reused,omitempty"` // over a kept connection
	StartMS    float64 `json:"start_ms"`         // since the exchange began
	ConnectMS  float64 `json:"connect_ms,omitempty"`
	HeadMS     float64 `json:"head_ms,omitempty"` // of the answer, since the attempt's start
	DurationMS float64 `json:"duration_ms"`
}

// DecisionsQuery says which are asked for.
type DecisionsQuery struct {
	Reason  policy.Reason
	Any     bool // Reason does not matter
	Service string
	After   uint64 // only later ones, by ID
	Limit   int
}

// decisionsLimit is the default of ?limit.
const decisionsLimit = 100

// askWithin bounds how long the loops may take to answer.
const askWithin = 5 * time.Second

// decisionsView takes ?reason=CODE, ?service=NAME, ?limit=N and ?after=ID.
func (s *Server) decisionsView(w http.ResponseWriter, r *http.Request) {
	q, problem := decisionsQuery(r)
	if problem != "" {
		writeError(w, http.StatusBadRequest, problem)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), askWithin)
	defer cancel()
	list, err := s.views.Decisions(ctx, q)
	if err != nil {
		writeError(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	for i := range list {
		list[i].Tries = listOf(list[i].Tries)
	}
	writeJSON(w, http.StatusOK, map[string]any{"decisions": listOf(list)})
}

func decisionsQuery(r *http.Request) (q DecisionsQuery, problem string) {
	values := r.URL.Query()
	q = DecisionsQuery{Any: true, Service: values.Get("service"), Limit: decisionsLimit}
	if code := values.Get("reason"); code != "" {
		reason, known := policy.ReasonCalled(code)
		if !known {
			return q, "unknown reason " + strconv.Quote(code) + ": see /api/v1/reasons"
		}
		q.Reason, q.Any = reason, false
	}
	if text := values.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return q, "limit is a number from 1 on"
		}
		q.Limit = n
	}
	if text := values.Get("after"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return q, "after is the id of a decision"
		}
		q.After = n
	}
	return q, ""
}
