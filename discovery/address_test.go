package discovery

import (
	"strings"
	"testing"
)

func FuzzCheckAddress(f *testing.F) {
	for _, seed := range []string{"127.0.0.1:80", "[::1]:80", "unix:///a", "unix://", ":80", "[fe80::1%eth0]:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, address string) {
		if CheckAddress(address) == nil && !strings.HasPrefix(address, "unix:///") && !strings.Contains(address, ":") {
			t.Errorf("%q is taken for an address", address)
		}
	})
}
