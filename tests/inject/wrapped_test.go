package inject

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/larboard-proxy/larboard/injector"
	"github.com/larboard-proxy/larboard/tests/real"
)

// A wrapped pod's containers do what the kubelet would have them do: the program is copied, begins
// the command once it is ready, and ends with its code.
func TestWrappedRuns(t *testing.T) {
	t.Parallel()
	binary, volume := real.Program(t, "."), t.TempDir()
	pod := &corev1.Pod{}
	pod.Annotations = map[string]string{
		"larboard.io/inject": "true", "larboard.io/form": "wrapped", "larboard.io/identity": "dev", "larboard.io/register": "false",
		"larboard.io/upstreams": "stock:9191",
		"larboard.io/config": `
admin: {address: 127.0.0.1:0}
probes: {address: 127.0.0.1:0}
identity: {dev: {state: null}}
upstreams: [{service: stock, bind: "127.0.0.1:0", endpoints: ["127.0.0.1:9"]}]
`}
	pod.Spec.Containers = []corev1.Container{{Name: "job", Command: []string{"/bin/sh"}, Args: []string{"-c", "echo done; exit 7"}}}
	result, err := injector.Mutate(pod, injector.Namespace{Name: "shop"}, injector.DefaultSettings())
	if err != nil || result.Skipped != "" {
		t.Fatal(err, result.Skipped)
	}
	install, job := result.Pod.Spec.InitContainers[0], result.Pod.Spec.Containers[0]
	mount := install.VolumeMounts[0].MountPath
	args := append([]string(nil), install.Args...)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], mount, volume)
	}
	if ran := real.Run(t, patience, binary, args...); ran.Code != 0 {
		t.Fatalf("%+v", ran)
	}
	command := exec.CommandContext(t.Context(), filepath.Join(volume, filepath.Base(job.Command[0])), append(job.Command[1:], job.Args...)...)
	command.Env = os.Environ()
	for _, v := range job.Env {
		value := v.Value
		if v.ValueFrom != nil {
			value = "127.0.0.1"
		}
		command.Env = append(command.Env, v.Name+"="+strings.ReplaceAll(value, "$(LARBOARD_HOST_IP)", "127.0.0.1"))
	}
	out, err := command.CombinedOutput()
	if command.ProcessState == nil || command.ProcessState.ExitCode() != 7 || !strings.Contains(string(out), "\ndone\n") {
		t.Errorf("%v\n%s", err, out)
	}
}
