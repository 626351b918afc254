// Package compose runs deploy/compose on a real Docker Engine, with images that are made here of
// the pinned servers under the names that the stack asks for, and looks at it as its users do:
// at what is answered, and at Consul, Prometheus and Jaeger. Grafana's image cannot be made here;
// that its dashboards show something is seen by their queries. It must not know the program from
// inside.
package compose
