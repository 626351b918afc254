package real

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The addresses of a node, the same in each: a node has a network namespace of its own.
const (
	// NodeIP is the node's address, which pods reach.
	NodeIP = "10.99.0.1"

	nodePods = "10.98.0.0/16"
	nodeAPI  = "10.96.0.1" // the first of KubernetesServices: the Service `kubernetes`
)

// nodePatience is what each step of a start gets; on an idle machine all take some ten seconds.
const nodePatience = 3 * time.Minute

// podPatience is what a condition of pods gets.
const podPatience = 2 * time.Minute

// Node is a cluster of one node: etcd, API server, controller manager, scheduler,
// kubelet and containerd as processes in mount, network and process namespaces and in
// cgroups of their own, so that fixed addresses do and several stand side by side. There is
// no kube-proxy and no DNS: of all Services only the API server's own address leads somewhere,
// and webhooks of Services are reached by the API server at their pods. Methods end the
// test that With has named on failure, and are for its goroutine.
type Node struct {
	t      testing.TB
	dir    string
	tools  map[string]string
	init   *process // the first of the process namespace: all others end with it
	parts  *nodeParts
	files  *KubernetesFiles
	client *http.Client
}

// nodeParts are the processes of a node. They are added before the test goes on.
type nodeParts struct {
	names   []string
	process map[string]*process
}

// StartNode starts a cluster and returns when its node is ready and pods can be made. All of
// it ends with the test, also when that is killed. The test is skipped where the machine
// cannot hold one.
func StartNode(t testing.TB) *Node {
	t.Helper()
	nodeNeeds(t)
	n := &Node{t: t, tools: map[string]string{}, parts: &nodeParts{process: map[string]*process{}}}
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"} {
		n.tools[name] = Tool(t, name)
	}
	pause := Program(t, "tests/real/pause")
	began := time.Now()
	n.dir = nodeDir(t)
	n.configure()
	n.namespaces()
	t.Cleanup(n.finish)
	n.serve()
	n.Import(NodeImage{Name: nodePause, Files: map[string]string{"/pause": pause}, Entrypoint: []string{"/pause"}})
	t.Logf("Kubernetes node ready after %v", time.Since(began).Round(100*time.Millisecond))
	return n
}

// With is n for a subtest: its failures are those of t.
func (n *Node) With(t testing.TB) *Node {
	copied := *n
	copied.t = t
	return &copied
}

// nodeNeeds skips the test where a node cannot run.
func nodeNeeds(t testing.TB) {
	t.Helper()
	Root(t)
	if len(nodeControllers()) == 0 {
		t.Skipf("a Kubernetes node needs cgroup v1 at %s with cpu, cpuset, memory and pids, writable", cgroups)
	}
	for _, program := range []string{"containerd", "ctr", "runc", "ip", "nft", "nsenter", "/usr/lib/cni/bridge"} {
		_, err := exec.LookPath(program)
		if _, also := exec.LookPath("/usr/sbin/" + program); err != nil && also != nil {
			t.Skipf("a Kubernetes node needs %s (as root on Debian: .ci/packages containerd runc containernetworking-plugins iproute2 nftables)", program)
		}
	}
}

// nodeInit is the first process of the namespaces: it makes them fit to live in, says so
// through a file, and buries whom nobody else does. What stands between @ is filled in.
// Files of our own lie over the kernel's settings that a kubelet writes: they are the machine's.
const nodeInit = `set -e
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount --make-rprivate /
mount -t proc proc /proc
mkdir -p /var/lib/cni
for at in /run /var/log /var/lib/cni @DIR@/data; do mount -t tmpfs tmpfs "$at"; done
mkdir -p /run/netns
for name in vm/overcommit_memory kernel/panic kernel/panic_on_oops; do
  cat /proc/sys/$name >@DIR@/${name##*/}
  mount --bind @DIR@/${name##*/} /proc/sys/$name
done
mount --bind @DIR@/hosts /etc/hosts
ip link set lo up
ip link add node0 type bridge
ip addr add @IP@/24 dev node0
ip link set node0 up
ip route add default dev node0
echo 1 >/proc/sys/net/ipv4/ip_forward
nft -f - <<END
table ip api {
  chain pre { type nat hook prerouting priority -100; ip daddr @API@ tcp dport 443 dnat to @IP@:6443; }
  chain out { type nat hook output priority -100; ip daddr @API@ tcp dport 443 dnat to @IP@:6443; }
}
END
touch @DIR@/namespaces
while :; do sleep 86400 & wait $!; done
`

// namespaces starts the first process of the node.
func (n *Node) namespaces() {
	n.t.Helper()
	text := n.fill(nodeInit)
	log, err := os.Create(n.path("log/init"))
	if err != nil {
		n.t.Fatal(err)
	}
	defer log.Close()
	p := &process{cmd: exec.Command("bash", "-c", text), exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := p.cmd.Start(); err != nil {
		n.t.Skipf("a Kubernetes node needs namespaces, which this machine does not give: %v", err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	n.init = p
	n.parts.add("init", p)
	n.await("namespaces", func() error {
		_, err := os.Stat(n.path("namespaces"))
		return err
	})
}

func (p *nodeParts) add(name string, process *process) {
	p.names = append(p.names, name)
	p.process[name] = process
}

// enter is how a program is run inside: its arguments come behind.
func (n *Node) enter() []string {
	return []string{"nsenter", "-t", strconv.Itoa(n.init.pid()), "-m", "-n", "-p", "--"}
}

// Start runs a program inside the node's namespaces until the test ends: it sees the node's
// addresses and processes, and the files of this machine but /run and /var/log.
// Log(name) is what it has written.
func (n *Node) Start(name, binary string, args ...string) {
	n.t.Helper()
	all := append(append(n.enter(), binary), args...)
	p, err := startProcess(Installed(n.t, all[0]), n.path("log/"+name), all[1:]...)
	if err != nil {
		n.t.Fatal(err)
	}
	n.parts.add(name, p)
}

// Run runs a program inside to its end and returns its standard output; any other exit
// code than 0 ends the test.
func (n *Node) Run(within time.Duration, binary string, args ...string) string {
	n.t.Helper()
	ran := n.try(within, binary, args...)
	if ran.Code != 0 {
		n.t.Fatalf("%s %q: exit code %d\n%s%s", filepath.Base(binary), args, ran.Code, tail(ran.Stdout, 30), tail(ran.Stderr, 30))
	}
	return ran.Stdout
}

func (n *Node) try(within time.Duration, binary string, args ...string) Ran {
	n.t.Helper()
	all := append(append(n.enter(), binary), args...)
	return Run(n.t, within, all[0], all[1:]...)
}

// Log is what a program has written that Start has started, such as "kubelet".
func (n *Node) Log(name string) string {
	data, _ := os.ReadFile(n.path("log/" + name))
	return string(data)
}

// Dir is a directory on this machine that programs inside see under the same path.
func (n *Node) Dir() string { return n.path("shared") }

// await looks until ready returns nil, and ends the test when that takes too long or one of the
// node's processes has ended.
func (n *Node) await(what string, ready func() error) {
	n.t.Helper()
	late := time.Now().Add(nodePatience)
	for {
		err := ready()
		if err == nil {
			return
		}
		for _, name := range n.parts.names {
			select {
			case <-n.parts.process[name].exited:
				n.t.Fatalf("Kubernetes node: %s has ended: %v\n%s", name, n.parts.process[name].err, tail(n.Log(name), 20))
			default:
			}
		}
		if time.Now().After(late) {
			n.t.Fatalf("Kubernetes node: no %s within %v: %v\n%s", what, nodePatience, err, n.logs())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// logs are the last lines of all parts.
func (n *Node) logs() string {
	var b strings.Builder
	for _, name := range n.parts.names {
		if text := tail(n.Log(name), 4); text != "" {
			fmt.Fprintf(&b, "--- %s\n%s\n", name, text)
		}
	}
	return b.String()
}

// finish ends everything inside at once, which the kernel does when the first process of a
// process namespace ends, and takes away what is left.
func (n *Node) finish() {
	if n.t.Failed() {
		n.t.Logf("last lines of the Kubernetes node:\n%s", n.logs())
	}
	n.init.kill()
	for _, name := range n.parts.names {
		n.parts.process[name].kill()
	}
	if err := removeNode(n.dir); err != nil {
		n.t.Errorf("Kubernetes node: %v", err)
	}
}

func (n *Node) path(name string) string { return filepath.Join(n.dir, name) }
