package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larboard-proxy/larboard/injector"
)

// newServer is an injector on a fake API server whose mutation does what the pod's name says.
func newServer(t testing.TB, f *fakeAPI, log io.Writer) *Server {
	t.Helper()
	s, err := New(Options{Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), Settings: &injector.Settings{}, API: f.api()})
	if err != nil {
		t.Fatal(err)
	}
	s.mutate = asNamed
	return s
}

func asNamed(pod *corev1.Pod, ns injector.Namespace, _ *injector.Settings) (injector.Result, error) {
	r := injector.Result{Pod: pod.DeepCopy()}
	switch pod.Name {
	case "refused":
		return r, errors.New("its port 20000 is taken")
	case "skipped":
		r.Skipped = "opted out"
		r.Pod.Spec.Containers = nil // not to be looked at
	case "panics":
		panic("secret text of a pod")
	case "there":
	default:
		r.Pod.Spec.InitContainers = append(r.Pod.Spec.InitContainers, corev1.Container{Name: "larboard"})
		r.Pod.Annotations = map[string]string{"in": ns.Name + "=" + ns.Labels["larboard.io/inject"]}
		r.Warnings = []string{"mind the gap"}
	}
	return r, nil
}

// admission is a review of the creation of a pod, changed by change.
func admission(name string, change func(*admissionv1.AdmissionRequest)) []byte {
	pod := fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q},"spec":{"containers":[{"name":"app","image":"app","resources":{},"env":[{"name":"A","value":"secret text of a pod"}]}]},"status":{}}`, name)
	r := &admissionv1.AdmissionRequest{UID: "0815", Operation: admissionv1.Create, Namespace: "shop", Name: name,
		Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"}}
	r.Object.Raw = []byte(pod)
	if change != nil {
		change(r)
	}
	body, err := json.Marshal(admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: r})
	if err != nil {
		panic(err)
	}
	return body
}

// post sends a body as the API server does.
func post(s *Server, body []byte, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/mutate", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	s.front().Handler.ServeHTTP(w, r)
	return w
}

// shop is a namespace that counts, with more than what counts.
func shop() *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop",
		Labels: map[string]string{"larboard.io/inject": "enabled", "team": "a"}, Annotations: map[string]string{"kubectl.kubernetes.io/last": "long"}}}
}

func TestReviews(t *testing.T) {
	f := newFakeAPI()
	f.put("/api/v1/namespaces/shop", shop())
	var log bytes.Buffer
	s := newServer(t, f, &log)
	yes := true
	for _, test := range []struct {
		name    string
		pod     string
		change  func(*admissionv1.AdmissionRequest)
		allowed bool
		patched bool
		outcome outcome
		message string
	}{
		{"injected", "one", nil, true, true, injected, ""},
		{"dry run", "one", func(r *admissionv1.AdmissionRequest) { r.DryRun = &yes }, true, true, injected, ""},
		{"there already", "there", nil, true, false, unchanged, ""},
		{"opted out", "skipped", nil, true, false, skipped, ""},
		{"refused", "refused", nil, false, false, refused, "its port 20000 is taken"},
		{"an update", "one", func(r *admissionv1.AdmissionRequest) { r.Operation = admissionv1.Update }, true, false, untouched, ""},
		{"a deletion", "one", func(r *admissionv1.AdmissionRequest) { r.Operation, r.Object.Raw = admissionv1.Delete, nil }, true, false, untouched, ""},
		{"a subresource", "one", func(r *admissionv1.AdmissionRequest) { r.SubResource = "binding" }, true, false, untouched, ""},
		{"another kind", "one", func(r *admissionv1.AdmissionRequest) { r.Resource.Resource = "services" }, true, false, untouched, ""},
		{"another group", "one", func(r *admissionv1.AdmissionRequest) { r.Resource.Group = "metrics.k8s.io" }, true, false, untouched, ""},
		{"a namespace that does not exist", "one", func(r *admissionv1.AdmissionRequest) { r.Namespace = "gone" }, true, true, injected, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			body := admission(test.pod, test.change)
			before := count(t, s, test.outcome)
			w := post(s, body, nil)
			var answer admissionv1.AdmissionReview
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != http.StatusOK {
				t.Fatalf("%d, %v: %s", w.Code, err, w.Body)
			}
			got := answer.Response
			if answer.APIVersion != "admission.k8s.io/v1" || answer.Kind != "AdmissionReview" || got.UID != "0815" || got.Allowed != test.allowed || (got.Patch != nil) != test.patched {
				t.Errorf("answer: %s", w.Body)
			}
			if test.message != "" && (got.Result == nil || got.Result.Message != test.message) {
				t.Errorf("result %+v, want %q", got.Result, test.message)
			}
			if n := count(t, s, test.outcome); n != before+1 {
				t.Errorf("outcome %s counted %v times", test.outcome, n-before)
			}
			if test.patched {
				checkPatch(t, body, got)
			}
		})
	}
	if strings.Contains(log.String(), "secret text") {
		t.Errorf("the log has what is in a pod:\n%s", &log)
	}
}

// checkPatch applies a patch as the API server does.
func checkPatch(t *testing.T, body []byte, got *admissionv1.AdmissionResponse) {
	t.Helper()
	var sent admissionv1.AdmissionReview
	if err := json.Unmarshal(body, &sent); err != nil {
		t.Fatal(err)
	}
	patch, err := jsonpatch.DecodePatch(got.Patch)
	if err != nil {
		t.Fatal(err)
	}
	after, err := patch.Apply(sent.Request.Object.Raw)
	if err != nil {
		t.Fatal(err)
	}
	var pod corev1.Pod
	if err := json.Unmarshal(after, &pod); err != nil {
		t.Fatal(err)
	}
	in := sent.Request.Namespace + "="
	if sent.Request.Namespace == "shop" {
		in += "enabled"
	}
	if *got.PatchType != admissionv1.PatchTypeJSONPatch || len(pod.Spec.InitContainers) != 1 || pod.Annotations["in"] != in || len(got.Warnings) != 1 {
		t.Errorf("%s\n%+v", after, got)
	}
}

// count is the number of reviews with an outcome, as Prometheus reads it.
func count(t testing.TB, s *Server, o outcome) (n float64) {
	t.Helper()
	w := httptest.NewRecorder()
	s.back().Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	prefix := fmt.Sprintf("larboard_injector_reviews_total{outcome=%q} ", string(o))
	for line := range strings.Lines(w.Body.String()) {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			if _, err := fmt.Sscan(rest, &n); err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s in %s", prefix, w.Body)
	return 0
}

func TestNoReview(t *testing.T) {
	f := newFakeAPI()
	f.put("/api/v1/namespaces/shop", shop())
	var log bytes.Buffer
	s := newServer(t, f, &log)
	good := admission("one", nil)
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for _, test := range []struct {
		name    string
		body    []byte
		change  func(*http.Request)
		status  int
		outcome outcome
		text    string
	}{
		{"another method", good, func(r *http.Request) { r.Method = http.MethodGet }, 405, malformed, "by POST, and not by GET"},
		{"another content type", good, header("Content-Type", "application/yaml"), 415, malformed, `not "application/yaml"`},
		{"no content type", good, func(r *http.Request) { r.Header.Del("Content-Type") }, 415, malformed, "application/json"},
		{"a content type with a parameter", []byte("{}"), header("Content-Type", "application/json; charset=utf-8"), 400, malformed, "AdmissionReview"},
		{"no body", nil, nil, 400, malformed, "no body"},
		{"no JSON", []byte("{secret text}"), nil, 400, malformed, "not JSON at byte 2"},
		{"another type", []byte(`{"request":{"uid":["secret text"]}}`), nil, 400, malformed, "request.uid is a array"},
		{"an old version", bytes.Replace(good, []byte("admission.k8s.io/v1"), []byte("admission.k8s.io/v1beta1"), 1), nil, 400, malformed, `"admission.k8s.io/v1beta1"`},
		{"another kind", bytes.Replace(good, []byte("AdmissionReview"), []byte("ConversionReview"), 1), nil, 400, malformed, `"ConversionReview"`},
		{"no request", []byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`), nil, 400, malformed, "no request"},
		{"no uid", admission("one", func(r *admissionv1.AdmissionRequest) { r.UID = "" }), nil, 400, malformed, "no uid"},
		{"no pod", admission("one", func(r *admissionv1.AdmissionRequest) { r.Object.Raw = []byte(`{"spec":"secret text"}`) }), nil, 400, malformed, "spec is a string"},
		{"too large, as it says", make([]byte, bodyMost+1), nil, 413, tooLarge, "3145728 bytes at most"},
		{"too large, as it turns out", append(bytes.Repeat([]byte(" "), bodyMost), good...), func(r *http.Request) { r.ContentLength = -1 }, 413, tooLarge, "at most"},
		{"cut off", good, func(r *http.Request) { r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(good[:9]), broken{})) }, 400, malformed, "did not come to its end"},
		{"a panic", admission("panics", nil), nil, 500, panicked, "its log says where"},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := count(t, s, test.outcome)
			w := post(s, test.body, test.change)
			if w.Code != test.status || !strings.Contains(w.Body.String(), test.text) || strings.Contains(w.Body.String(), "secret text") {
				t.Errorf("%d %s, want %d %s", w.Code, w.Body, test.status, test.text)
			}
			if n := count(t, s, test.outcome); n != before+1 {
				t.Errorf("outcome %s counted %v times", test.outcome, n-before)
			}
		})
	}
	if w := post(s, good, nil); w.Code != 200 {
		t.Errorf("after all that: %d %s", w.Code, w.Body)
	}
}

// Whoever sends a head and then nothing gives his place back soon.
func TestABodyThatDoesNotCome(t *testing.T) {
	t.Parallel()
	f := newFakeAPI()
	f.put("/api/v1/namespaces/shop", shop())
	s := newServer(t, f, io.Discard)
	server := httptest.NewServer(http.HandlerFunc(s.review))
	defer server.Close()
	for range places {
		c, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "POST /mutate HTTP/1.1\r\nHost: injector\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	}
	for len(s.places) < places {
		time.Sleep(time.Millisecond)
	}
	if w := post(s, admission("one", nil), nil); w.Code != 200 { // comes to its turn
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// A namespace that is known stays so while the API server is away; one that is not makes
// the failure policy decide.
func TestReviewsWhileTheAPIServerIsAway(t *testing.T) {
	f := newFakeAPI()
	f.put("/api/v1/namespaces/shop", shop())
	s := newServer(t, f, io.Discard)
	if _, err := s.namespaces.list(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.setAway(true)
	if w := post(s, admission("one", nil), nil); w.Code != 200 {
		t.Errorf("known: %d %s", w.Code, w.Body)
	}
	w := post(s, admission("one", func(r *admissionv1.AdmissionRequest) { r.Namespace = "new" }), nil)
	if w.Code != 500 || !strings.Contains(w.Body.String(), `namespace "new" is not known yet`) {
		t.Errorf("unknown: %d %s", w.Code, w.Body)
	}
}

func FuzzReview(f *testing.F) {
	f.Add(admission("one", nil))
	f.Add([]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","operation":"CREATE","resource":{"version":"v1","resource":"pods"},"object":{}}}`))
	api := newFakeAPI()
	s := newServer(f, api, io.Discard)
	f.Fuzz(func(t *testing.T, body []byte) {
		w := post(s, body, nil)
		if w.Code == http.StatusInternalServerError {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		var answer admissionv1.AdmissionReview
		if w.Code == http.StatusOK && (json.Unmarshal(w.Body.Bytes(), &answer) != nil || answer.Response == nil || answer.Response.UID == "") {
			t.Errorf("no answer: %s", w.Body)
		}
	})
}

// What a review costs, of a pod with five containers, decoded, decided and answered.
func BenchmarkReview(b *testing.B) {
	f := newFakeAPI()
	f.put("/api/v1/namespaces/shop", shop())
	s := newServer(b, f, io.Discard)
	if _, err := s.namespaces.list(b.Context()); err != nil {
		b.Fatal(err)
	}
	body := admission("one", nil)
	b.ReportAllocs()
	for b.Loop() {
		post(s, body, nil)
	}
}

// A namespace's label may be younger than what the watch has told: the API server knows of it when it
// asks, and the pod is not left alone by what was known.
func TestALabelThatIsNewIsAskedFor(t *testing.T) {
	f := newFakeAPI()
	var log bytes.Buffer
	s := newServer(t, f, &log)
	s.mutate = injector.Mutate
	s.settings.Store(injector.DefaultSettings())
	f.put("/api/v1/namespaces/shop", &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
	if _, err := s.namespaces.list(t.Context()); err != nil { // and no watch
		t.Fatal(err)
	}
	body := admission("one", func(r *admissionv1.AdmissionRequest) {
		r.Object.Raw = bytes.Replace(r.Object.Raw, []byte(`"resources":{}`), []byte(`"resources":{},"ports":[{"containerPort":8080}]`), 1)
	})
	patched := func() bool {
		t.Helper()
		w := post(s, body, nil)
		var answer admissionv1.AdmissionReview
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Response == nil || !answer.Response.Allowed {
			t.Fatalf("%d, %v: %s", w.Code, err, w.Body)
		}
		return answer.Response.Patch != nil
	}
	if patched() {
		t.Error("injected without a label")
	}
	f.put("/api/v1/namespaces/shop", shop())
	if !patched() {
		t.Error("left alone by what was known before")
	}
	f.setAway(true)
	if patched() {
		t.Error("injected by a label that nobody has told")
	}
	if !strings.Contains(log.String(), "left alone by what was last known") {
		t.Errorf("nothing is said:\n%s", log.String())
	}
}
