package compile

import (
	"fmt"
	"time"

	"github.com/larboard-proxy/larboard/policy/retry"
	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/proxy"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// captureListeners adds the listeners for redirected connections, the service that what they carry
// on is counted for, and the listeners for plain text beside those of the mesh.
func (out *Output) captureListeners(in Input) error {
	c := &in.Config.Capture
	if c.Outbound == nil && c.Inbound == nil {
		return nil
	}
	out.passthrough(in)
	if o := c.Outbound; o != nil {
		out.captureListener(in, config.CapturedOutbound, config.Outbound, o.Address, &proxy.Capture{Pass: o.Unknown == config.PassUnknown})
	}
	if i := c.Inbound; i != nil {
		plain := i.Plain == config.PassUnknown
		out.captureListener(in, config.CapturedInbound, config.Inbound, i.Address, &proxy.Capture{Pass: i.Unknown == config.PassUnknown, Plain: plain})
		if plain {
			return out.plainListeners(in)
		}
	}
	return nil
}

func (out *Output) captureListener(in Input, name string, d config.Direction, at config.Addresses, capture *proxy.Capture) {
	out.Snapshot.Listeners = append(out.Snapshot.Listeners, &proxy.ListenerConfig{
		Name: name, Addresses: at, Inbound: d == config.Inbound, Protocol: proxy.TCP,
		Capture: capture, Service: out.Services[config.Passthrough],
		Timeouts: proxy.Timeouts{RequestHead: in.Config.Timeouts.RequestHead.D(), KeepAlive: in.Config.Timeouts.Idle.D(), Body: in.Config.Timeouts.Body.D()},
	})
}

// passConnect is the least time for connecting to where a connection that passes was going. Its client
// chose the address, without knowing of a proxy: it would have outlasted a lost packet or two.
const passConnect = 10 * time.Second

// passthrough is a service without endpoints. What failed to connect is not tried again: the
// client has chosen the address, and is told.
func (out *Output) passthrough(in Input) {
	t := in.Config.Timeouts
	settings := &upstream.Settings{
		Balance:  string(config.RoundRobin),
		Timeouts: upstream.Timeouts{Connect: max(t.Connect.D(), passConnect), Body: t.Body.D(), Idle: t.Idle.D(), Tunnel: t.Tunnel.D()},
		Retries:  &retry.Policy{},
	}
	s := in.Services[config.Passthrough]
	if s == nil {
		s = upstream.NewService(config.Passthrough, settings)
	}
	out.settings[s.Name], out.Services[s.Name] = settings, s
	out.Snapshot.Services = append(out.Snapshot.Services, s)
}

// plainListeners adds one beside each listener of the mesh that captures: the same without TLS, and
// so without anybody who could be asked who they are.
func (out *Output) plainListeners(in Input) error {
	for i := range in.Config.Listeners {
		c := in.Config.Listeners[i]
		if c.Direction != config.Inbound || len(c.Captures) == 0 || c.TLS == nil {
			continue
		}
		c.Name += config.PlainSuffix
		c.Address, c.Captures, c.TLS, c.Allow, c.Intentions, c.Register, c.ProxyProtocol = nil, nil, nil, nil, nil, nil, nil
		l, err := out.compileListener(in, &c)
		if err != nil {
			return fmt.Errorf("listener %q: %w", c.Name, err)
		}
		out.Snapshot.Listeners = append(out.Snapshot.Listeners, l)
	}
	return nil
}
