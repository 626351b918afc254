// Package manifest finds what can be put into the mesh in files that people keep: Kubernetes
// manifests, docker-compose files, Consul's service definitions. Comments and order stay.
package manifest

import _ "github.com/aymanbagabas/go-udiff"
