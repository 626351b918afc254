package real

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	cgroups    = "/sys/fs/cgroup"
	nodePrefix = "larboard-node-"
)

// nodeControllers are the directories of cgroup v1's controllers; nil: this machine has
// not all that a kubelet wants, or they are read-only.
func nodeControllers() (all []string) {
	names, err := filepath.Glob(cgroups + "/*/cgroup.procs")
	if err != nil {
		return nil
	}
	wanted := map[string]bool{"cpu": true, "cpuset": true, "memory": true, "pids": true}
	for _, name := range names {
		dir := filepath.Dir(name)
		if filepath.Base(dir) == "unified" {
			continue
		}
		delete(wanted, filepath.Base(dir))
		all = append(all, dir)
	}
	if len(wanted) > 0 || syscall.Access(all[0], 2) != nil {
		return nil
	}
	return all
}

// nodeDir makes a node's directory and cgroups, which have its name. They are its own for as long as this
// process lives: those of dead ones are removed first.
func nodeDir(t testing.TB) string {
	t.Helper()
	unlock, err := lock(filepath.Join(os.TempDir(), nodePrefix+"lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	removeDeadNodes(t)
	dir, err := os.MkdirTemp("", nodePrefix)
	if err != nil {
		t.Fatal(err)
	}
	held, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(held)
	for _, name := range []string{"data", "log", "shared", "cni", "images"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil { // containers of all users look at volumes in it
		t.Fatal(err)
	}
	for _, controller := range nodeControllers() {
		if err := makeCgroup(filepath.Join(controller, filepath.Base(dir)), controller); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// makeCgroup makes a cgroup with the CPUs and memory of the one above.
func makeCgroup(dir, above string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(above, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), value, 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// removeDeadNodes removes what nodes have left whose processes were killed: their
// locks are free.
func removeDeadNodes(t testing.TB) {
	t.Helper()
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), nodePrefix+"*", "lock"))
	for _, name := range dirs {
		file, err := os.Open(name)
		if err != nil {
			continue
		}
		if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			if err := removeNode(filepath.Dir(name)); err != nil {
				t.Logf("what a dead Kubernetes node has left: %v", err)
			}
		}
		file.Close()
	}
}

// removeNode removes a node's cgroups and directory. Its processes have ended; the kernel
// may take a moment to notice.
func removeNode(dir string) error {
	name := filepath.Base(dir)
	if !strings.HasPrefix(name, nodePrefix) || name == nodePrefix {
		return errors.New("not the directory of a node: " + dir)
	}
	var problems []error
	for _, controller := range append(nodeControllers(), cgroups+"/unified") { // where runc makes one as well
		problems = append(problems, removeCgroup(filepath.Join(controller, name)))
	}
	return errors.Join(append(problems, os.RemoveAll(dir))...)
}

// removeCgroup removes a cgroup and those below it.
func removeCgroup(dir string) error {
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			all = append(all, path)
		}
		return nil
	})
	slices.Reverse(all)
	for _, path := range all {
		for try := 0; try < 100; try++ {
			if err = os.Remove(path); err == nil || errors.Is(err, fs.ErrNotExist) {
				err = nil
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
