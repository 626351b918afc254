package sidecar

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/larboard-proxy/larboard/sidecar/health"
)

// Whoever looks at the running proxy does so beside traffic and reloads.
func TestViewsBesideTrafficAndReloads(t *testing.T) {
	noLeaks(t)
	app := says(t, "app")
	form := "admin: {address: 127.0.0.1:0}\nloops: 2\nlisteners: [{name: in, address: 127.0.0.1:0, service: app}]\n" +
		"services: [{name: app, balance: %s, endpoints: [%q, %q], health: {tcp: {}}}]\n"
	r := start(t, fmt.Sprintf(form, "p2c", app, free(t)))
	_, end := traffic(r.address("in"), "200 app")
	var all sync.WaitGroup
	for _, path := range []string{"listeners", "services", "endpoints", "identity", "config"} {
		all.Go(func() {
			for range 30 {
				var v any
				resp, err := http.Get("http://" + r.AdminAddr() + "/api/v1/" + path)
				if err == nil {
					err = json.NewDecoder(resp.Body).Decode(&v)
					resp.Body.Close()
				}
				if err != nil {
					t.Errorf("%s: %v", path, err)
					return
				}
			}
		})
	}
	all.Go(func() {
		for i := range 30 {
			r.write(fmt.Sprintf(form, []string{"p2c", "random", "round_robin"}[i%3], app, free(t)))
			if err := r.Reload(); err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
	http.DefaultClient.CloseIdleConnections()
	if err := end(); err != nil {
		t.Errorf("a request saw %v", err)
	}
	if total := r.Metrics().Totals("app"); total.Failures != 0 || total.Requests == 0 {
		t.Errorf("%d requests, %d failed", total.Requests, total.Failures)
	}
}

// Checks follow the file and the endpoints: a verdict outlives neither.
func TestChecksFollowTheirEndpoints(t *testing.T) {
	dead, dead2 := free(t), free(t)
	form := "loops: 2\nlisteners: [{name: in, address: 127.0.0.1:0, service: app}]\nservices: [{name: app, endpoints: [%q]%s}]\n"
	r := start(t, fmt.Sprintf(form, dead, ", health: {tcp: {}}"))
	down := func(address string) bool {
		all := r.Endpoints()
		return len(all) == 1 && all[0].Address == address && all[0].State == "down"
	}
	eventually(t, "the first verdict", func() bool { return down(dead) })

	r.write(fmt.Sprintf(form, dead2, ", health: {tcp: {}}"))
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a verdict about the new endpoint", func() bool { return down(dead2) })
	r.onHealth(health.Change{Key: checkKey("app", dead, dead), Service: "app", Address: dead, Up: true})
	r.onHealth(health.Change{Key: checkKey("gone", dead, dead), Service: "gone", Address: dead})
	if !down(dead2) {
		t.Error("news of an endpoint that has left changed another")
	}
	if n := len(r.checker.Status()); n != 1 {
		t.Errorf("%d checks", n)
	}

	r.write(fmt.Sprintf(form, dead2, ""))
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	if all := r.Endpoints(); len(all) != 1 || all[0].State != "up" || len(r.checker.Status()) != 0 {
		t.Errorf("without checks: %+v, %d checks", all, len(r.checker.Status()))
	}
}
