// Package capture tries `larboard capture` in network namespaces of its own: what it makes of
// the kernel's rules, what these do to connections, and what stays as it was. It holds nothing but
// tests.
package capture
