package demo

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/larboard-proxy/larboard/sidecar/config"
)

// outOfOrder names, in a request, the instance of api that is to fail it.
const outOfOrder = "x-demo-out-of-order"

// followed shows one call as its proxies have told of it: each hop, and the attempt that was
// repeated.
func followed(ctx context.Context, d *demo) (string, error) {
	client := newClient()
	defer client.CloseIdleConnections()
	var spans []span
	for end := time.Now().Add(patience); time.Now().Before(end); { // about every third call meets the instance that fails it
		trace := fmt.Sprintf("%x", random(16))
		if err := callTraced(ctx, client, d.load.addr, trace); err != nil {
			return "", err
		}
		for told := time.Now().Add(8 * time.Second); ; { // sidecars tell ten times a second, and drop what nobody takes
			if spans = d.mesh.collector.trace(trace); whole(spans) && retried(spans) {
				return fmt.Sprintf("trace %s, %d spans:\n%s", trace, len(spans), d.mesh.drawn(spans)), nil
			}
			if whole(spans) || ctx.Err() != nil || time.Now().After(told) {
				break
			}
			sleep(ctx, 5*time.Millisecond)
		}
	}
	return "", fmt.Errorf("no call was told of whole, with an attempt that failed; of the last one:\n%s", d.mesh.drawn(spans))
}

// callTraced calls as the web application does whose requests are recorded.
func callTraced(ctx context.Context, client *http.Client, addr, trace string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/items", nil)
	if err != nil {
		return err
	}
	req.Header.Set("traceparent", fmt.Sprintf("00-%s-%x-01", trace, random(8)))
	req.Header.Set(outOfOrder, "api-1")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// whole reports whether every hop has told of itself: from the first proxy to stock, and
// below each attempt that reached another.
func whole(spans []span) bool {
	known, below := map[string]bool{}, map[string]bool{}
	for _, s := range spans {
		known[s.id], below[s.parent] = true, true
	}
	roots, stock := 0, false
	for _, s := range spans {
		if !known[s.parent] {
			roots++
		}
		stock = stock || s.client && strings.HasPrefix(s.service, "stock")
		if s.client && s.attributes["larboard.endpoint_id"] != "" && !below[s.id] {
			return false // the other side's proxy is missing
		}
	}
	return roots == 1 && stock
}

// retried reports whether an attempt of web's sidecar was repeated.
func retried(spans []span) bool {
	return slices.ContainsFunc(spans, func(s span) bool { return s.service == "web" && s.attributes["larboard.try"] == "2" })
}

// drawn is a trace as a tree, in the order of time.
func (m *mesh) drawn(spans []span) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	children, known := map[string][]span{}, map[string]bool{}
	for _, s := range spans {
		known[s.id] = true
	}
	for _, s := range spans {
		if !known[s.parent] {
			s.parent = ""
		}
		children[s.parent] = append(children[s.parent], s)
	}
	var draw func(parent string, depth int)
	draw = func(parent string, depth int) {
		below := children[parent]
		slices.SortFunc(below, func(a, b span) int { return cmp.Compare(a.start, b.start) })
		for i := range below {
			s := &below[i]
			fmt.Fprintf(w, "   %s\t%s%s\t%.1fms\t%s\n", s.service, strings.Repeat("  ", depth), m.what(s),
				float64(s.end-s.start)/float64(time.Millisecond), outcome(s))
			draw(s.id, depth+1)
		}
	}
	draw("", 0)
	w.Flush()
	return strings.TrimRight(b.String(), "\n")
}

// what is a span in words: what was asked, and of whom.
func (m *mesh) what(s *span) string {
	switch {
	case !s.client && s.attributes["larboard.direction"] == string(config.Inbound):
		return s.name + ", received"
	case !s.client:
		return s.name + " for " + s.attributes["larboard.service"]
	}
	to := m.at(s.attributes["larboard.endpoint"])
	if s.attributes["larboard.service"] == config.LocalService {
		to = "the application"
	}
	return "-> " + to
}

// outcome is the status, or the reason where there is none, and which attempt it was.
func outcome(s *span) string {
	came := cmp.Or(s.attributes["larboard.reason"], s.attributes["rpc.response.status_code"], s.attributes["http.response.status_code"])
	if try := s.attributes["larboard.try"]; s.client && try != "1" {
		came += ", try " + try
	}
	return came
}
