//go:build !linux

package cli

import "errors"

var errNoBinding = errors.New("a process can be bound to CPUs on Linux only")

func givenCPUs() ([]int, error) { return nil, errNoBinding }

func bindCPUs([]int) error { return errNoBinding }

func unboundThread() func() { return nil }
