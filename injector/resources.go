package injector

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/resource"
)

// What nobody means: the bounds beyond which a unit was forgotten.
const (
	absurdCores  = 64
	absurdMemory = 4 << 20
)

func (rs *ResourceSettings) check(r report) {
	r.cpu("resources.cpu_request", rs.CPURequest)
	r.cpu("resources.cpu_limit", rs.CPULimit)
	r.memory("resources.memory_request", rs.MemoryRequest)
	r.memory("resources.memory_limit", rs.MemoryLimit)
	r.atMost("resources.cpu_request", rs.CPURequest, rs.CPULimit)
	r.atMost("resources.memory_request", rs.MemoryRequest, rs.MemoryLimit)
}

func (r report) cpu(path, text string) {
	q, ok := r.quantity(path, text, "10m or 0.5")
	if ok && q.CmpInt64(absurdCores) > 0 {
		r(path, fmt.Sprintf("%q is that many whole processors", text), text+"m")
	}
}

func (r report) memory(path, text string) {
	q, ok := r.quantity(path, text, "64Mi")
	if !ok || q.CmpInt64(absurdMemory) >= 0 {
		return
	}
	meant := ""
	if n := len(text) - 1; text[n] == 'm' || text[n] == 'M' {
		text = text[:n]
	}
	if _, err := fmt.Sscanf(text, "%d", new(int)); err == nil {
		meant = text + "Mi"
	}
	r(path, fmt.Sprintf("%s is %d bytes, less than any proxy can do with", q.String(), q.Value()), meant)
}

// quantity reads text; what is empty, or no quantity, is not ok.
func (r report) quantity(path, text, like string) (q resource.Quantity, ok bool) {
	if text == "" {
		return q, false
	}
	q, err := resource.ParseQuantity(text)
	if err != nil {
		r(path, fmt.Sprintf("%q is no quantity, like %s", text, like), "")
		return q, false
	}
	if q.Sign() <= 0 {
		r(path, fmt.Sprintf("%q is not more than zero", text), "")
		return q, false
	}
	return q, true
}

func (r report) atMost(path, request, limit string) {
	q, err := resource.ParseQuantity(request)
	l, bad := resource.ParseQuantity(limit)
	if err == nil && bad == nil && q.Cmp(l) > 0 {
		r(path, fmt.Sprintf("%s is more than the limit, %s", request, limit), "")
	}
}
