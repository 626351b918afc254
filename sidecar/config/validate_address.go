package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// address checks IP:port or unix:///PATH. To listen on port 0 lets the system choose;
// nobody can be called there.
func (v *validator) address(path, text string, listen bool) {
	if strings.HasPrefix(text, "unix:") || strings.HasPrefix(text, "/") {
		v.unixAddress(path, text)
		return
	}
	addr, err := netip.ParseAddrPort(text)
	switch {
	case err != nil:
		message, meant := addressFault(text, listen)
		v.propose(path, message, meant)
	case addr.Port() == 0 && !listen:
		v.report(path, fmt.Sprintf("%q: nobody can be called on port 0", text))
	case addr.Addr().IsUnspecified() && !listen:
		v.propose(path, fmt.Sprintf("%q is an address to listen on, not to call", text), loopback(addr))
	}
}

// adminAddress asks for a loopback address: whoever reaches the admin interface
// may use it.
func (v *validator) adminAddress(text string) {
	const path = "admin.address"
	if name, ok := strings.CutPrefix(text, "unix://"); ok {
		v.report(path, fmt.Sprintf("%q is a Unix socket; write it as admin.socket: %s", text, name))
		return
	}
	v.address(path, text, true)
	if addr, err := netip.ParseAddrPort(text); err == nil && !addr.Addr().IsLoopback() {
		v.propose(path, fmt.Sprintf("%q is not a loopback address, and the interface asks nobody who they are", text), loopback(addr))
	}
}

func loopback(addr netip.AddrPort) string {
	host := "127.0.0.1"
	if addr.Addr().Is6() {
		host = "::1"
	}
	return net.JoinHostPort(host, strconv.Itoa(int(addr.Port())))
}

// addressFault says what is wrong with text and what was probably meant.
func addressFault(text string, listen bool) (message, meant string) {
	if ip, err := netip.ParseAddr(text); err == nil {
		return fmt.Sprintf("%q has no port; write %s", text, net.JoinHostPort(ip.String(), "PORT")), ""
	}
	if _, err := strconv.ParseUint(text, 10, 16); err == nil {
		return fmt.Sprintf("%q is a port without an address; write IP:port", text), "127.0.0.1:" + text
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return fmt.Sprintf("%q is not IP:port", text), ""
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Sprintf("%q: %q is not a port, which is a number up to 65535", text, port), ""
	}
	switch {
	case host == "localhost":
		meant = net.JoinHostPort("127.0.0.1", port)
	case host == "" && listen:
		return fmt.Sprintf("%q has no address; write which one", text), net.JoinHostPort("0.0.0.0", port)
	case host == "":
		return fmt.Sprintf("%q has no address", text), net.JoinHostPort("127.0.0.1", port)
	}
	message = fmt.Sprintf("%q: %q is a name, and names are not looked up here; write IP:port", text, host)
	if !listen && meant == "" && validHost(host) {
		message += fmt.Sprintf(", or find it by discovery: {dns: {name: %s, port: %s}}", host, port)
	}
	return message, meant
}

// unixAddress checks unix:///PATH.
func (v *validator) unixAddress(path, text string) {
	name, ok := strings.CutPrefix(text, "unix://")
	switch {
	case ok && strings.HasPrefix(name, "@"), strings.HasPrefix(text, "unix:@"):
		v.report(path, fmt.Sprintf("%q: abstract sockets, which have no file and no mode, are not in this version; write unix:///PATH", text))
	case !ok || !strings.HasPrefix(name, "/"):
		meant := ""
		if rest := strings.TrimPrefix(text, "unix:"); strings.HasPrefix(rest, "/") {
			meant = "unix:///" + strings.TrimLeft(rest, "/")
		}
		v.propose(path, fmt.Sprintf("%q is not unix:///PATH with an absolute path", text), meant)
	case name == "/" || strings.HasSuffix(name, "/"):
		v.report(path, fmt.Sprintf("%q names a directory, not a socket", text))
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		v.report(path, fmt.Sprintf("%q holds a control character", text))
	default:
		v.socketPath(path, name)
	}
}

// socketMode checks that there is a socket to give the mode to.
func (v *validator) socketMode(path string, mode SocketMode, addresses ...string) {
	at := join(path, "socket_mode")
	if mode == "" {
		return
	}
	if n, err := strconv.ParseUint(string(mode), 8, 32); err != nil || n > 0o777 {
		v.report(at, fmt.Sprintf("%q is not a file mode; write octal digits up to 0777, like 0660", string(mode)))
		return
	}
	for _, one := range addresses {
		if strings.HasPrefix(one, "unix://") {
			return
		}
	}
	v.report(at, "is for Unix sockets, and none of the addresses is one")
}

// maxSocketPath is what a Unix socket's address holds (unix(7)).
const maxSocketPath = 107

// socketPath checks the path of a Unix socket that is served.
func (v *validator) socketPath(path, socket string) {
	switch {
	case socket == "":
	case strings.HasPrefix(socket, "unix://"):
		v.propose(path, fmt.Sprintf("%q is a URL; write a path", socket), strings.TrimPrefix(socket, "unix://"))
	case strings.Contains(socket, "://"):
		v.report(path, fmt.Sprintf("%q is not the path of a Unix socket", socket))
	case len(socket) > maxSocketPath:
		v.report(path, fmt.Sprintf("%q is longer than the %d bytes of a Unix socket's path", socket, maxSocketPath))
	}
}

// consul checks how the agent is reached.
func (v *validator) consul(c *Consul) {
	v.exclusive("consul", "token", "token_file")
	v.consulAddress(c.Address)
	if c.Wait < Duration(time.Second) || c.Wait > Duration(10*time.Minute) {
		v.report("consul.wait", fmt.Sprintf("%s is not between 1s and 10m, which Consul keeps to", c.Wait))
	}
	if c.TLS == nil {
		return
	}
	if !strings.HasPrefix(c.Address, "https://") {
		v.report("consul.tls", "needs an https:// address")
	}
	v.clientTLS("consul.tls", c.TLS)
}

func (v *validator) consulAddress(text string) {
	const path = "consul.address"
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		scheme, rest = "", text
	}
	switch { // without the text: what should not be there may be a secret
	case scheme == "unix":
	case strings.Contains(rest, "@"):
		v.report(path, "holds a user or a password, which is not supported; use token or token_file")
		return
	case strings.ContainsAny(rest, "?#"):
		v.report(path, "holds a query or a fragment; only scheme, host and port are expected")
		return
	}
	switch scheme {
	case "unix":
		if !filepath.IsAbs(rest) {
			v.report(path, fmt.Sprintf("%q is not unix:///PATH", text))
		}
	case "", "http", "https":
		if strings.HasPrefix(text, "/") {
			v.propose(path, fmt.Sprintf("%q is not a URL", text), "unix://"+text)
			return
		}
		v.hostAndPort(path, strings.TrimSuffix(rest, "/"))
	default:
		v.propose(path, fmt.Sprintf("%q is none of http://, https://, unix:// and HOST:PORT", text), suggestScheme(scheme, rest))
	}
}

func suggestScheme(scheme, rest string) string {
	if meant := suggest(scheme, []string{"http", "https", "unix"}); meant != "" {
		return meant + "://" + rest
	}
	return ""
}

// hostAndPort checks an address whose host may be a name.
func (v *validator) hostAndPort(path, text string) {
	host, port, err := net.SplitHostPort(text)
	n, bad := strconv.Atoi(port)
	switch {
	case err != nil:
		v.report(path, fmt.Sprintf("%q is not a host and a port, HOST:PORT", text))
	case bad != nil || n < 1 || n > 65535:
		v.report(path, fmt.Sprintf("%q: %q is not a port, which is a number up to 65535", text, port))
	case !validHost(host):
		v.report(path, fmt.Sprintf("%q: %q is not the name or address of a host", text, host))
	}
}
