package admin

import (
	"context"
	"net"
	"net/http"
	"strings"
)

// protect stands before every path. A browser on this host may be made to call
// loopback addresses for a foreign page; three things keep such a page out:
//
//   - DNS rebinding: a request over TCP must name a loopback host in its Host field,
//     which a page of another site cannot do under its own name;
//   - cross-origin writes: http.CrossOriginProtection refuses a POST whose
//     Sec-Fetch-Site or Origin shows another site, whatever its content type;
//   - reads: no CORS field is ever sent, so that a foreign page sees no answer.
func protect(next http.Handler) http.Handler {
	writes := http.NewCrossOriginProtection()
	writes.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, http.StatusForbidden, "the request comes from a page of another origin")
	}))
	inner := writes.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		if !overUnix(r) && !loopbackHost(r.Host) {
			writeError(w, http.StatusForbidden, "the Host field does not name this host: use 127.0.0.1, [::1] or localhost")
			return
		}
		if r.ContentLength > bodyLimit {
			writeError(w, http.StatusRequestEntityTooLarge, "the request has too large a body")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, bodyLimit)
		inner.ServeHTTP(w, r)
	})
}

// loopbackHost reports whether a Host field names a loopback address or localhost,
// with or without a port. The port is not compared, so that a forwarded one works.
func loopbackHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	} else if inner, ok := strings.CutPrefix(host, "["); ok {
		host = strings.TrimSuffix(inner, "]")
	}
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// overUnixKey marks the context of connections over a Unix socket, which no browser
// can open and whose Host field says nothing.
type overUnixKey struct{}

func markConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, overUnixKey{}, c.LocalAddr().Network() == "unix")
}

func overUnix(r *http.Request) bool {
	unix, _ := r.Context().Value(overUnixKey{}).(bool)
	return unix
}
