package sidecar

import (
	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/probes"
)

// openProbes binds the listener for probes; its error is that of the address.
func (s *Sidecar) openProbes(c *config.Config) (err error) {
	if c.Probes == nil {
		return nil
	}
	o := probes.Options{Address: c.Probes.Address, Ready: s.readyView, Logger: s.log}
	for _, p := range c.Probes.Checks {
		o.Checks = append(o.Checks, probeOf(p))
	}
	s.probes, err = probes.New(o)
	return err
}

func probeOf(p config.Probe) probes.Check {
	c := probes.Check{Path: p.Path, Timeout: p.Timeout.D()}
	switch {
	case p.HTTP != nil:
		c.HTTP = &probes.HTTP{Port: *p.HTTP.Port, Path: p.HTTP.Path, Secure: p.HTTP.Scheme == config.SchemeHTTPS,
			Host: p.HTTP.Host, Headers: p.HTTP.Headers}
	case p.TCP != nil:
		c.TCP = &probes.TCP{Port: *p.TCP.Port}
	default:
		c.GRPC = &probes.GRPC{Port: *p.GRPC.Port, Service: p.GRPC.Service}
	}
	return c
}

// ProbesAddr is the bound address of the listener for probes; empty: none.
func (s *Sidecar) ProbesAddr() string {
	if s.probes == nil {
		return ""
	}
	return s.probes.Addr().String()
}
