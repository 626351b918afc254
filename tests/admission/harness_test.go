package admission

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/larboard-proxy/larboard/tests/real"
)

// patience is what everything gets that is waited for.
const patience = 90 * time.Second

// mesh is a Kubernetes with the injector installed: its objects in the API server, its replicas
// as processes here that act as its service account.
type mesh struct {
	*real.KubernetesServer
	t        testing.TB
	binary   string
	config   string // KUBECONFIG of the service account
	settings string // file
	host     net.IP // where the API server finds replicas
	replicas int    // started so far
}

// install starts a Kubernetes and applies what a user applies.
func install(t testing.TB, manifests string) *mesh {
	t.Helper()
	m := kubernetes(t)
	m.Apply(manifests)
	m.installed()
	return m
}

// kubernetes starts one without an injector.
func kubernetes(t testing.TB) *mesh {
	t.Helper()
	return &mesh{t: t, binary: real.Program(t, "."), host: ownAddress(t), KubernetesServer: real.Kubernetes(t, real.KubernetesOptions{Controllers: true})}
}

// installed reads what replicas need.
func (m *mesh) installed() {
	m.t.Helper()
	m.config = m.ConfigOf("larboard-system", "larboard-injector")
	var settings corev1.ConfigMap
	m.get("/api/v1/namespaces/larboard-system/configmaps/larboard-injector", &settings)
	m.settings = filepath.Join(m.t.TempDir(), "settings.yaml")
	if err := os.WriteFile(m.settings, []byte(settings.Data["settings.yaml"]), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// with is m for a subtest.
func (m *mesh) with(t testing.TB) *mesh {
	other := *m
	other.t = t
	return &other
}

// ownAddress is one of this machine's that is not loopback, which the addresses of a Service must
// not be.
func ownAddress(t testing.TB) net.IP {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.To4()
		}
	}
	t.Fatal("this machine has no IPv4 address beside loopback, at which an API server could call a webhook")
	return nil
}

// replica is one process of the injector.
type replica struct {
	m               *mesh
	t               testing.TB
	name            string
	reviews, health int // ports
	cmd             *exec.Cmd
	log             *lockedBuffer
	ending          bool
	exited          chan struct{}
	err             error // read after exited
}

// lockedBuffer is a process's log.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// start runs one more replica, waits until it is ready and has the Service lead to it. It ends
// with the test.
func (m *mesh) start(flags ...string) *replica {
	m.t.Helper()
	m.replicas++
	r := &replica{m: m, t: m.t, name: fmt.Sprintf("replica-%d", m.replicas), log: &lockedBuffer{}, exited: make(chan struct{})}
	r.reviews, r.health = freePort(m.t), freePort(m.t)
	r.cmd = exec.Command(m.binary, append([]string{"injector", "--kubeconfig", m.config, "--settings", m.settings, "--namespace", "larboard-system",
		"--listen", fmt.Sprintf("%s:%d", m.host, r.reviews), "--health", fmt.Sprintf("127.0.0.1:%d", r.health), "--drain", "1s", "--linger", "1s", "--log-level", "debug"}, flags...)...)
	r.cmd.Stdout, r.cmd.Stderr = r.log, r.log
	if err := r.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	go func() { r.err = r.cmd.Wait(); close(r.exited) }()
	m.t.Cleanup(r.finish)
	m.until("ready", func() error { return r.probe("/readyz", http.StatusOK) })
	r.lead(true)
	return r
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// lead writes the endpoint of the Service as the controllers would for a pod.
func (r *replica) lead(ready bool) {
	r.t.Helper()
	r.m.Apply(fmt.Sprintf(`apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %s, namespace: larboard-system, labels: {kubernetes.io/service-name: larboard-injector}}
addressType: IPv4
ports: [{name: %q, port: %d, protocol: TCP}]
endpoints: [{addresses: ["%s"], conditions: {ready: %t}}]
`, r.name, r.m.portName(), r.reviews, r.m.host, ready))
}

// portName is that of the Service's port, which its endpoints repeat.
func (m *mesh) portName() string {
	var service corev1.Service
	m.get("/api/v1/namespaces/larboard-system/services/larboard-injector", &service)
	return service.Spec.Ports[0].Name
}

// probe asks the replica for its health.
func (r *replica) probe(path string, want int) error {
	select {
	case <-r.exited:
		return fmt.Errorf("ended: %v", r.err)
	default:
	}
	code, text, err := r.ask(path)
	if err == nil && code != want {
		err = fmt.Errorf("%s: %d %s", path, code, text)
	}
	return err
}

func (r *replica) ask(path string) (int, string, error) {
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d%s", r.health, path))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// metric is the value of one series, by its name with labels as Prometheus reads it.
func (r *replica) metric(series string) (value float64) {
	r.t.Helper()
	_, text, err := r.ask("/metrics")
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			if _, err := fmt.Sscan(rest, &value); err != nil {
				r.t.Fatal(err)
			}
			return value
		}
	}
	r.t.Fatalf("no %s in\n%s", series, text)
	return 0
}

// terminate begins the end of the replica as Kubernetes does.
func (r *replica) terminate() {
	r.ending = true
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
}

// stop ends the replica, where that has not begun, waits for it, and returns its exit code.
func (r *replica) stop() int {
	r.t.Helper()
	if !r.ending { // a second signal would end it at once
		r.terminate()
	}
	select {
	case <-r.exited:
	case <-time.After(patience):
		r.t.Fatalf("%s does not end\n%s", r.name, r.log)
	}
	return r.cmd.ProcessState.ExitCode()
}

// finish is the end of the test.
func (r *replica) finish() {
	_ = r.cmd.Process.Kill()
	<-r.exited
	if r.t.Failed() {
		lines := strings.Split(r.log.String(), "\n")
		r.t.Logf("last lines of %s:\n%s", r.name, strings.Join(lines[max(0, len(lines)-15):], "\n"))
	}
}

// until waits for what is to come.
func (m *mesh) until(what string, check func() error) {
	m.t.Helper()
	for late := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(late) {
			m.t.Fatalf("%s: %v", what, err)
		}
	}
}

// get reads an object that is there.
func (m *mesh) get(path string, out any) {
	m.t.Helper()
	if err := m.Call(http.MethodGet, path, nil, out); err != nil {
		m.t.Fatal(err)
	}
}

// namespace makes one of the mesh, or an ordinary one, whose pods can be made.
func (m *mesh) namespace(name, labels string) {
	m.t.Helper()
	m.Apply(fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {%s}}\n", name, labels))
	m.until("the service account of "+name, func() error {
		return m.Call(http.MethodGet, "/api/v1/namespaces/"+name+"/serviceaccounts/default", nil, nil)
	})
	if labels == meshed { // what creates pods sees the label by its own watch, as the injector does
		m.until("the injector's turn in "+name, func() error {
			p, _, err := m.create(name, plain("probe"), "?dryRun=All")
			if err == nil && sidecar(p) == nil {
				err = errors.New("a pod is not injected")
			}
			return err
		})
	}
}

const meshed = "larboard.io/inject: enabled"

// plain is a pod as users write it.
func plain(name string) *corev1.Pod {
	p := &corev1.Pod{}
	p.APIVersion, p.Kind, p.Name = "v1", "Pod", name
	p.Spec.Containers = []corev1.Container{{Name: "app", Image: "app:1", Ports: []corev1.ContainerPort{{ContainerPort: 8080}}}}
	return p
}

// create makes a pod and returns what was kept and the warnings that came with it.
func (m *mesh) create(namespace string, p *corev1.Pod, query string) (*corev1.Pod, []string, error) {
	kept := &corev1.Pod{}
	warnings, err := m.CallAs(real.KubernetesAdmin+"-token", http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods"+query, p, kept)
	return kept, warnings, err
}

// pod reads one.
func (m *mesh) pod(namespace, name string) *corev1.Pod {
	m.t.Helper()
	p := &corev1.Pod{}
	m.get("/api/v1/namespaces/"+namespace+"/pods/"+name, p)
	return p
}

// pods are those that a selector finds.
func (m *mesh) pods(namespace, selector string) []corev1.Pod {
	m.t.Helper()
	var list corev1.PodList
	m.get("/api/v1/namespaces/"+namespace+"/pods?labelSelector="+selector, &list)
	return list.Items
}

// sidecar is the proxy of a pod; nil: there is none.
func sidecar(p *corev1.Pod) *corev1.Container {
	for i := range p.Spec.InitContainers {
		if p.Spec.InitContainers[i].Name == "larboard" {
			return &p.Spec.InitContainers[i]
		}
	}
	return nil
}

const configurations = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/"

// hooks reads the webhook configuration.
func (m *mesh) hooks() *admissionregistrationv1.MutatingWebhookConfiguration {
	m.t.Helper()
	c := &admissionregistrationv1.MutatingWebhookConfiguration{}
	m.get(configurations+"larboard-injector", c)
	return c
}

// policy sets the failure policy of all its webhooks.
func (m *mesh) policy(p admissionregistrationv1.FailurePolicyType) {
	m.t.Helper()
	c := m.hooks()
	for i := range c.Webhooks {
		c.Webhooks[i].FailurePolicy = &p
	}
	if err := m.Call(http.MethodPut, configurations+c.Name, c, nil); err != nil {
		m.t.Fatal(err)
	}
}

// text is an object for messages.
func text(v any) string {
	data, _ := json.MarshalIndent(v, "", " ")
	return string(data)
}
