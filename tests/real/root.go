package real

import (
	"os"
	"testing"
)

// Root skips a test that needs root's rights: network namespaces, firewall rules, containers.
// CI has them; an ordinary user's `make test` does without such tests.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("needs root: it changes networks, rules or containers")
	}
}
