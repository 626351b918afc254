package webhook

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/larboard-proxy/larboard/injector"
)

// five is a review of a pod with five containers, probes and variables, some 8 kB.
func five(t testing.TB) []byte {
	pod := corev1.Pod{}
	pod.Name = "web"
	pod.Annotations = map[string]string{"larboard.io/upstreams": "stock:9191, db:5432/tcp"}
	for i := range 5 {
		c := corev1.Container{Name: fmt.Sprint("c", i), Image: "example.org/app:1", Ports: []corev1.ContainerPort{{ContainerPort: int32(8080 + i)}}}
		for v := range 20 {
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprint("VARIABLE_", v), Value: "the value of a variable"})
		}
		c.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{}}}
		c.ReadinessProbe.TCPSocket.Port.IntVal = int32(8080 + i)
		pod.Spec.Containers = append(pod.Spec.Containers, c)
	}
	raw, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	return admission("web", func(r *admissionv1.AdmissionRequest) { r.Object.Raw = raw })
}

// Two hundred reviews a second over twenty connections, as API servers make them (TLS, HTTP/1.1): go test ./injector/webhook -run '^$' -bench Hundred. The tail is what counts:
// a pod waits for it.
func BenchmarkTwoHundredASecond(b *testing.B) {
	f := newFakeAPI()
	f.put("/api/v1/namespaces/shop", shop())
	r := start(b, f, nil)
	r.mutate = injector.Mutate
	r.settings.Store(injector.DefaultSettings())
	body := five(b)
	transport := &http.Transport{MaxIdleConnsPerHost: 20, TLSClientConfig: &tls.Config{RootCAs: r.pool, NextProtos: []string{"http/1.1"}}}
	client := &http.Client{Timeout: 30 * time.Second, Transport: transport}
	var mu sync.Mutex
	var all []time.Duration
	var workers sync.WaitGroup
	share := make(chan struct{}, b.N)
	for range b.N {
		share <- struct{}{}
	}
	close(share)
	b.ResetTimer()
	for worker := range 20 {
		workers.Go(func() {
			time.Sleep(time.Duration(worker) * 5 * time.Millisecond) // they are not in step
			for range share {
				begin := time.Now()
				resp, err := client.Post("https://"+r.reviews+"/mutate", "application/json", bytes.NewReader(body))
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				took := time.Since(begin)
				if resp.StatusCode != http.StatusOK {
					b.Error(resp.Status)
				}
				mu.Lock()
				all = append(all, took)
				mu.Unlock()
				time.Sleep(100 * time.Millisecond) // some 200 a second: a pod is more than its review
			}
		})
	}
	workers.Wait()
	b.StopTimer()
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
}
