package admission

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/tests/real"
)

// The commands of the manual's page, one after the other, as it is read.
func TestManual(t *testing.T) {
	page, err := os.ReadFile("../../examples/manual/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```sh run\n(.*?)^```$").FindAllStringSubmatch(string(page), -1)
	if len(blocks) != 5 {
		t.Fatalf("%d blocks are to be run", len(blocks))
	}
	m := kubernetes(t)
	said := m.shell(blocks[0][1])
	if !strings.Contains(said, "mutatingwebhookconfiguration.admissionregistration.k8s.io/larboard-injector created") {
		t.Error(said)
	}
	m.installed()
	m.start()
	m.shell(blocks[1][1])
	m.namespace("shop", meshed)
	if said := m.shell(blocks[2][1]); !strings.Contains(said, "name: larboard\n") {
		t.Errorf("the dry run shows no proxy:\n%s", said)
	}
	// What is shown of a refusal is what is said.
	shown := regexp.MustCompile("(?ms)^```console\n\\$ (kubectl[^\n]*)\n(.*?)^```$").FindSubmatch(page)
	words := strings.Join(strings.Fields(string(shown[2])), " ")
	if ran := m.bash(string(shown[1])); ran.Code == 0 || strings.Join(strings.Fields(ran.Stderr), " ") != words {
		t.Errorf("shown: %s\nsaid:  %s", words, ran.Stderr)
	}
	m.shell(blocks[3][1]) // the emergency
	m.Apply(manifests(t))
	m.shell(blocks[4][1])
	left := m.Kubectl("", "get", "mutatingwebhookconfigurations,clusterroles,clusterrolebindings,namespaces", "-o", "name").Stdout
	if strings.Contains(left, "larboard") {
		t.Errorf("left after the removal:\n%s", left)
	}
}

// shell runs commands of the manual from the project's root and ends the test where one fails.
func (m *mesh) shell(commands string) string {
	m.t.Helper()
	ran := m.bash(commands)
	if ran.Code != 0 {
		m.t.Fatalf("%s\n%s%s", commands, ran.Stdout, ran.Stderr)
	}
	return ran.Stdout
}

func (m *mesh) bash(commands string) real.Ran {
	m.t.Helper()
	bin := m.t.TempDir()
	if err := os.Symlink(real.Tool(m.t, "kubectl"), filepath.Join(bin, "kubectl")); err != nil {
		m.t.Fatal(err)
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		m.t.Fatal(err)
	}
	setup := fmt.Sprintf("set -e; cd ../..; export PATH=%s:$PATH KUBECONFIG=%s HOME=%s\n", bin, m.Files.Config[real.KubernetesAdmin], bin)
	return real.Run(m.t, 2*patience, bash, "-c", setup+commands)
}
