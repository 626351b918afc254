package injector

import (
	"cmp"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// What is put into a pod.
const (
	sidecarName  = "larboard"
	captureName  = "larboard-capture"
	installName  = "larboard-install"
	volumePrefix = "larboard-"
	configEnv    = "LARBOARD_CONFIG"
	binary       = "/larboard"
	binDir       = "/larboard-bin"

	userID = 1337 // and group
)

// ours are the names of all containers that are added.
var ours = []string{sidecarName, captureName, installName}

// Every field that the API server would fill in is given: a pod that comes back from it is then
// what Mutate would make of it.

// sidecar is the proxy's container, native or classic.
func (w *wish) sidecar(configuration string) corev1.Container {
	c := w.plainContainer(sidecarName)
	c.Args = []string{"run", "-c", "env:" + configEnv}
	c.Env = downward("")
	if limit, ok := c.Resources.Limits[corev1.ResourceMemory]; ok { // Go does not look at it by itself
		c.Env = append(c.Env, corev1.EnvVar{Name: "GOMEMLIMIT", Value: strconv.FormatInt(limit.Value()/10*9, 10)})
	}
	c.Env = append(c.Env, corev1.EnvVar{Name: configEnv, Value: configuration})
	c.Ports = w.containerPorts()
	c.VolumeMounts = w.mounts()
	c.ReadinessProbe = probe("/ready", 5, 3)
	c.LivenessProbe = probe("/live", 10, 6)
	if w.form() == FormNative {
		always := corev1.ContainerRestartPolicyAlways
		c.RestartPolicy = &always
		c.StartupProbe = probe("/ready", 1, startSeconds)
		// It gets its signal only when the application has ended, and this hook at once: others
		// are to stop calling before. Leave, not quit: what the application still has to call
		// goes through it until then, however long it is silent.
		c.Lifecycle = &corev1.Lifecycle{PreStop: command("ctl", "leave")}
	} else {
		c.Lifecycle = &corev1.Lifecycle{PostStart: w.holdUp()}
	}
	return c
}

// holdUp has the other containers of the form classic wait. SPIRE's agent gives no identity to a
// container whose hook still runs, since the kubelet does not show it: then they wait for the
// listeners, where their connections wait for the identity.
func (w *wish) holdUp() *corev1.LifecycleHandler {
	timeout := strconv.Itoa(startSeconds) + "s"
	if w.Identity.Source == IdentityCSI || w.Identity.Source == IdentityHostPath {
		return command("wait", "--listening", "-c", "env:"+configEnv, "--timeout", timeout)
	}
	return command("wait", "--timeout", timeout)
}

func command(args ...string) *corev1.LifecycleHandler {
	return &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: append([]string{binary}, args...)}}
}

// startSeconds is how long the proxy may take for its identity before it is begun anew.
const startSeconds = 600

// plainContainer is what all containers of ours have in common.
func (w *wish) plainContainer(name string) corev1.Container {
	user, no, yes := int64(userID), false, true
	return corev1.Container{
		Name: name, Image: w.image(), ImagePullPolicy: corev1.PullPolicy(w.PullPolicy),
		Command: []string{binary}, Resources: w.resources(),
		SecurityContext: &corev1.SecurityContext{
			RunAsUser: &user, RunAsGroup: &user, RunAsNonRoot: &yes, AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
			Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		TerminationMessagePath: corev1.TerminationMessagePathDefault, TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
}

func (w *wish) image() string {
	return cmp.Or(w.Image, "larboard/larboard:"+cmp.Or(w.Version, "latest"))
}

// capture is the init container that has the pod's connections redirected. It alone has more
// than nobody's rights: the kernel takes such rules from a process with NET_ADMIN only, and a
// container's capabilities are in force for root alone.
func (w *wish) capture() corev1.Container {
	c := w.plainContainer(captureName)
	own, inbound := []int{AdminPort, ProbePort}, 0
	for i := range w.ports {
		own = append(own, MeshPort+i)
	}
	if w.Capture.Mode == CaptureBoth {
		inbound = InboundPort
	}
	c.Args = []string{"capture", "--user", strconv.Itoa(userID), "--outbound-port", strconv.Itoa(OutboundPort),
		"--inbound-port", strconv.Itoa(inbound), "--proxy-ports", numberList(own)}
	if len(w.Capture.ExcludeInboundPorts) > 0 {
		c.Args = append(c.Args, "--exclude-inbound-ports", numberList(w.Capture.ExcludeInboundPorts))
	}
	if len(w.Capture.ExcludeOutboundPorts) > 0 {
		c.Args = append(c.Args, "--exclude-outbound-ports", numberList(w.Capture.ExcludeOutboundPorts))
	}
	if len(w.Capture.ExcludeOutboundCIDRs) > 0 {
		c.Args = append(c.Args, "--exclude-outbound-cidrs", strings.Join(w.Capture.ExcludeOutboundCIDRs, ","))
	}
	root, no := int64(0), false
	c.SecurityContext.RunAsUser, c.SecurityContext.RunAsGroup, c.SecurityContext.RunAsNonRoot = &root, &root, &no
	c.SecurityContext.Capabilities.Add = []corev1.Capability{"NET_ADMIN"}
	return c
}

func numberList(numbers []int) string {
	var all []string
	for _, n := range numbers {
		all = append(all, strconv.Itoa(n))
	}
	return strings.Join(all, ",")
}

// downward are the variables that a configuration may name, each with prefix before its name.
func downward(prefix string) (all []corev1.EnvVar) {
	for _, v := range [...][2]string{
		{"POD_NAME", "metadata.name"}, {"POD_NAMESPACE", "metadata.namespace"}, {"POD_UID", "metadata.uid"},
		{"POD_IP", "status.podIP"}, {"HOST_IP", "status.hostIP"}, {"NODE_NAME", "spec.nodeName"},
	} {
		all = append(all, corev1.EnvVar{Name: prefix + v[0], ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: v[1]}}})
	}
	return all
}

func (w *wish) containerPorts() []corev1.ContainerPort {
	ports := []corev1.ContainerPort{{Name: "larboard-probes", ContainerPort: ProbePort, Protocol: corev1.ProtocolTCP}}
	for i := range w.ports {
		name := "larboard-mesh"
		if i > 0 {
			name += strconv.Itoa(i)
		}
		ports = append(ports, corev1.ContainerPort{Name: name, ContainerPort: int32(MeshPort + i), Protocol: corev1.ProtocolTCP})
	}
	return ports
}

// probe asks the proxy itself, every so many seconds.
func probe(path string, period, failures int32) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: asks(path), TimeoutSeconds: 2, PeriodSeconds: period, SuccessThreshold: 1, FailureThreshold: failures}
}

func asks(path string) corev1.ProbeHandler {
	return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(ProbePort), Scheme: corev1.URISchemeHTTP}}
}

// resources are those of the settings, which have been checked.
func (w *wish) resources() corev1.ResourceRequirements {
	set := func(of *corev1.ResourceList, name corev1.ResourceName, text string) {
		if q, err := resource.ParseQuantity(text); err == nil {
			if *of == nil {
				*of = corev1.ResourceList{}
			}
			(*of)[name] = q
		}
	}
	var r corev1.ResourceRequirements
	set(&r.Requests, corev1.ResourceCPU, w.Resources.CPURequest)
	set(&r.Requests, corev1.ResourceMemory, w.Resources.MemoryRequest)
	set(&r.Limits, corev1.ResourceCPU, w.Resources.CPULimit)
	set(&r.Limits, corev1.ResourceMemory, w.Resources.MemoryLimit)
	return r
}

// volume is one of ours and where its files are in the container.
type volume struct {
	corev1.Volume
	at       string
	writable bool
}

func (w *wish) volumes() (all []volume) {
	add := func(name, at string, source corev1.VolumeSource) {
		all = append(all, volume{Volume: corev1.Volume{Name: volumePrefix + name, VolumeSource: source}, at: at})
	}
	switch w.Identity.Source {
	case IdentityCSI:
		yes := true
		add("spiffe", spiffeDir, corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: w.Identity.Driver, ReadOnly: &yes}})
	case IdentityHostPath:
		add("spiffe", spiffeDir, hostPath(w.Identity.Directory))
	case IdentityFiles:
		add("identity", identityDir, secret(w.Identity.Secret))
	case IdentityDev:
		add("dev", stateDir, hostPath(w.Identity.State))
		all[len(all)-1].writable = true
	}
	if w.Consul.TokenSecret != "" {
		name, key := secretKey(w.Consul.TokenSecret, "token")
		add("consul-token", consulTokenDir, secret(name, corev1.KeyToPath{Key: key, Path: "token"}))
	}
	if w.Consul.CASecret != "" {
		name, key := secretKey(w.Consul.CASecret, "ca.crt")
		add("consul-ca", consulCADir, secret(name, corev1.KeyToPath{Key: key, Path: "ca.crt"}))
	}
	if w.form() == FormWrapped {
		add("bin", binDir, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	}
	return all
}

func hostPath(dir string) corev1.VolumeSource {
	create := corev1.HostPathDirectoryOrCreate
	return corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir, Type: &create}}
}

func secret(name string, items ...corev1.KeyToPath) corev1.VolumeSource {
	mode := corev1.SecretVolumeSourceDefaultMode
	return corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name, Items: items, DefaultMode: &mode}}
}

func (w *wish) mounts() (all []corev1.VolumeMount) {
	for _, v := range w.volumes() {
		all = append(all, corev1.VolumeMount{Name: v.Name, MountPath: v.at, ReadOnly: !v.writable})
	}
	return all
}
