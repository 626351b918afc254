package sidecar

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/sidecar/admin"
)

func replaceFile(t *testing.T, path, text string) {
	t.Helper()
	err := os.WriteFile(path+".new", []byte(text), 0o600)
	if err = errors.Join(err, os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

// The admin interface tells of each endpoint where it comes from, since when, what
// its health rests on and whether it takes traffic.
func TestEndpointsTellTheirOrigin(t *testing.T) {
	list := filepath.Join(t.TempDir(), "endpoints.yaml")
	one, two, shared, dead := says(t, "one"), says(t, "two"), says(t, "shared"), free(t)
	replaceFile(t, list, fmt.Sprintf("- %s\n- {address: %s, weight: 2, id: b, zone: eu-1, tags: [v1], meta: {team: a}}\n- %s\n", shared, two, dead))
	before := time.Now()
	r := start(t, fmt.Sprintf("admin: {address: 127.0.0.1:0}\nloops: 1\nlisteners: [{name: in, address: 127.0.0.1:0, service: app}]\n"+
		"services: [{name: app, endpoints: [%q, {address: %q, weight: 0}], discovery: {file: %q}, health: {tcp: {}, interval: 50ms, fall: 1, rise: 1}}]\n", one, shared, list))
	views := func() map[string]admin.EndpointView {
		all := map[string]admin.EndpointView{}
		for _, v := range r.Endpoints() {
			all[v.Address] = v
		}
		return all
	}
	eventually(t, "all are checked", func() bool {
		v := views()
		return len(v) == 4 && v[dead].State == "down" && v[one].Check != nil && v[two].Check != nil
	})
	v := views()
	if e := v[one]; e.Source != "static" || e.Origin.Source != "static" || e.Origin.Position != 0 || e.Origin.Stale || !e.InRotation || e.Rotation != "in: weight 1 of 3" || e.Health.From != "check" {
		t.Errorf("%+v, %+v", e, e.Origin)
	}
	if e := v[two]; e.Source != "file:"+list || e.Origin.Position != 1 || e.Origin.Index != 1 || e.Origin.Since.Before(before) || e.Origin.ConfirmedAt.Before(before) ||
		e.Rotation != "in: weight 2 of 3" || e.ID != "b" || e.Zone != "eu-1" || len(e.Tags) != 1 || e.Meta["team"] != "a" {
		t.Errorf("%+v, %+v", e, e.Origin)
	}
	if e := v[shared]; e.Source != "static" || e.InRotation || e.Rotation != "out: its weight is 0" || len(e.Origin.Also) != 1 || e.Origin.Also[0] != "file:"+list {
		t.Errorf("%+v, %+v", e, e.Origin)
	}
	if e := v[dead]; e.InRotation || !strings.HasPrefix(e.Rotation, "out: the active check fails: ") {
		t.Errorf("%+v", e)
	}

	replaceFile(t, list, "- {adress: 127.0.0.1:1}\n")
	eventually(t, "the file's endpoints are stale", func() bool { return views()[two].Origin.Stale })
	v = views()
	if o := v[two].Origin; !strings.Contains(o.Error, list+":1:4: unknown field") || o.StaleSince.Before(before) || v[one].Origin.Stale {
		t.Errorf("%+v", o)
	}
	var answer struct{ Services []admin.ServiceView }
	resp, err := http.Get("http://" + r.AdminAddr() + "/api/v1/services")
	if err == nil {
		err = json.NewDecoder(resp.Body).Decode(&answer)
		resp.Body.Close()
	}
	http.DefaultClient.CloseIdleConnections()
	if err != nil || len(answer.Services) != 1 || len(answer.Services[0].Sources) != 2 {
		t.Fatalf("%+v, %v", answer, err)
	}
	s := answer.Services[0]
	if s.Source != "static, file:"+list || s.Sources[0].Error != "" || s.Sources[1].Failures == 0 || s.Sources[1].Endpoints != 3 || !strings.Contains(s.Error, "unknown field") {
		t.Errorf("%+v", s)
	}
}

// An endpoint without active checks that accepts no connection is passed over, and
// says why and for how long.
func TestEndpointsTellTheirSuspicion(t *testing.T) {
	app, dead := says(t, "app"), free(t)
	r := start(t, fmt.Sprintf("loops: 1\nlisteners: [{name: in, address: 127.0.0.1:0, service: app}]\nservices: [{name: app, endpoints: [%q, %q]}]\n", app, dead))
	var v admin.EndpointView
	eventually(t, "a suspicion", func() bool {
		resp, err := http.Get("http://" + r.address("in"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		for _, v = range r.Endpoints() {
			if v.Address == dead {
				break
			}
		}
		return v.State == "suspect"
	})
	http.DefaultClient.CloseIdleConnections()
	s := v.Health.Suspicion
	if v.InRotation || v.Health.From != "connections" || s.Reason != "connect_failed" || s.Failures < 1 || !s.Until.After(s.Since) || !v.Since.Equal(s.Since) ||
		!strings.Contains(v.Rotation, "while another is left: connect_failed, ") {
		t.Errorf("%+v, %+v", v, s)
	}
}
