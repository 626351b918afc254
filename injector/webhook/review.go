package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"runtime/debug"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// bodyMost bounds a review. The API server takes objects of 1.5 MiB in etcd and 3 MiB in a
// request; a review of more is none of its.
const bodyMost = 3 << 20

// outcome is what came of a review, as it is counted and logged.
type outcome string

const (
	injected  outcome = "injected"  // allowed, with a patch
	unchanged outcome = "unchanged" // allowed; everything is there already
	skipped   outcome = "skipped"   // allowed; opted out, or not to be injected
	untouched outcome = "untouched" // allowed; no creation of a pod
	refused   outcome = "refused"   // not allowed: it cannot be done right
	failed    outcome = "failed"    // not answered: the failure policy decides
	panicked  outcome = "panicked"  // likewise, by a fault of ours
	malformed outcome = "malformed" // no review
	tooLarge  outcome = "too_large"
)

// outcomes are all of them.
var outcomes = []outcome{injected, unchanged, skipped, untouched, refused, failed, panicked, malformed, tooLarge}

// problem is why a review is not answered by one: the HTTP status says whose fault it is, and the
// API server turns to its failure policy.
type problem struct {
	outcome outcome
	status  int
	text    string
}

func (p *problem) Error() string { return p.text }

// bad is the problem of a request that is no review.
func bad(status int, format string, args ...any) *problem {
	return &problem{malformed, status, fmt.Sprintf(format, args...)}
}

// review answers one request of the API server.
func (s *Server) review(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	answer, what, err := s.decide(w, r)
	if s.stopping() {
		w.Header().Set("Connection", "close")
	}
	if err != nil {
		what = err.outcome
		http.Error(w, err.text, err.status)
	} else {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer) // whoever has gone needs no answer
	}
	s.metrics.reviewed(what, time.Since(start))
}

// decide reads a review and makes its answer. A panic, ours or the mutation's, is a problem.
func (s *Server) decide(w http.ResponseWriter, r *http.Request) (answer []byte, what outcome, err *problem) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("a review panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			answer, err = nil, &problem{panicked, http.StatusInternalServerError, "the injector failed at this review; its log says where"}
		}
	}()
	if err := acceptable(r); err != nil {
		return nil, "", err
	}
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	case <-r.Context().Done():
		return nil, "", &problem{failed, http.StatusServiceUnavailable, "too many reviews at once"}
	}
	request, err := readReview(w, r)
	if err != nil {
		return nil, "", err
	}
	response, what, err := s.respond(r.Context(), request)
	if err != nil {
		return nil, "", err
	}
	response.UID = request.UID
	answer, failure := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Response: response})
	if failure != nil {
		return nil, "", &problem{failed, http.StatusInternalServerError, failure.Error()}
	}
	return answer, what, nil
}

// acceptable judges a request before its body is read.
func acceptable(r *http.Request) *problem {
	if r.Method != http.MethodPost {
		return bad(http.StatusMethodNotAllowed, "a review is sent by POST, and not by %s", r.Method)
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return bad(http.StatusUnsupportedMediaType, "a review is application/json, and not %q", r.Header.Get("Content-Type"))
	}
	return nil
}

// readReview reads the body, which becomes the request's.
func readReview(w http.ResponseWriter, r *http.Request) (*admissionv1.AdmissionRequest, *problem) {
	large := &problem{tooLarge, http.StatusRequestEntityTooLarge, fmt.Sprintf("a review has %d bytes at most", bodyMost)}
	if r.ContentLength > bodyMost {
		return nil, large
	}
	// Places are few, and whoever reaches the port may ask for one.
	connection := http.NewResponseController(w)
	_ = connection.SetReadDeadline(time.Now().Add(bodyTime)) // without one, that of the server holds
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyMost))
	_ = connection.SetReadDeadline(time.Time{})
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, large
	case err != nil:
		return nil, bad(http.StatusBadRequest, "the review did not come to its end: %v", err)
	case len(body) == 0:
		return nil, bad(http.StatusBadRequest, "the request has no body; a review was expected")
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(body, &review); err != nil {
		return nil, bad(http.StatusBadRequest, "no review in JSON: %s", where(err))
	}
	if review.APIVersion != "admission.k8s.io/v1" || review.Kind != "AdmissionReview" {
		return nil, bad(http.StatusBadRequest, "apiVersion %q, kind %q: the injector knows AdmissionReview of admission.k8s.io/v1 only (admissionReviewVersions: [v1])",
			brief(review.APIVersion), brief(review.Kind))
	}
	if review.Request == nil || review.Request.UID == "" {
		return nil, bad(http.StatusBadRequest, "the review has no request, or its request no uid")
	}
	return review.Request, nil
}

// where words an error of decoding without what was decoded, which may be a secret.
func where(err error) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("not JSON at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Sprintf("%s is a %s, which a %s cannot be", kind.Field, kind.Value, kind.Type)
	}
	return "not JSON"
}

// brief bounds what a stranger's text adds to ours.
func brief(text string) string { return text[:min(len(text), 64)] }

// respond decides about one request. It may wait for the API server where the namespace is
// not known yet. A dry run needs no care: nothing is done but to answer.
func (s *Server) respond(ctx context.Context, r *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, outcome, *problem) {
	if !isNewPod(r) {
		return &admissionv1.AdmissionResponse{Allowed: true}, untouched, nil
	}
	var pod corev1.Pod
	if err := json.Unmarshal(r.Object.Raw, &pod); err != nil {
		return nil, "", bad(http.StatusBadRequest, "no pod in the review: %s", where(err))
	}
	namespace, err := s.namespaces.get(ctx, r.Namespace)
	if err != nil {
		s.log.Error("review not answered: its namespace is not known", "namespace", r.Namespace, "error", err)
		return nil, "", &problem{failed, http.StatusInternalServerError, fmt.Sprintf("namespace %q is not known yet, and asking for it failed", r.Namespace)}
	}
	settings := s.current()
	result, err := s.mutate(&pod, namespace, settings)
	if err == nil && result.Skipped != "" {
		if now, changed := s.namespaces.newer(ctx, namespace); changed {
			result, err = s.mutate(&pod, now, settings)
		}
	}
	if err != nil {
		return s.refuse(r, err), refused, nil
	}
	response := &admissionv1.AdmissionResponse{Allowed: true, Warnings: result.Warnings}
	what := skipped
	if result.Skipped == "" {
		patch, err := result.Patch(r.Object.Raw)
		if err != nil {
			s.log.Error("review not answered: no patch", "namespace", r.Namespace, "error", err)
			return nil, "", &problem{failed, http.StatusInternalServerError, "the injector cannot express its change as a patch"}
		}
		what = unchanged
		if patch != nil {
			what = injected
			kind := admissionv1.PatchTypeJSONPatch
			response.Patch, response.PatchType = patch, &kind
			s.metrics.patched(len(patch))
		}
	}
	s.logReview(ctx, r, &pod, what, result.Skipped)
	return response, what, nil
}

// isNewPod reports whether there is something to do at all: of an existing pod Kubernetes
// lets nobody change the containers, and a binding, an eviction or a status is no pod.
func isNewPod(r *admissionv1.AdmissionRequest) bool {
	pods := metav1.GroupVersionResource{Version: "v1", Resource: "pods"}
	return r.Operation == admissionv1.Create && r.SubResource == "" && r.Resource == pods && len(r.Object.Raw) > 0
}

// refuse is the answer that keeps a pod out, with a sentence for whoever makes it.
func (s *Server) refuse(r *admissionv1.AdmissionRequest, why error) *admissionv1.AdmissionResponse {
	s.log.Warn("pod refused", "namespace", r.Namespace, "pod", r.Name, "uid", r.UID, "error", why)
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: why.Error()}}
}

// logReview tells what became of a pod, and nothing of what is in it.
func (s *Server) logReview(ctx context.Context, r *admissionv1.AdmissionRequest, pod *corev1.Pod, what outcome, why string) {
	name := r.Name
	if name == "" {
		name = pod.GenerateName + "*"
	}
	log := s.log.Info
	if what != injected {
		log = s.log.Debug
	}
	log("pod reviewed", "outcome", string(what), "namespace", r.Namespace, "pod", name, "uid", r.UID,
		"dry_run", r.DryRun != nil && *r.DryRun, "reason", why)
}
