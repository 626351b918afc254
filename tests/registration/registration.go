// Package registration tries how proxies become known in a real Consul and how they are forgotten: through
// an agent and through the servers' catalog, by proxies that stop and by those that are killed. It
// holds nothing but tests.
package registration
