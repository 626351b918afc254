package real

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/larboard-proxy/larboard/tests/pki"
)

const nodePause = "larboard.test/pause:1"

// serve starts the parts of the cluster and waits for them.
func (n *Node) serve() {
	n.t.Helper()
	n.client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DialContext: n.Dial,
		TLSClientConfig: &tls.Config{RootCAs: pki.Pool(n.files.Authority.Cert)}}}
	n.Start("containerd", Installed(n.t, "containerd"), "--config", n.path("containerd.toml"))
	n.Start("etcd", n.tools["etcd"], EtcdFlags(n.path("data/etcd"), 2379, 2380)...)
	n.Start("kube-apiserver", n.tools["kube-apiserver"], append(n.files.APIServerFlags(2379, "0.0.0.0", 6443),
		"--advertise-address="+NodeIP, "--enable-admission-plugins=NodeRestriction", "--allow-privileged",
		"--kubelet-preferred-address-types=InternalIP", "--cert-dir="+n.path("data/apiserver"))...)
	n.await("API server", func() error { return n.get("/readyz", nil) })
	n.Start("kube-controller-manager", n.tools["kube-controller-manager"], append(n.files.ControllerFlags(10257), "--cert-dir="+n.path("data/kcm"))...)
	n.Start("kube-scheduler", n.tools["kube-scheduler"], "--kubeconfig="+n.files.Config[KubernetesScheduler], "--leader-elect=false",
		"--cert-dir="+n.path("data/scheduler"))
	n.Start("kubelet", n.tools["kubelet"], "--config="+n.path("kubelet.yaml"), "--kubeconfig="+n.files.Config["node"],
		"--hostname-override="+KubernetesNodeName, "--node-ip="+NodeIP, "--root-dir="+n.path("data/kubelet"), "--v=1")
	n.await("containerd", func() error {
		_, err := os.Stat(fmt.Sprintf("/proc/%d/root/run/containerd/containerd.sock", n.init.pid()))
		return err
	})
	n.await("service account", func() error { return n.get("/api/v1/namespaces/default/serviceaccounts/default", nil) })
	n.await("ready node", n.nodeReady)
}

// nodeReady says what the node still lacks.
func (n *Node) nodeReady() error {
	var node struct {
		Status struct {
			Conditions []struct{ Type, Status, Message string }
		}
	}
	if err := n.get("/api/v1/nodes/"+KubernetesNodeName, &node); err != nil {
		return err
	}
	for _, c := range node.Status.Conditions {
		if c.Type == "Ready" {
			if c.Status == "True" {
				return nil
			}
			return errors.New(c.Message)
		}
	}
	return errors.New("the kubelet has not said yet")
}

// Dial connects from the node's network to an address, of a pod as a rule. It may be called
// from any goroutine.
func (n *Node) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	type dialled struct {
		conn net.Conn
		err  error
	}
	done := make(chan dialled, 1)
	go func() {
		conn, err := n.dialInside(ctx, network, address)
		done <- dialled{conn, err}
	}()
	d := <-done
	return d.conn, d.err
}

// dialInside moves its thread into the node's network for the time of the call: a socket belongs
// to the network that it was made in.
func (n *Node) dialInside(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	ip := net.ParseIP(host)
	number, err := strconv.Atoi(port)
	if ip.To4() == nil || err != nil || !strings.HasPrefix(network, "tcp") {
		return nil, fmt.Errorf("dial %s %s: only IPv4 addresses", network, address)
	}
	fd, err := n.socket()
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), address)
	defer file.Close()
	raw := &unix.SockaddrInet4{Port: number, Addr: [4]byte(ip.To4())}
	if err := connect(ctx, fd, raw); err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	return net.FileConn(file)
}

// socket is one in the node's network.
func (n *Node) socket() (int, error) {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return -1, err
	}
	defer home.Close()
	inside, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", n.init.pid()))
	if err != nil {
		return -1, err
	}
	defer inside.Close()
	if err := unix.Setns(int(inside.Fd()), unix.CLONE_NEWNET); err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		panic(back) // the thread is lost to whoever gets it next
	}
	runtime.UnlockOSThread()
	return fd, err
}

// connect waits for the connection until the context's end, or for ten seconds.
func connect(ctx context.Context, fd int, to unix.Sockaddr) error {
	limit := 10 * time.Second
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(end))
	}
	if limit <= 0 {
		return context.DeadlineExceeded
	}
	wait := unix.NsecToTimeval(limit.Nanoseconds()) // holds for connect, too
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait); err != nil {
		return err
	}
	err := unix.Connect(fd, to)
	for err == unix.EINTR { // it goes on by itself; asked again, it says how that went
		time.Sleep(time.Millisecond)
		if err = unix.Connect(fd, to); err == unix.EISCONN {
			err = nil
		} else if err == unix.EALREADY {
			err = unix.EINTR
		}
	}
	return err
}

// HTTP is a client whose connections begin in the node's network.
func (n *Node) HTTP() *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DialContext: n.Dial, DisableKeepAlives: true}}
}

// get asks the API server.
func (n *Node) get(path string, out any) error {
	req, err := http.NewRequest(http.MethodGet, "https://"+NodeIP+":6443"+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+KubernetesAdmin+kubernetesTokenAfter)
	resp, err := n.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", path, resp.Status, tail(string(text), 5))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// Get reads an object of the API server, by its path, such as /api/v1/namespaces/default/pods.
func (n *Node) Get(path string, out any) {
	n.t.Helper()
	if err := n.get(path, out); err != nil {
		n.t.Fatal(err)
	}
}

// Eventually waits until cond returns nil, and ends the test with its last error and what pods and
// events say if that takes too long.
func (n *Node) Eventually(t testing.TB, what string, cond func() error) {
	t.Helper()
	late := time.Now().Add(podPatience)
	for {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("%s: not within %v: %v\n%s", what, podPatience, err, n.Describe())
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// Kubectl runs kubectl as the administrator with text on its standard input, and returns
// what it prints; any other exit code than 0 ends the test.
func (n *Node) Kubectl(stdin string, args ...string) string {
	n.t.Helper()
	ran := n.TryKubectl(stdin, args...)
	if ran.Code != 0 {
		n.t.Fatalf("kubectl %q: exit code %d\n%s%s\n%s", args, ran.Code, ran.Stdout, ran.Stderr, n.Describe())
	}
	return ran.Stdout
}

// TryKubectl is Kubectl that may fail.
func (n *Node) TryKubectl(stdin string, args ...string) Ran {
	n.t.Helper()
	all := append(n.enter(), n.tools["kubectl"], "--kubeconfig="+n.files.Config[KubernetesAdmin], "--cache-dir="+n.path("shared/kubectl"))
	all = append(all, args...)
	return RunInput(n.t, nodePatience, stdin, all[0], all[1:]...)
}

// Apply makes the objects of manifests.
func (n *Node) Apply(manifests string) {
	n.t.Helper()
	n.Kubectl(manifests, "apply", "-f", "-")
}

// Describe is how the pods are, what went wrong with them and what those say that are not ready,
// for messages.
func (n *Node) Describe() string {
	var b strings.Builder
	show := func(lines int, args ...string) {
		ran := n.TryKubectl("", args...)
		b.WriteString(tail(ran.Stdout, lines) + "\n" + tail(ran.Stderr, 3) + "\n")
	}
	show(40, "get", "pods", "-A", "-o", "wide")
	show(20, "get", "events", "-A", "--field-selector=type=Warning", "--sort-by=.lastTimestamp",
		"-o", "custom-columns=N:.metadata.namespace,O:.involvedObject.name,R:.reason,M:.message")
	var pods struct {
		Items []struct {
			Metadata struct{ Namespace, Name string }
			Status   struct{ ContainerStatuses []struct{ Ready bool } }
		}
	}
	if err := n.get("/api/v1/pods", &pods); err != nil {
		return b.String() + err.Error()
	}
	for _, p := range pods.Items {
		for _, c := range p.Status.ContainerStatuses {
			if !c.Ready {
				show(20, "logs", "-n", p.Metadata.Namespace, p.Metadata.Name, "--all-containers", "--prefix", "--tail=10")
				break
			}
		}
	}
	return b.String()
}
