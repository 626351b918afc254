//go:build !unix

package sidecar

// DescriptorLimit is not known here.
func DescriptorLimit() uint64 { return 0 }
