package real

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A node starts, runs a pod that the test reaches, and leaves nothing behind; nor does one
// whose processes died without a goodbye.
func TestNode(t *testing.T) {
	var dir string
	t.Run("pod", func(t *testing.T) {
		n := StartNode(t)
		dir = n.dir
		n.Apply(`{apiVersion: v1, kind: Pod, metadata: {name: idle}, spec: {containers: [{name: idle, image: "larboard.test/pause:1", imagePullPolicy: Never}]}}`)
		n.Kubectl("", "wait", "--for=condition=Ready", "pod/idle", "--timeout=120s")
		if exists := countCgroups(dir); exists == 0 {
			t.Error("the node has no cgroups of its own")
		}
		resp, err := n.HTTP().Get("http://" + NodeIP + ":10248/healthz")
		if err == nil {
			text, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			err = fmt.Errorf("answered %s", text)
		}
		if !strings.Contains(err.Error(), "refused") { // the kubelet's health is for loopback only
			t.Error(err)
		}
	})
	if _, err := os.Stat(dir); dir == "" || err == nil || countCgroups(dir) > 0 {
		t.Errorf("%s is still there (%v), and %d of its cgroups", dir, err, countCgroups(dir))
	}
	dead := nodeDirOfDead(t)
	t.Run("next", func(t *testing.T) {
		next := nodeDir(t)
		t.Cleanup(func() { removeNode(next) })
	})
	if _, err := os.Stat(dead); err == nil || countCgroups(dead) > 0 {
		t.Errorf("%s is still there (%v), and %d of its cgroups", dead, err, countCgroups(dead))
	}
}

// nodeDirOfDead makes what a killed test leaves: directory and cgroups whose lock nobody holds.
func nodeDirOfDead(t *testing.T) (dir string) {
	t.Run("dead", func(t *testing.T) { dir = nodeDir(t) })
	return dir
}

func countCgroups(dir string) int {
	found, _ := filepath.Glob(cgroups + "/*/" + filepath.Base(dir))
	return len(found)
}
