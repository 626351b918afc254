//go:build !linux

package real

import "syscall"

func dieWithUs() *syscall.SysProcAttr { return nil }
