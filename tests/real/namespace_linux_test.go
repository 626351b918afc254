package real

import (
	"io"
	"strings"
	"testing"
)

// What happens in a namespace is not seen outside, and processes, sockets and cables are in it.
func TestNamespace(t *testing.T) {
	a, b := Namespace(t), Namespace(t)
	a.Join("cable", "10.9.8.1/24,fd09::1/64", b, "10.9.8.2/24,fd09::2/64")
	if out := Run(t, stopTime, "ip", "link"); strings.Contains(out.Stdout, "cable") {
		t.Errorf("the interface is outside:\n%s", out.Stdout)
	}
	if id := a.MustRun("setpriv", As(1337, "id", "-u")...); id != "1337\n" {
		t.Errorf("user id %q", id)
	}
	for _, address := range []string{"10.9.8.2:80", "[fd09::2]:80"} {
		l := b.Listen("tcp", address)
		go func() {
			if c, err := l.Accept(); err == nil {
				io.WriteString(c, "hello")
				c.Close()
			}
		}()
		c, err := a.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if said, err := io.ReadAll(c); string(said) != "hello" {
			t.Errorf("%s: read %q, %v", address, said, err)
		}
		c.Close()
	}
}
