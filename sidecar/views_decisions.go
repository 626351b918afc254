package sidecar

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/larboard-proxy/larboard/observability/decisions"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/admin"
)

// decisionsView asks each loop for what it has kept. A loop that does not turn within
// ctx is an error.
func (s *Sidecar) decisionsView(ctx context.Context, q admin.DecisionsQuery) ([]admin.DecisionView, error) {
	loops := s.engine.Loops()
	answers := make(chan []decisions.Decision, len(loops))
	asked := decisions.Query{Reason: q.Reason, Any: q.Any, Service: q.Service, After: q.After, Limit: q.Limit}
	for i, l := range loops {
		l.Post(func() { answers <- s.decisions.OfLoop(i, asked) })
	}
	var all []decisions.Decision
	for range loops {
		select {
		case some := <-answers:
			all = append(all, some...)
		case <-ctx.Done():
			return nil, fmt.Errorf("a loop does not answer: %w", ctx.Err())
		}
	}
	var views []admin.DecisionView
	for _, d := range decisions.Latest(all, q.Limit) {
		views = append(views, decisionView(&d))
	}
	return views, nil
}

func decisionView(d *decisions.Decision) admin.DecisionView {
	v := admin.DecisionView{
		ID: d.ID, Time: d.Time.UTC(), Kind: "exchange", Reason: d.Reason.String(), Error: d.Cause,
		Listener: d.Listener, Direction: "outbound", Route: d.Route, Service: d.Service, Protocol: d.Protocol,
		Method: d.Method, Authority: d.Authority, Path: d.Path, RequestID: d.RequestID, Status: d.Status, GRPCStatus: d.GRPC.String(),
		PeerID: d.PeerID, DurationMS: millis(d.Total), Attempts: d.Attempts,
	}
	if d.Connection {
		v.Kind = "connection"
	}
	if d.Inbound {
		v.Direction = "inbound"
	}
	if d.Reason != policy.None {
		v.Side, v.Phase = d.Side.String(), d.Phase.String()
	}
	if d.TraceID != [16]byte{} {
		v.TraceID = hex.EncodeToString(d.TraceID[:])
	}
	switch {
	case d.Client.IsValid():
		v.Client = d.Client.String()
	case d.Unix:
		v.Client = "unix"
	}
	for i := range d.Tries {
		v.Tries = append(v.Tries, tryView(&d.Tries[i]))
	}
	return v
}

func tryView(t *decisions.Try) admin.TryView {
	v := admin.TryView{
		Endpoint: t.Endpoint, EndpointID: t.EndpointID, Reason: t.Reason.String(), Status: t.Status, GRPCStatus: t.GRPC.String(), Reused: t.Reused,
		StartMS: millis(t.Start), ConnectMS: millis(t.Connect), HeadMS: millis(t.Head), DurationMS: millis(t.Total),
	}
	if t.Reason != policy.None {
		v.Side, v.Phase = t.Side.String(), t.Phase.String()
	}
	return v
}

// millis is d in milliseconds, to the microsecond.
func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
