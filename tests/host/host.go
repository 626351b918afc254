// Package host walks through the manual's page on installing as one does on a host: services
// with sidecars defined in Consul, proxies that follow the definitions, and what deploy/systemd
// starts. It must not know the program from inside.
package host
