// Package admission tries the injector on a real API server of Kubernetes: objects are
// admitted, mutated, defaulted, validated and kept as in any installation, while nothing
// runs. It must not know how the injector decides: it sees pods before and after.
package admission
