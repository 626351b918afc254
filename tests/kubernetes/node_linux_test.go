package kubernetes

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/tests/real"
)

// The images on a test's node.
const (
	proxyImage = "larboard/larboard:dev" // as deploy/kubernetes has it
	appImage   = "larboard.test/app:1"
)

// cluster is a node with Consul, SPIRE and the images of the proxy and of the application.
type cluster struct {
	*real.Node
	t testing.TB
}

func startCluster(t testing.TB) cluster {
	t.Helper()
	proxy, app := real.Program(t, "."), real.Program(t, "tests/kubernetes/app")
	c := cluster{real.StartNode(t), t}
	c.Import(real.NodeImage{Name: proxyImage, Files: map[string]string{"/larboard": proxy}, Entrypoint: []string{"/larboard"}, User: "1337:1337"})
	c.Import(real.NodeImage{Name: appImage, Files: map[string]string{"/app": app, "/larboard-for-tests": proxy}, Entrypoint: []string{"/app"}, User: "1000:1000"})
	c.Mesh()
	return c
}

// with is c for a subtest.
func (c cluster) with(t testing.TB) cluster { return cluster{c.With(t), t} }

// pod is what counts of one.
type pod struct {
	Metadata struct {
		Namespace, Name   string
		Labels            map[string]string
		DeletionTimestamp string
	}
	Status struct {
		Phase, PodIP                             string
		Conditions                               []struct{ Type, Status string }
		ContainerStatuses, InitContainerStatuses []containerStatus
	}
}

type containerStatus struct {
	Name         string
	RestartCount int
	ContainerID  string
}

func (p pod) ready() bool {
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True" && p.Metadata.DeletionTimestamp == ""
		}
	}
	return false
}

// restarts are how often a container has ended.
func (p pod) restarts(container string) int {
	for _, s := range append(p.Status.ContainerStatuses, p.Status.InitContainerStatuses...) {
		if s.Name == container {
			return s.RestartCount
		}
	}
	return -1
}

// pods are those with the label app=NAME that are not about to go.
func (c cluster) pods(namespace, app string) (all []pod) {
	c.t.Helper()
	var list struct{ Items []pod }
	c.Get("/api/v1/namespaces/"+namespace+"/pods?labelSelector="+url.QueryEscape("app="+app), &list)
	for _, p := range list.Items {
		if p.Metadata.DeletionTimestamp == "" {
			all = append(all, p)
		}
	}
	return all
}

// ready waits for the pods of an application to be as many and ready, and returns them.
func (c cluster) ready(namespace, app string, count int) (all []pod) {
	c.t.Helper()
	c.Eventually(c.t, fmt.Sprintf("%d ready pods of %s", count, app), func() error {
		all = c.pods(namespace, app)
		ready := 0
		for _, p := range all {
			if p.ready() {
				ready++
			}
		}
		if ready != count || len(all) != count {
			return fmt.Errorf("%d pods, %d of them ready", len(all), ready)
		}
		return nil
	})
	return all
}

// ask is a request to the control port of the application in a pod.
func (c cluster) ask(p pod, path string, out any) error {
	resp, err := c.HTTP().Get("http://" + p.Status.PodIP + ":7070" + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(out)
}

// answer is what came of a call that an application made.
type answer struct {
	Status      int
	Body, Error string
}

// call has the application in a pod call a URL.
func (c cluster) call(p pod, target string) answer {
	c.t.Helper()
	var got answer
	if err := c.ask(p, "/call?url="+url.QueryEscape(target), &got); err != nil {
		return answer{Error: err.Error()}
	}
	return got
}

// reaches waits until a call from a pod is answered by an application.
func (c cluster) reaches(from pod, target, app string) {
	c.t.Helper()
	c.Eventually(c.t, from.Metadata.Name+" reaches "+app, func() error {
		if got := c.call(from, target); got.Status != http.StatusOK || !strings.HasPrefix(got.Body, app+" ") {
			return fmt.Errorf("%+v\nConsul knows: %s\n%s", got, c.registered(app), c.TryKubectl("", "-n", from.Metadata.Namespace, "logs", from.Metadata.Name, "-c", "larboard", "--tail=20").Stdout)
		}
		return nil
	})
}

// registered is what Consul says about a service's mesh proxies.
func (c cluster) registered(service string) string {
	resp, err := c.HTTP().Get("http://" + real.NodeConsul + "/v1/health/connect/" + service)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return fmt.Sprintf("%s (%v)", text, err)
}
