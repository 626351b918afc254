package admin

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// route is one path of the interface.
type route struct {
	method, path, says string
	handler            http.Handler
}

// routes builds the handler of what the views offer.
func (s *Server) routes() http.Handler {
	v := s.views
	list := []route{
		{"GET", "/healthz", "200 while the process lives", http.HandlerFunc(healthz)},
	}
	add := func(offered bool, method, path, says string, h http.HandlerFunc) {
		if offered {
			list = append(list, route{method, path, says, h})
		}
	}
	add(v.Ready != nil, "GET", "/readyz", "200 when traffic should be sent here, else 503 and the reasons", s.readyz)
	if v.Metrics != nil {
		list = append(list, route{"GET", "/metrics", "for Prometheus", v.Metrics})
	}
	add(v.Listeners != nil, "GET", "/api/v1/listeners", "listeners", s.listenersView)
	add(v.Captures != nil, "GET", "/api/v1/captures", "addresses whose captured connections a listener takes", s.capturesView)
	add(v.Services != nil, "GET", "/api/v1/services", "services and what was counted of them", s.servicesView)
	add(v.Endpoints != nil, "GET", "/api/v1/endpoints", "endpoints, their state and its reason", s.endpointsView)
	add(v.Intentions != nil, "GET", "/api/v1/intentions", "Consul's intentions in force here; ?caller=SPIFFE-ID shows their verdict", s.intentionsView)
	add(v.Identity != nil, "GET", "/api/v1/identity", "own identities, expiry, trusted domains", s.identityView)
	add(v.Limits != nil, "GET", "/api/v1/limits", "connections, file descriptors, rate limits: in use, allowed", s.limitsView)
	add(v.Registrations != nil, "GET", "/api/v1/registrations", "what is registered in Consul", s.registrationsView)
	add(v.Decisions != nil, "GET", "/api/v1/decisions", "the last exchanges that failed or were retried, with their attempts; ?reason=CODE ?service=NAME ?limit=N ?after=ID", s.decisionsView)
	add(true, "GET", "/api/v1/reasons", "why the proxy itself answers or refuses, with status and remedy", reasonsView)
	add(v.Config != nil, "GET", "/api/v1/config", "the configuration in force", s.configView)
	add(v.ReopenLogs != nil, "POST", "/api/v1/logs/reopen", "open the files of the access logs anew, after they were renamed", s.reopenLogs)
	add(v.Maintain != nil, "POST", "/api/v1/maintenance", "?reason=TEXT keeps others away through Consul, ?end=true lets them come again; &id=ID for one", s.maintenance)
	add(v.Leave != nil, "POST", "/api/v1/leave", "not ready and out of Consul, serving on until SIGTERM; answers when the others know", s.leave)
	add(v.Quit != nil, "POST", "/api/v1/quit", "drain and end, as SIGTERM does; answers at once", s.quit)
	add(v.Reload != nil, "POST", "/api/v1/reload", "read the configuration again; 422 and the problems if it is refused", s.reload)

	mux := http.NewServeMux()
	for _, r := range list {
		mux.Handle(r.method+" "+r.path, r.handler)
	}
	mux.HandleFunc("GET /{$}", index(list))
	return mux
}

func index(list []route) http.HandlerFunc {
	var page strings.Builder
	page.WriteString("larboard admin\n\n")
	for _, r := range list {
		fmt.Fprintf(&page, "%-4s %-18s %s\n", r.method, r.path, r.says)
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(w, page.String())
	}
}

func healthz(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"status": "alive"})
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	ready, reasons := s.views.Ready()
	status := http.StatusOK
	if !ready {
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, struct {
		Ready   bool     `json:"ready"`
		Reasons []string `json:"reasons"`
	}{ready, listOf(reasons)})
}

func (s *Server) listenersView(w http.ResponseWriter, _ *http.Request) {
	list := s.views.Listeners()
	slices.SortStableFunc(list, func(a, b ListenerView) int { return cmp.Compare(a.Name, b.Name) })
	for i := range list {
		list[i].Addresses = listOf(list[i].Addresses)
	}
	writeJSON(w, http.StatusOK, map[string]any{"listeners": listOf(list)})
}

// capturesView keeps the order of the file, in which the first claim counts.
func (s *Server) capturesView(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"captures": listOf(s.views.Captures())})
}

func (s *Server) servicesView(w http.ResponseWriter, _ *http.Request) {
	list := s.views.Services()
	slices.SortStableFunc(list, func(a, b ServiceView) int { return cmp.Compare(a.Name, b.Name) })
	for i := range list {
		list[i].Sources = listOf(list[i].Sources)
	}
	writeJSON(w, http.StatusOK, map[string]any{"services": listOf(list)})
}

// endpointsView takes ?service=NAME to show one service only.
func (s *Server) endpointsView(w http.ResponseWriter, r *http.Request) {
	list := s.views.Endpoints()
	if service := r.URL.Query().Get("service"); service != "" {
		list = slices.DeleteFunc(list, func(e EndpointView) bool { return e.Service != service })
	}
	slices.SortStableFunc(list, func(a, b EndpointView) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Address, b.Address))
	})
	writeJSON(w, http.StatusOK, map[string]any{"endpoints": listOf(list)})
}

func (s *Server) limitsView(w http.ResponseWriter, _ *http.Request) {
	v := s.views.Limits()
	v.RateLimits = listOf(v.RateLimits)
	writeJSON(w, http.StatusOK, v)
}

func (s *Server) identityView(w http.ResponseWriter, _ *http.Request) {
	list := s.views.Identity()
	slices.SortStableFunc(list, func(a, b IdentityView) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.SPIFFEID, b.SPIFFEID))
	})
	for i := range list {
		bundles := listOf(list[i].Bundles)
		slices.SortFunc(bundles, func(a, b BundleView) int { return cmp.Compare(a.TrustDomain, b.TrustDomain) })
		list[i].Bundles = bundles
	}
	writeJSON(w, http.StatusOK, map[string]any{"identities": listOf(list)})
}

// intentionsView takes ?caller=ID to show what is decided about it.
func (s *Server) intentionsView(w http.ResponseWriter, r *http.Request) {
	list := s.views.Intentions(r.URL.Query().Get("caller"))
	slices.SortStableFunc(list, func(a, b IntentionsView) int { return cmp.Compare(a.Destination, b.Destination) })
	for i := range list {
		list[i].Intentions = listOf(list[i].Intentions)
	}
	writeJSON(w, http.StatusOK, map[string]any{"destinations": listOf(list)})
}

func (s *Server) registrationsView(w http.ResponseWriter, _ *http.Request) {
	list := s.views.Registrations()
	slices.SortStableFunc(list, func(a, b RegistrationView) int { return cmp.Compare(a.ID, b.ID) })
	writeJSON(w, http.StatusOK, map[string]any{"registrations": listOf(list)})
}

// maintenance takes ?reason=TEXT or ?end=true, and &id=ID of a registration.
func (s *Server) maintenance(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	reason, end := q.Get("reason"), q.Get("end") == "true"
	if (reason == "") == !end {
		writeError(w, http.StatusBadRequest, "say why with ?reason=TEXT, or ?end=true to end it")
		return
	}
	ids, err := s.views.Maintain(r.Context(), q.Get("id"), reason)
	switch {
	case err != nil:
		writeError(w, http.StatusBadGateway, err.Error())
	case len(ids) == 0:
		writeError(w, http.StatusNotFound, "nothing of that ID is registered here: see /api/v1/registrations")
	default:
		writeJSON(w, http.StatusOK, map[string]any{"ids": ids, "maintenance": !end})
	}
}

// reopenLogs answers 500 where a file cannot be opened; the old one stays in use.
func (s *Server) reopenLogs(w http.ResponseWriter, _ *http.Request) {
	names, err := s.views.ReopenLogs()
	if err != nil {
		writeError(w, http.StatusInternalServerError, err.Error())
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"reopened": listOf(names)})
}

// leave answers when it is done, which register.propagation may put off longer than other
// answers may take; any number of times.
func (s *Server) leave(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // without one there is nothing to lift
	s.views.Leave(r.Context())
	writeJSON(w, http.StatusOK, map[string]bool{"left": true})
}

// quit answers 202 before anything has ended; any number of times.
func (s *Server) quit(w http.ResponseWriter, _ *http.Request) {
	s.logger.Info("asked to end over the admin interface")
	s.views.Quit()
	writeJSON(w, http.StatusAccepted, map[string]bool{"draining": true})
}

func (s *Server) configView(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.views.Config())
}

// listOf makes nil the empty list, so that JSON shows [] and never null.
func listOf[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(value); err != nil {
		writeError(w, http.StatusInternalServerError, "the answer cannot be shown as JSON: "+err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// An error here is the client's; there is nobody left to tell.
	_, _ = w.Write(body.Bytes())
}

func writeError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, map[string]string{"error": message})
}
