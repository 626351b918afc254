package kubernetes

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/real"
)

// TestNode has all tests of one cluster: pods that are injected by the installed webhook, get
// their identities from SPIRE and know each other through Consul.
func TestNode(t *testing.T) {
	c := startCluster(t)
	c.walk("The injector")
	t.Run("pods", func(t *testing.T) { // mostly they wait: all at once
		for name, run := range map[string]func(*testing.T){"mesh": c.testMesh, "rollout": c.testRollout, "jobs": c.testJobs,
			"probes": c.testProbes, "capture": c.testCapture, "killed": c.testKilled, "last calls": c.testLastCalls} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				run(t)
			})
		}
	})
	t.Run("walkthrough", c.testWalkthrough)
}

// deploy gives the workloads their identities and makes them in a namespace of the mesh.
func (c cluster) deploy(namespace string, all ...workload) {
	c.t.Helper()
	text := namespaced(namespace)
	for _, w := range all {
		c.Identify(namespace, w.name)
		text += w.manifest(namespace)
	}
	c.Apply(text)
}

// upstream is where web's application calls api.
const upstream = "http://127.0.0.1:9191/"

// shop are the services NAMESPACE-web and NAMESPACE-api, of which web calls api. Consul knows no
// namespaces of Kubernetes: names are unique in all of them.
func (c cluster) shop(namespace string, change func(web, api *workload)) (web, api pod) {
	c.t.Helper()
	one := workload{name: namespace + "-web", annotations: map[string]string{"upstreams": namespace + "-api:9191"}, env: map[string]string{"FIRST": upstream}}
	two := workload{name: namespace + "-api"}
	if change != nil {
		change(&one, &two)
	}
	c.deploy(namespace, two)
	api = c.ready(namespace, two.name, max(two.replicas, 1))[0]
	c.deploy(namespace, one)
	return c.ready(namespace, one.name, 1)[0], api
}

// Two services call each other over mutual TLS, from the client's first moment on, and each knows
// who the other is; whoever has no certificate of the mesh is refused.
func (c cluster) testMesh(t *testing.T) {
	c = c.with(t)
	web, api := c.shop("shop", nil)
	var first []answer
	if err := c.ask(web, "/first", &first); err != nil || len(first) != 1 || first[0].Status != 200 {
		t.Errorf("the first call: %+v, %v", first, err)
	}
	c.reaches(web, upstream, "shop-api")
	id := func(account string) string { return "spiffe://" + real.NodeTrustDomain + "/ns/shop/sa/shop-" + account }
	c.logged("shop", api, func(line accessLine) bool { return line.Direction == "inbound" && line.PeerID == id("web") })
	c.logged("shop", web, func(line accessLine) bool { return line.Direction == "outbound" && line.EndpointID == id("api") })
	c.refusesStrangers(api)
	if restarts := web.restarts("larboard") + api.restarts("larboard"); restarts != 0 {
		t.Errorf("the proxies were restarted %d times", restarts)
	}
}

// accessLine is what counts of a line of the access log.
type accessLine struct {
	Direction  string
	PeerID     string `json:"peer_id"`
	EndpointID string `json:"endpoint_id"`
}

// logged waits for a line in the access log of a pod's proxy.
func (c cluster) logged(namespace string, p pod, wanted func(accessLine) bool) {
	c.t.Helper()
	c.Eventually(c.t, "an access log line in "+p.Metadata.Name, func() error {
		text := c.Kubectl("", "logs", "-n", namespace, p.Metadata.Name, "-c", "larboard")
		for line := range strings.Lines(text) {
			var one accessLine
			if json.Unmarshal([]byte(line), &one) == nil && wanted(one) {
				return nil
			}
		}
		return fmt.Errorf("not among\n%s", text)
	})
}

// refusesStrangers connects to a pod's mesh port without TLS and without a certificate.
func (c cluster) refusesStrangers(p pod) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	for _, secure := range []bool{false, true} {
		conn, err := c.Dial(ctx, "tcp", p.Status.PodIP+":20000")
		if err != nil {
			c.t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		if secure {
			conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		}
		_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: api\r\n\r\n")
		if err != nil {
			continue
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if strings.HasPrefix(line, "HTTP/") {
			c.t.Errorf("a stranger (TLS: %v) is answered %q", secure, line)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.t.Errorf("a stranger (TLS: %v) is left waiting", secure)
		}
	}
}

// load is what came of a load.
type load struct {
	Requests, Failed int
	By               map[string]int
	Errors           []string
}

// A rolling restart of the server under load costs no request, although half of them may not be
// repeated once they have reached anybody.
func (c cluster) testRollout(t *testing.T) {
	c = c.with(t)
	web, _ := c.shop("rollout", func(_, api *workload) {
		api.replicas, api.annotations = 2, map[string]string{"stop-delay": "4s"}
	})
	c.reaches(web, upstream, "rollout-api")
	old := names(c.pods("rollout", "rollout-api"))
	ask := func(path string) (got load) {
		t.Helper()
		if err := c.ask(web, path, &got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	ask("/load?url=" + url.QueryEscape(upstream))
	for range rollouts() {
		c.Kubectl("", "-n", "rollout", "rollout", "restart", "deployment/rollout-api")
		c.Kubectl("", "-n", "rollout", "rollout", "status", "deployment/rollout-api", "--timeout=150s")
	}
	c.Eventually(t, "the old pods are gone", func() error {
		var list struct{ Items []pod }
		c.Get("/api/v1/namespaces/rollout/pods?labelSelector=app%3Drollout-api", &list)
		if len(list.Items) != 2 {
			return fmt.Errorf("%v", names(list.Items))
		}
		return nil
	})
	before := ask("/load").Requests
	c.Eventually(t, "the load goes on", func() error {
		if now := ask("/load").Requests; now < before+100 {
			return fmt.Errorf("%d requests after %d", now, before)
		}
		return nil
	})
	got := ask("/stop")
	if got.Failed > 0 || got.Requests < 100 {
		t.Errorf("%d of %d requests failed: %q", got.Failed, got.Requests, got.Errors)
	}
	for _, name := range names(c.pods("rollout", "rollout-api")) {
		if got.By["rollout-api "+name] == 0 {
			t.Errorf("the new pod %s has answered nothing: %v (old ones: %v)", name, got.By, old)
		}
	}
	t.Logf("%d requests, by %v", got.Requests, got.By)
}

// rollouts are how often the server is restarted: in the long form (make e2e-kubernetes) often.
func rollouts() int {
	if os.Getenv("LARBOARD_LONG") == "1" {
		return 10
	}
	return 1
}

func names(pods []pod) (all []string) {
	for _, p := range pods {
		all = append(all, p.Metadata.Name)
	}
	return all
}

// Jobs end, whatever form the proxy has, and call others from their first moment on.
func (c cluster) testJobs(t *testing.T) {
	c = c.with(t)
	job := func(form string, command ...string) workload {
		return workload{name: "job-" + form, kind: "Job", command: command,
			annotations: map[string]string{"form": form, "upstreams": "jobs-api:9191"}}
	}
	c.deploy("jobs", workload{name: "jobs-api"})
	c.ready("jobs", "jobs-api", 1)
	c.deploy("jobs",
		job("native", "/app", "job", upstream),
		job("wrapped", "/app", "job", upstream),
		job("classic", "/larboard-for-tests", "wait", "--timeout=2m", "--quit", "--", "/app", "job", upstream))
	for _, form := range []string{"native", "wrapped", "classic"} {
		ran := c.TryKubectl("", "-n", "jobs", "wait", "--for=condition=Complete", "job/job-"+form, "--timeout=90s")
		if ran.Code != 0 {
			t.Errorf("%s: %s\n%s", form, ran.Stderr, c.Describe())
			t.Log(c.TryKubectl("", "-n", "jobs", "logs", "job/job-"+form, "--all-containers").Stdout)
		}
	}
}

// The kubelet's probes of the application work although every connection to it is mutual TLS, and
// one that fails restarts the application and not the proxy.
func (c cluster) testProbes(t *testing.T) {
	c = c.with(t)
	kinds := map[string]string{"http": "httpGet: {port: 8080, path: /health}", "tcp": "tcpSocket: {port: 8080}", "grpc": "grpc: {port: 5000}"}
	var all []workload
	for kind, handler := range kinds {
		all = append(all, workload{name: "probe-" + kind, env: map[string]string{"GRPC": "5000"},
			probes: fmt.Sprintf("readinessProbe: {%s, periodSeconds: 1, timeoutSeconds: 10}\n        livenessProbe: {%s, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 2}", handler, handler)})
	}
	c.deploy("probes", all...)
	for kind := range kinds {
		p := c.ready("probes", "probe-"+kind, 1)[0]
		if kind == "tcp" {
			continue // an application that is ill still accepts connections
		}
		var said string
		c.Eventually(t, kind+": the application is ill", func() error { return c.ask(p, "/ill", &said) })
		c.Eventually(t, kind+": a restart", func() error {
			now := c.pods("probes", "probe-"+kind)
			if len(now) != 1 || now[0].restarts("app") < 1 || !now[0].ready() {
				return fmt.Errorf("%+v", now)
			}
			if n := now[0].restarts("larboard"); n != 0 {
				t.Errorf("%s: the proxy was restarted %d times", kind, n)
			}
			return nil
		})
	}
}

// With capture the application calls the plain address of another pod and is called in turn;
// what arrives there is mutual TLS, and plain text from elsewhere is refused.
func (c cluster) testCapture(t *testing.T) {
	c = c.with(t)
	web, api := c.shop("capture", func(web, api *workload) {
		both := map[string]string{"capture": "both", "exclude-inbound-ports": "7070"}
		api.annotations = both
		web.annotations = map[string]string{"capture": "both", "exclude-inbound-ports": "7070", "upstreams": "capture-api"}
		web.env = nil
	})
	c.reaches(web, "http://"+api.Status.PodIP+":8080/", "capture-api")
	id := "spiffe://" + real.NodeTrustDomain + "/ns/capture/sa/capture-web"
	c.logged("capture", api, func(line accessLine) bool { return line.Direction == "inbound" && line.PeerID == id })
	if resp, err := c.HTTP().Get("http://" + api.Status.PodIP + ":8080/"); err == nil {
		resp.Body.Close()
		t.Errorf("plain text from outside the mesh is answered %s", resp.Status)
	}
}

// A proxy that is killed is there again, and so are the calls.
func (c cluster) testKilled(t *testing.T) {
	c = c.with(t)
	web, api := c.shop("killed", nil)
	c.reaches(web, upstream, "killed-api")
	for _, p := range []pod{web, api} {
		kill(t, p, "larboard")
	}
	for _, app := range []string{"killed-web", "killed-api"} {
		c.Eventually(t, "the proxy of "+app+" again", func() error {
			now := c.pods("killed", app)
			if len(now) != 1 || now[0].restarts("larboard") < 1 || !now[0].ready() {
				return fmt.Errorf("%+v", now)
			}
			if n := now[0].restarts("app"); n != 0 {
				t.Errorf("the application %s was restarted %d times", app, n)
			}
			return nil
		})
	}
	c.reaches(web, upstream, "killed-api")
}

// kill ends the first process of a container with SIGKILL.
func kill(t *testing.T, p pod, container string) {
	t.Helper()
	id := ""
	for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		if s.Name == container {
			_, id, _ = strings.Cut(s.ContainerID, "://")
		}
	}
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil || id == "" {
		t.Fatalf("no container %s in %+v (%v)", container, p, err)
	}
	for _, file := range files {
		text, _ := os.ReadFile(file)
		if !strings.Contains(string(text), id) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil {
			err = syscall.Kill(pid, syscall.SIGKILL)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("no process of the container %s", id)
}

// When a pod is deleted the application ends first, and its last calls still reach others.
func (c cluster) testLastCalls(t *testing.T) {
	c = c.with(t)
	const target = "http://127.0.0.1:9191"
	web, api := c.shop("last", func(web, _ *workload) { web.env = map[string]string{"LAST": target, "LINGER": "200ms"} })
	c.reaches(web, target, "last-api")
	c.Kubectl("", "-n", "last", "scale", "deployment/last-web", "--replicas=0")
	c.Eventually(t, "the farewell", func() error {
		counts := map[string]int{}
		if err := c.ask(api, "/counts", &counts); err != nil {
			return err
		}
		for path := range counts {
			if rest, ok := strings.CutPrefix(path, "/farewell/"+web.Metadata.Name+"/"); ok {
				if rest != "0" || counts["/last"] != 20 {
					t.Errorf("%s of the last 20 calls failed; the server has seen %d", rest, counts["/last"])
				}
				return nil
			}
		}
		return fmt.Errorf("not among %v", counts)
	})
	c.Kubectl("", "-n", "last", "wait", "--for=delete", "pod/"+web.Metadata.Name, "--timeout=60s")
}
