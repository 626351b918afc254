// Package webhook serves injector.Mutate to Kubernetes as a mutating admission webhook,
// and keeps the certificate that the API server trusts.
package webhook

import (
	_ "k8s.io/api/admission/v1"
	_ "k8s.io/apimachinery/pkg/types"
	_ "k8s.io/client-go/rest"
)
