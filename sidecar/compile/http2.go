package compile

import (
	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/http1"
	"github.com/larboard-proxy/larboard/sidecar/http2"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// http2Options are what both sides share.
func http2Options(h config.HTTP2Settings, l http1.Limits) *http2.Options {
	return &http2.Options{
		MaxStreams:       uint32(h.MaxStreams),
		StreamWindow:     uint32(h.StreamWindow),
		ConnectionWindow: uint32(h.ConnectionWindow),
		Head:             l.Head,
		Fields:           l.Fields,
		Trailers:         l.Trailers,
		PingInterval:     h.PingInterval.D(),
		PingTimeout:      h.PingTimeout.D(),
	}
}

// listenerHTTP2 is nil where HTTP/2 is not spoken.
func listenerHTTP2(c *config.Listener, l http1.Limits) *http2.Options {
	if !c.HTTP2.Enabled || c.Protocol == config.TCP {
		return nil
	}
	o := http2Options(c.HTTP2.Settings(), l)
	o.AllowConnect, o.HideReason = c.AllowConnect, c.ReasonHeader != nil && !*c.ReasonHeader
	o.HeadTimeout, o.IdleTimeout, o.StallTimeout = c.Timeouts.RequestHead.D(), c.Timeouts.Idle.D(), c.Timeouts.Body.D()
	return o
}

// serviceHTTP2 gives up an idle connection a tenth sooner than it may wait, like the pool
// does: the other side is often a proxy of ours with the same setting.
func serviceHTTP2(c *config.Service, l http1.Limits) *http2.Options {
	o := http2Options(c.HTTP2, l)
	o.Authority = c.Name
	idle := c.Timeouts.Idle.D()
	o.HeadTimeout, o.IdleTimeout, o.StallTimeout = c.Timeouts.ResponseHead.D(), idle-idle/10, c.Timeouts.Body.D()
	return o
}

// alpn is what a listener offers in its TLS handshake.
func alpn(c *config.Listener) []string {
	switch {
	case c.Protocol == config.TCP:
		return nil
	case c.HTTP2.Enabled && c.TLS.SPIFFE != nil:
		return []string{upstream.OwnProtocol, "h2", "http/1.1"}
	case c.HTTP2.Enabled:
		return []string{"h2", "http/1.1"}
	}
	return []string{"http/1.1"}
}

var versions = map[config.HTTPVersion]upstream.Version{
	config.HTTPAuto: upstream.AutoVersion, config.HTTP1: upstream.OnlyHTTP1, config.HTTP2: upstream.OnlyHTTP2,
}
