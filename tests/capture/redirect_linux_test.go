package capture

import (
	"net"
	"testing"

	"github.com/larboard-proxy/larboard/tests/real"
)

// The user ids of the application, of the proxy, and of who is excluded.
const (
	application = 1000
	proxy       = 1337
	excluded    = 1001
)

// What is to go to the proxy goes there and tells where it was to go; all else goes where it was to.
func TestRedirection(t *testing.T) {
	for _, backend := range backends() {
		t.Run(backend, func(t *testing.T) {
			app, other := machines(t)
			serve(app, "outbound", 15001)
			serve(app, "inbound", 15006)
			serve(app, "app", 8080, 2222, 20000, 15021)
			serve(other, "other", 80, 53, 5432, 8005, 20000)
			other.MustRun("ip", "addr", "add", "10.88.0.2/32", "dev", "lo")
			other.MustRun("ip", "addr", "add", "fd88::2/128", "dev", "lo")
			capture(t, app, "--backend", backend, "--exclude-outbound-ports", "5432,8000-8010",
				"--exclude-outbound-cidrs", "10.88.0.0/16,fd88::/16", "--exclude-inbound-ports", "2222", "--exclude-users", "1001")
			for _, c := range []struct {
				name    string
				from    *real.NetworkNamespace
				user    int
				address string
				want    string
			}{
				{"out", app, application, elsewhere + ":80", "outbound " + elsewhere + ":80"},
				{"out over IPv6", app, application, "[" + elsewhere6 + "]:81", "outbound [" + elsewhere6 + "]:81"},
				{"out to who is there", app, application, there + ":80", "outbound " + there + ":80"},
				{"out, as root", app, 0, elsewhere + ":80", "outbound " + elsewhere + ":80"},
				{"out to a mesh port elsewhere", app, application, there + ":20000", "outbound " + there + ":20000"},
				{"out, by the proxy", app, proxy, there + ":80", "other " + there + ":80"},
				{"out over IPv6, by the proxy", app, proxy, "[" + there6 + "]:80", "other [" + there6 + "]:80"},
				{"out, by who is excluded", app, excluded, there + ":80", "other " + there + ":80"},
				{"out to an excluded port", app, application, there + ":5432", "other " + there + ":5432"},
				{"out to an excluded range", app, application, "[" + there6 + "]:8005", "other [" + there6 + "]:8005"},
				{"out to an excluded network", app, application, "10.88.0.2:80", "other 10.88.0.2:80"},
				{"out to an excluded network of IPv6", app, application, "[fd88::2]:80", "other [fd88::2]:80"},
				{"out to DNS", app, application, there + ":53", "other " + there + ":53"},
				{"to itself over loopback", app, application, "127.0.0.1:8080", "app 127.0.0.1:8080"},
				{"to itself over IPv6", app, application, "[::1]:8080", "app [::1]:8080"},
				{"to itself by its address", app, application, here + ":8080", "app " + here + ":8080"},
				{"to itself by its address, IPv6", app, application, "[" + here6 + "]:8080", "app [" + here6 + "]:8080"},
				{"the proxy to the application", app, proxy, here + ":8080", "app " + here + ":8080"},
				{"in", other, application, here + ":8080", "inbound " + here + ":8080"},
				{"in over IPv6", other, application, "[" + here6 + "]:8080", "inbound [" + here6 + "]:8080"},
				{"in to where nobody listens", other, application, here + ":4444", "inbound " + here + ":4444"},
				{"in to an excluded port", other, application, here + ":2222", "app " + here + ":2222"},
				{"in to the mesh port", other, application, here + ":20000", "app " + here + ":20000"},
				{"in to the probes", other, application, "[" + here6 + "]:15021", "app [" + here6 + "]:15021"},
				{"in to the proxy's own port", other, application, here + ":15006", "inbound " + here + ":15006"},
			} {
				if got := get(c.from, c.user, c.address); got != c.want {
					t.Errorf("%s: got %q, want %q", c.name, got, c.want)
				}
			}
			capture(t, app, "--remove")
			if got, want := get(app, application, there+":80"), "other "+there+":80"; got != want {
				t.Errorf("after the removal: got %q, want %q", got, want)
			}
			if got, want := get(other, application, here+":8080"), "app "+here+":8080"; got != want {
				t.Errorf("after the removal: got %q, want %q", got, want)
			}
		})
	}
}

// With what is wanted alone, all else passes; and one direction can do without the other.
func TestOnly(t *testing.T) {
	for _, backend := range backends() {
		t.Run(backend, func(t *testing.T) {
			app, other := machines(t)
			serve(app, "outbound", 15001)
			serve(app, "app", 8080)
			serve(other, "other", 80, 81)
			capture(t, app, "--backend", backend, "--inbound-port", "0", "--only-outbound-ports", "80,443", "--only-outbound-cidrs", "192.0.2.0/24,"+there)
			for address, want := range map[string]string{
				there + ":80":         "outbound " + there + ":80",
				there + ":81":         "other " + there + ":81",
				elsewhere + ":443":    "outbound " + elsewhere + ":443",
				"[" + there6 + "]:80": "other [" + there6 + "]:80",
			} {
				if got := get(app, application, address); got != want {
					t.Errorf("%s: got %q, want %q", address, got, want)
				}
			}
			if got, want := get(other, application, here+":8080"), "app "+here+":8080"; got != want {
				t.Errorf("in: got %q, want %q", got, want)
			}
		})
	}
}

// What an interface brings is left alone, and what goes by it.
func TestExcludedInterface(t *testing.T) {
	for _, backend := range backends() {
		t.Run(backend, func(t *testing.T) {
			app, other := machines(t)
			serve(app, "app", 8080)
			serve(other, "other", 80)
			capture(t, app, "--backend", backend, "--exclude-interfaces", "cable")
			if got, want := get(app, application, there+":80"), "other "+there+":80"; got != want {
				t.Errorf("out: got %q, want %q", got, want)
			}
			if got, want := get(other, application, here+":8080"), "app "+here+":8080"; got != want {
				t.Errorf("in: got %q, want %q", got, want)
			}
		})
	}
}

// A connection that exists is not cut by rules that come and go, whichever side speaks first: before
// them, nothing keeps track of connections here.
func TestEstablishedConnectionsLive(t *testing.T) {
	for _, backend := range backends() {
		t.Run(backend, func(t *testing.T) {
			app, other := machines(t)
			outgoing, theirs := connected(t, app, other, net.JoinHostPort(there, "80"))
			coming, ours := connected(t, other, app, net.JoinHostPort(here6, "8080"))
			speak := func(when string) {
				t.Helper()
				// The far ends first, whose packets would look like new connections from elsewhere.
				for _, pair := range [][2]net.Conn{{theirs, outgoing}, {outgoing, theirs}, {coming, ours}, {ours, coming}} {
					pass(t, when, pair[0], pair[1])
				}
			}
			speak("before")
			capture(t, app, "--backend", backend)
			speak("with rules")
			capture(t, app, "--backend", backend, "--exclude-outbound-ports", "25")
			speak("with others")
			capture(t, app, "--remove")
			speak("without")
		})
	}
}
