package injector

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// delayAll has the containers of the application that name nothing to be done before they end
// sleep, and returns their names.
func (w *wish) delayAll(pod *corev1.Pod) (names []string) {
	seconds := int64(w.StopDelay.D() / time.Second)
	if seconds == 0 || len(w.ports) == 0 || w.form() == FormWrapped {
		return nil // wrapped, the proxy passes the signal on when the time has come
	}
	if grace := w.grace(); seconds >= grace {
		w.refuse("%sstop-delay: %s is not less than the %d s that the pod has to end (terminationGracePeriodSeconds)", Prefix, w.StopDelay, grace)
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		sleep := &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: seconds}}
		switch {
		case slices.Contains(sidecars, c.Name): // which know their own time
			continue
		case c.Lifecycle == nil:
			c.Lifecycle = &corev1.Lifecycle{PreStop: sleep}
		case c.Lifecycle.PreStop == nil && c.Lifecycle.PostStart != nil:
			with := *c.Lifecycle
			with.PreStop = sleep
			c.Lifecycle = &with
		default:
			continue
		}
		names = append(names, c.Name)
	}
	return names
}

// hasten is the inverse of delayAll for one container.
func hasten(c *corev1.Container) {
	if c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.Sleep == nil {
		return
	}
	c.Lifecycle.PreStop = nil
	if c.Lifecycle.PostStart == nil && c.Lifecycle.StopSignal == nil {
		c.Lifecycle = nil
	}
}
