package injector

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// wrapping begins a wrapped command.
var wrapping = []string{binDir + binary, "run", "-c", "env:" + configEnv, "--"}

// wrappedPrefix is before the names of our variables in a container of others.
const wrappedPrefix = "LARBOARD_"

// install is the init container that brings the proxy's file to where the application's
// container finds it.
func (w *wish) install() corev1.Container {
	c := w.plainContainer(installName)
	c.Args = []string{"install", binDir}
	c.VolumeMounts = []corev1.VolumeMount{{Name: volumePrefix + "bin", MountPath: binDir}}
	return c
}

// application is the container whose command is to be wrapped.
func (w *wish) application(pod *corev1.Pod) *corev1.Container {
	all := pod.Spec.Containers
	if w.container != "" {
		for i := range all {
			if all[i].Name == w.container {
				return &all[i]
			}
		}
		var names []string
		for i := range all {
			names = append(names, all[i].Name)
		}
		w.refuse("%scontainer: there is no container %q%s", Prefix, w.container, meantWord(w.container, names))
		return nil
	}
	for i := range all {
		has := func(p corev1.ContainerPort) bool {
			return len(w.ports) > 0 && int(p.ContainerPort) == w.ports[0].number
		}
		if slices.ContainsFunc(all[i].Ports, has) {
			return &all[i]
		}
	}
	if len(all) == 0 {
		return nil
	}
	return &all[0]
}

// wrap has the proxy begin c's command.
func (w *wish) wrap(c *corev1.Container, configuration string) {
	if len(c.Command) == 0 {
		w.refuse("the container %s names no command, which the form wrapped begins itself, and that of its image is not known here; write it as command, or use the form native", c.Name)
		return
	}
	for _, v := range c.Env {
		if strings.HasPrefix(v.Name, wrappedPrefix) {
			w.refuse("the container %s has the variable %s, and names that begin with %s are ours in the form wrapped", c.Name, v.Name, wrappedPrefix)
		}
	}
	c.Command = append(slices.Clone(wrapping), c.Command...)
	var renamed []string
	for _, v := range downward("") {
		renamed = append(renamed, "$("+v.Name+")", "$("+wrappedPrefix+v.Name+")")
	}
	configuration = strings.NewReplacer(renamed...).Replace(configuration)
	c.Env = append(append(slices.Clone(c.Env), downward(wrappedPrefix)...), corev1.EnvVar{Name: configEnv, Value: configuration})
	c.VolumeMounts = append(slices.Clone(c.VolumeMounts), w.mounts()...)
}

// unwrap is the inverse of wrap.
func unwrap(c *corev1.Container) {
	if len(c.Command) > len(wrapping) && slices.Equal(c.Command[:len(wrapping)], wrapping) {
		c.Command = slices.Clone(c.Command[len(wrapping):])
	}
	c.Env = without(c.Env, func(v corev1.EnvVar) bool { return strings.HasPrefix(v.Name, wrappedPrefix) })
	c.VolumeMounts = without(c.VolumeMounts, func(m corev1.VolumeMount) bool { return strings.HasPrefix(m.Name, volumePrefix) })
}
