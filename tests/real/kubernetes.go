package real

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/pki"
)

// KubernetesOptions choose what runs beside the API server and its etcd.
type KubernetesOptions struct {
	// Controllers runs the controller manager: pods of Deployments and the like are made,
	// and namespaces get their service account, which pods then need.
	Controllers bool
}

// KubernetesServer is an API server of Kubernetes with an etcd of its own, on loopback and
// without nodes: objects are admitted and kept, nothing runs. Methods end the test on failure
// and are for its goroutine, Call apart.
type KubernetesServer struct {
	// Address is https://host:port.
	Address string
	// Files are certificates, tokens and files for clients.
	Files *KubernetesFiles

	t         testing.TB
	options   KubernetesOptions
	dir       string
	client    *http.Client
	processes []*process // in the order of their start
	kubectl   string
}

// Kubernetes starts one and returns when it is ready. It is stopped at the end of the test.
func Kubernetes(t testing.TB, o KubernetesOptions) *KubernetesServer {
	t.Helper()
	for _, tool := range []string{"etcd", "kube-apiserver", "kube-controller-manager"} {
		Tool(t, tool) // built before anything waits
	}
	k := &KubernetesServer{t: t, options: o, dir: shortTempDir(t), kubectl: Tool(t, "kubectl")}
	t.Cleanup(k.finish)
	for try := 1; ; try++ {
		err := k.start(filepath.Join(k.dir, fmt.Sprint(try)))
		if err == nil {
			return k
		}
		k.stop()
		if try == 3 {
			t.Fatalf("kubernetes: %v\n%s", err, k.log())
		}
	}
}

// start runs all programs with their files in dir and waits for them.
func (k *KubernetesServer) start(dir string) error {
	k.t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		k.t.Fatal(err)
	}
	ports := freePorts(k.t, 4)
	k.Address = fmt.Sprintf("https://127.0.0.1:%d", ports[2])
	k.Files = NewKubernetesFiles(k.t, dir, k.Address)
	k.client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pki.Pool(k.Files.Authority.Cert)}, MaxIdleConnsPerHost: 64, ForceAttemptHTTP2: true}}
	if err := k.run("etcd", EtcdFlags(filepath.Join(dir, "etcd"), ports[0], ports[1])); err != nil {
		return err
	}
	flags := append(k.Files.APIServerFlags(ports[0], "127.0.0.1", ports[2]),
		"--endpoint-reconciler-type=none", "--cert-dir="+filepath.Join(dir, "certificates"))
	if !k.options.Controllers {
		flags = append(flags, "--disable-admission-plugins=ServiceAccount")
	}
	if err := k.run("kube-apiserver", flags); err != nil {
		return err
	}
	if err := k.await("/readyz", "/api/v1/namespaces/default"); err != nil || !k.options.Controllers {
		return err
	}
	if err := k.run("kube-controller-manager", append(k.Files.ControllerFlags(ports[3]), "--cert-dir="+filepath.Join(dir, "certificates"))); err != nil {
		return err
	}
	return k.await("/api/v1/namespaces/default/serviceaccounts/default")
}

// run starts one program.
func (k *KubernetesServer) run(name string, flags []string) error {
	p, err := startProcess(Tool(k.t, name), filepath.Join(k.dir, name+".log"), flags...)
	if err == nil {
		k.processes = append(k.processes, p)
	}
	return err
}

// await waits until each path answers.
func (k *KubernetesServer) await(paths ...string) error {
	late := time.Now().Add(2 * startTime)
	for _, path := range paths {
		for {
			err := k.Call(http.MethodGet, path, nil, nil)
			if err == nil {
				break
			}
			if time.Now().After(late) {
				return fmt.Errorf("not ready within %v: %w", 2*startTime, err)
			}
			for _, p := range k.processes {
				select {
				case <-p.exited:
					return fmt.Errorf("%s ended at its start: %v", filepath.Base(p.cmd.Path), p.err)
				default:
				}
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	return nil
}

// StatusError is what the API server answers instead of an object.
type StatusError struct {
	Code            int
	Reason, Message string
	// Warnings came with it.
	Warnings []string
}

func (e *StatusError) Error() string { return fmt.Sprintf("%d %s: %s", e.Code, e.Reason, e.Message) }

// Call sends a request as the administrator, with body as JSON where it is not nil (a string
// or []byte as it stands; a PATCH as a merge patch), and decodes the answer into out where
// that is not nil; *[]byte takes it as it is. An answer of 300 and above is a *StatusError.
// It may be called from any goroutine.
func (k *KubernetesServer) Call(method, path string, body, out any) error {
	_, err := k.CallAs(KubernetesAdmin+kubernetesTokenAfter, method, path, body, out)
	return err
}

// CallAs is Call as whoever has the token. It also returns the warnings of the answer.
func (k *KubernetesServer) CallAs(token, method, path string, body, out any) (warnings []string, err error) {
	var data []byte
	switch b := body.(type) {
	case nil:
	case string:
		data = []byte(b)
	case []byte:
		data = b
	default:
		if data, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequest(method, k.Address+path, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	warnings = resp.Header.Values("Warning")
	if resp.StatusCode >= 300 {
		e := &StatusError{Code: resp.StatusCode, Message: string(answer), Warnings: warnings}
		_ = json.Unmarshal(answer, e) // what is no Status stays text
		return warnings, e
	}
	switch out := out.(type) {
	case nil:
	case *[]byte:
		*out = answer
	default:
		err = json.Unmarshal(answer, out)
	}
	return warnings, err
}

// Kubectl runs kubectl as the administrator; stdin may be empty.
func (k *KubernetesServer) Kubectl(stdin string, args ...string) Ran {
	k.t.Helper()
	return RunInput(k.t, 2*time.Minute, stdin, k.kubectl, append([]string{"--kubeconfig=" + k.Files.Config[KubernetesAdmin], "--cache-dir=" + filepath.Join(k.dir, "kubectl")}, args...)...)
}

// Apply runs kubectl apply on manifests and ends the test where that fails.
func (k *KubernetesServer) Apply(manifests string) {
	k.t.Helper()
	if ran := k.Kubectl(manifests, "apply", "-f", "-"); ran.Code != 0 {
		k.t.Fatalf("kubectl apply: %s%s\n%s", ran.Stdout, ran.Stderr, manifests)
	}
}

// Token is one of a service account, as a pod of it gets it.
func (k *KubernetesServer) Token(namespace, account string) string {
	k.t.Helper()
	var answer struct{ Status struct{ Token string } }
	err := k.Call(http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts/"+account+"/token",
		`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"expirationSeconds":3600}}`, &answer)
	if err != nil {
		k.t.Fatalf("kubernetes: token of %s/%s: %v", namespace, account, err)
	}
	return answer.Status.Token
}

// ConfigOf writes a file for clients (KUBECONFIG) of a service account and returns its name.
func (k *KubernetesServer) ConfigOf(namespace, account string) string {
	k.t.Helper()
	file := filepath.Join(k.t.TempDir(), account+".kubeconfig")
	if err := os.WriteFile(file, kubeconfig(k.t, k.Address, k.Files.CA, k.Token(namespace, account)), 0o600); err != nil {
		k.t.Fatal(err)
	}
	return file
}

// stop ends all programs, the last one started first: a controller manager whose API server
// has gone takes a minute to end.
func (k *KubernetesServer) stop() {
	for i := len(k.processes) - 1; i >= 0; i-- {
		if i > 0 {
			k.processes[i].stopWithin(2 * time.Second) // nothing of it is to be kept
			continue
		}
		k.processes[i].kill()
	}
	k.processes = nil
}

// finish is the end of the test.
func (k *KubernetesServer) finish() {
	k.stop()
	if k.client != nil {
		k.client.CloseIdleConnections()
	}
	if k.t.Failed() {
		k.t.Logf("last lines of Kubernetes:\n%s", k.log())
	}
}

func (k *KubernetesServer) log() string {
	var all strings.Builder
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager"} {
		data, _ := os.ReadFile(filepath.Join(k.dir, name+".log"))
		fmt.Fprintf(&all, "%s:\n%s\n", name, tail(string(data), 15))
	}
	return all.String()
}
