// Package capture makes the kernel's rules that redirect a workload's connections to its
// proxy. The plan is pure; applying it is one step of the kernel's.
package capture

import _ "github.com/google/nftables"
