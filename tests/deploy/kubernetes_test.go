package deploy

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"go.yaml.in/yaml/v3"

	"github.com/larboard-proxy/larboard/injector"
	"github.com/larboard-proxy/larboard/sidecar/cli"
	"github.com/larboard-proxy/larboard/tests/real"
)

const chart = dir + "/helm/larboard"

// helm runs it; the error is what it said.
func helm(t *testing.T, args ...string) (string, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), real.Tool(t, "helm"), args...)
	home := t.TempDir() // nothing of the user's
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", err.Error() + ": " + stderr.String()
	}
	return stdout.String(), ""
}

// rendered is the chart with values given as for --set.
func rendered(t *testing.T, set ...string) (text, problem string) {
	t.Helper()
	args := []string{"template", "larboard", chart, "--namespace", "larboard-system", "--kube-version", "1.36.0"}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	return helm(t, args...)
}

// kinds are those that the chart makes, and how strictly they are known.
func kinds() map[string]func() any {
	return map[string]func() any{
		"Namespace": func() any { return &corev1.Namespace{} }, "ServiceAccount": func() any { return &corev1.ServiceAccount{} },
		"ClusterRole": func() any { return &rbacv1.ClusterRole{} }, "ClusterRoleBinding": func() any { return &rbacv1.ClusterRoleBinding{} },
		"Role": func() any { return &rbacv1.Role{} }, "RoleBinding": func() any { return &rbacv1.RoleBinding{} },
		"ConfigMap": func() any { return &corev1.ConfigMap{} }, "Deployment": func() any { return &appsv1.Deployment{} },
		"Service": func() any { return &corev1.Service{} }, "PodDisruptionBudget": func() any { return &policyv1.PodDisruptionBudget{} },
		"CronJob":                      func() any { return &batchv1.CronJob{} },
		"MutatingWebhookConfiguration": func() any { return &admissionregistrationv1.MutatingWebhookConfiguration{} },
	}
}

// objects reads manifests, by kind; what Kubernetes' own types do not know is an error. Other kinds
// are left out.
func objects(t *testing.T, text string) map[string]any {
	t.Helper()
	all := map[string]any{}
	for decoder := yaml.NewDecoder(strings.NewReader(text)); ; {
		var document map[string]any
		err := decoder.Decode(&document)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		kind, _ := document["kind"].(string)
		if kinds()[kind] == nil {
			all[kind] = document
			continue
		}
		data, err := json.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		object := kinds()[kind]()
		strict := json.NewDecoder(bytes.NewReader(data))
		strict.DisallowUnknownFields()
		if err := strict.Decode(object); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		all[kind] = object
	}
}

func TestChartIsSound(t *testing.T) {
	if _, problem := helm(t, "lint", "--strict", "--kube-version", "1.36.0", chart); problem != "" {
		t.Error(problem)
	}
	for _, set := range [][]string{
		nil, {"clean.enabled=true"}, {"clean.enabled=true", "clean.consul=https://consul:8501", "clean.tokenSecret=token", "clean.criticalFor=5m", "clean.args={--datacenter,dc2}"}, {"certManager.enabled=true"},
		{"certManager.enabled=true", "certManager.issuerRef.name=ours", "certManager.issuerRef.kind=ClusterIssuer"},
		{"settings.inject=all"}, {"replicas=1", "priorityClassName=high", "imagePullSecrets[0].name=registry", "nodeSelector.disk=ssd", "podAnnotations.a=b"},
		{"image.repository=registry.example/larboard", "image.tag=v1", "settings.identity.source=consul", "settings.consul.address=consul:8500"},
	} {
		text, problem := rendered(t, set...)
		if problem != "" {
			t.Errorf("%q: %s", set, problem)
			continue
		}
		all := objects(t, text)
		m, ok := all["ConfigMap"].(*corev1.ConfigMap)
		if !ok {
			t.Fatalf("%q: %v", set, slices.Collect(maps.Keys(all)))
		}
		if _, err := injector.LoadSettings("settings.yaml", []byte(m.Data["settings.yaml"])); err != nil {
			t.Errorf("%q: %v", set, err)
		}
		starts := map[string][]string{"injector": all["Deployment"].(*appsv1.Deployment).Spec.Template.Spec.Containers[0].Args}
		if c, ok := all["CronJob"].(*batchv1.CronJob); ok {
			starts["clean"] = c.Spec.JobTemplate.Spec.Template.Spec.Containers[0].Args
		} else if len(set) > 0 && set[0] == "clean.enabled=true" {
			t.Errorf("%q: no CronJob", set)
		}
		for name, args := range starts {
			command, rest, err := cli.New(io.Discard, io.Discard).Find(args)
			if err == nil {
				err = command.ParseFlags(rest)
			}
			if err != nil || command.Name() != name {
				t.Errorf("%q: %q: %v", set, args, err)
			}
		}
	}
}

// Values that mean nothing are refused before anything is installed.
func TestChartRefusesWrongValues(t *testing.T) {
	for set, said := range map[string]string{
		"replica=3": "replica", "replicas=0": "replicas", "image.tag=a b": "tag", "image.name=x": "name", "webhook.failurePolicy=Maybe": "failurePolicy",
		"webhook.timeoutSeconds=60": "timeoutSeconds", "settings.identiti.source=consul": "identiti", "settings.inject=everything": "inject",
		"clean.schedule=often": "schedule", "clean.criticalFor=10": "criticalFor", "webhook.excludedNamespaces={mine}": "excludedNamespaces", "logLevel=loud": "logLevel",
	} {
		if _, problem := rendered(t, set); !strings.Contains(problem, said) || !strings.Contains(problem, "schema") {
			t.Errorf("--set %s: %q", set, problem)
		}
	}
}

// The schema knows the settings that there are.
func TestSchemaKnowsTheSettings(t *testing.T) {
	var schema struct {
		Properties struct {
			Settings struct{ Properties map[string]any }
		}
	}
	if err := json.Unmarshal([]byte(read(t, chart+"/values.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	var want []string
	for f := range reflect.TypeFor[injector.Settings]().Fields() {
		if tag, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); tag != "" && tag != "-" {
			want = append(want, tag)
		}
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(schema.Properties.Settings.Properties)); !slices.Equal(got, want) {
		t.Errorf("the schema has the settings\n%q, and the program\n%q", got, want)
	}
}

const plainHead = `# The injector of Larboard: kubectl apply -f deploy/kubernetes/larboard.yaml
# Written from the chart in deploy/helm/larboard, with its default values, by
# go test ./tests/deploy -update. How to go on: examples/manual/kubernetes.md.
apiVersion: v1
kind: Namespace
metadata:
  name: larboard-system
  labels:
    app.kubernetes.io/part-of: larboard
    larboard.io/inject: disabled
    pod-security.kubernetes.io/enforce: restricted
`

// The plain manifests are those of the chart, but for what is Helm's own.
func TestPlainManifestsAreTheChart(t *testing.T) {
	text, problem := rendered(t)
	if problem != "" {
		t.Fatal(problem)
	}
	helms := regexp.MustCompile(`(?m)^(# Source: .*| *app\.kubernetes\.io/managed-by: .*| *helm\.sh/chart: .*)\n`)
	want := plainHead + helms.ReplaceAllString(text, "")
	file := dir + "/kubernetes/larboard.yaml"
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if read(t, file) != want {
		t.Errorf("%s is not what the chart says: go test ./tests/deploy -update", file)
	}
	if all := objects(t, want); len(all) != 11 {
		t.Errorf("%q", slices.Sorted(maps.Keys(all)))
	}
}

// Whatever is labelled, the cluster and the injector start without the injector.
func TestWebhookCannotLockOut(t *testing.T) {
	for _, set := range []string{"settings.inject=labelled", "settings.inject=all"} {
		text, problem := rendered(t, set)
		if problem != "" {
			t.Fatal(problem)
		}
		all := objects(t, text)
		own := all["Deployment"].(*appsv1.Deployment).Spec.Template.Labels
		asked := func(namespace string, ours labels.Set, pod labels.Set) bool {
			ours["kubernetes.io/metadata.name"] = namespace
			return slices.ContainsFunc(all["MutatingWebhookConfiguration"].(*admissionregistrationv1.MutatingWebhookConfiguration).Webhooks, func(h admissionregistrationv1.MutatingWebhook) bool {
				return selects(t, h.NamespaceSelector, ours) && selects(t, h.ObjectSelector, pod)
			})
		}
		for _, namespace := range []string{"kube-system", "kube-public", "kube-node-lease", "larboard-system"} {
			for _, value := range []string{"enabled", "disabled", "other"} {
				if asked(namespace, labels.Set{injector.InjectKey: value}, labels.Set{injector.InjectKey: "true"}) {
					t.Errorf("%s: the webhook is asked about %s, labelled %s", set, namespace, value)
				}
			}
		}
		if asked("shop", labels.Set{injector.InjectKey: "enabled"}, own) {
			t.Errorf("%s: the webhook is asked about the injector itself", set)
		}
		for _, c := range []struct {
			namespace, pod  string
			labelled, whole bool // whether it is asked with each of the settings
		}{{"enabled", "", true, true}, {"enabled", "false", false, false}, {"enabled", "true", true, true}, {"", "", false, true}, {"", "true", true, true}, {"disabled", "true", false, false}} {
			namespace, pod := labels.Set{}, labels.Set{}
			if c.namespace != "" {
				namespace[injector.InjectKey] = c.namespace
			}
			if c.pod != "" {
				pod[injector.InjectKey] = c.pod
			}
			want := c.labelled
			if set == "settings.inject=all" {
				want = c.whole
			}
			if got := asked("shop", namespace, pod); got != want {
				t.Errorf("%s: namespace %q, pod %q: asked %v, want %v", set, c.namespace, c.pod, got, want)
			}
		}
	}
}

func selects(t *testing.T, s *metav1.LabelSelector, set labels.Set) bool {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	return selector.Matches(set)
}
