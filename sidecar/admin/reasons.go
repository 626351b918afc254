package admin

import (
	"net/http"

	"github.com/larboard-proxy/larboard/policy"
)

// ReasonView is one row of the table of reasons.
type ReasonView struct {
	Code       string `json:"code"`
	Status     int    `json:"status"` // HTTP status of the answer; 0: the connection is closed without one
	GRPC       int    `json:"grpc"`
	GRPCStatus string `json:"grpc_status"` // name of grpc
	// Termination is HAProxy's code: who ended it, and in which phase.
	Termination string `json:"termination"`
	Sentence    string `json:"sentence"` // what happened
	Remedy      string `json:"remedy"`   // what to do about it
}

// Reasons is the whole table but "none", in its order.
func Reasons() []ReasonView {
	var all []ReasonView
	for _, r := range policy.Reasons()[1:] {
		i := r.Info()
		all = append(all, ReasonView{Code: i.Code, Status: i.Status, GRPC: i.GRPC, GRPCStatus: policy.GRPCStatusOf(i.GRPC).String(),
			Termination: i.Termination, Sentence: i.Sentence, Remedy: i.Remedy})
	}
	return all
}

func reasonsView(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"reasons": Reasons()})
}
