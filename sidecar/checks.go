package sidecar

import (
	"crypto/tls"

	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/health"
	"github.com/larboard-proxy/larboard/sidecar/proxyproto"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// checkAll brings the active checks in line with the endpoints and the
// configuration in force.
func (s *Sidecar) checkAll() {
	s.mu.Lock()
	defer s.mu.Unlock() // so that two calls do not apply in the wrong order
	var targets []health.Target
	for i := range s.config.Services {
		c := &s.config.Services[i]
		svc := s.services[c.Name]
		if svc == nil {
			continue
		}
		for _, m := range svc.Set().Members {
			if c.Health == nil {
				m.SetDown(false)
				continue
			}
			targets = append(targets, health.Target{
				Key: checkKey(c.Name, m.ID, m.Address), Service: c.Name, Address: m.Address,
				Spec: checkSpec(c.Health, svc.Settings().SendProxy), TLS: checkTLS(svc, m),
			})
		}
	}
	s.checker.Apply(targets)
}

// checkKey names an endpoint of a service for the checker.
func checkKey(service, id, address string) string { return service + "\x00" + id + "\x00" + address }

func checkSpec(h *config.Health, proxied proxyproto.Version) health.Spec {
	spec := health.Spec{
		Kind: health.TCP, Interval: h.Interval.D(), Timeout: h.Timeout.D(), Rise: h.Rise, Fall: h.Fall, Jitter: h.Jitter,
	}
	if proxied != 0 {
		spec.First = string(proxyproto.AppendLocal(nil, proxied))
	}
	if h.GRPC != nil {
		spec.Kind, spec.Service = health.GRPC, h.GRPC.Service
	}
	if h.HTTP != nil {
		spec.Kind, spec.Method, spec.Path, spec.Host = health.HTTP, h.HTTP.Method, h.HTTP.Path, h.HTTP.Host
		for _, r := range h.HTTP.ExpectStatus {
			spec.Expect = append(spec.Expect, health.StatusRange{Low: r.From, High: r.To})
		}
	}
	return spec
}

// checkTLS lets checks of mesh endpoints prove both sides as requests do.
func checkTLS(svc *upstream.Service, m upstream.Member) func() *tls.Config {
	if svc.Settings().Mesh == nil {
		return nil
	}
	return func() *tls.Config { return svc.ClientTLS(&m) }
}

// onHealth is told of each change of an endpoint's state.
func (s *Sidecar) onHealth(c health.Change) {
	svc := s.serviceMap()[c.Service]
	if svc == nil {
		return
	}
	for _, m := range svc.Set().Members {
		if checkKey(c.Service, m.ID, m.Address) == c.Key {
			m.SetDown(!c.Up)
		}
	}
}
