package sidecar

import (
	"fmt"
	"log/slog"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/discovery/consul"
	"github.com/larboard-proxy/larboard/discovery/static"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

// sources makes the discovery source of a service.
type sources struct {
	consul  *consul.Client
	replace func(*config.ConsulDiscovery) discovery.Source
}

func (s *sources) init(c *config.Config, o Options, log *slog.Logger) error {
	s.replace = o.Source
	if s.replace != nil {
		return nil
	}
	options := consul.Options{
		Address: c.Consul.Address, Token: c.Consul.Token.Reveal(), TokenFile: c.Consul.TokenFile,
		Datacenter: c.Consul.Datacenter, Namespace: c.Consul.Namespace, Log: log,
	}
	if t := c.Consul.TLS; t != nil {
		options.TLS = consul.TLS{CA: t.CA, Cert: t.Cert, Key: t.Key, ServerName: t.ServerName}
	}
	var err error
	s.consul, err = consul.New(options)
	return err
}

// specs says where each service's endpoints come from.
func (s *sources) specs(c *config.Config) (map[string]discovery.Spec, error) {
	specs := make(map[string]discovery.Spec, len(c.Services))
	for i := range c.Services {
		spec, err := s.spec(&c.Services[i])
		if err != nil {
			return nil, fmt.Errorf("service %q: %w", c.Services[i].Name, err)
		}
		specs[c.Services[i].Name] = spec
	}
	return specs, nil
}

func (s *sources) spec(c *config.Service) (discovery.Spec, error) {
	if c.Discovery == nil || c.Discovery.Consul == nil {
		return staticSpec(c)
	}
	d := c.Discovery.Consul
	if s.replace != nil {
		return discovery.Spec{Key: "replaced:" + d.Service, From: "registry",
			New: func() discovery.Source { return s.replace(d) }}, nil
	}
	want := consul.Health{
		Service: d.Service, Connect: d.Connect, Tags: d.Tags, Datacenter: d.Datacenter,
		Namespace: d.Namespace, Filter: d.Filter, Warning: !d.PassingOnly,
	}
	var err error
	want.OnEmpty, err = consul.ParseOnEmpty(string(d.OnEmpty))
	return s.consul.Spec(want), err
}

func staticSpec(c *config.Service) (discovery.Spec, error) {
	endpoints := make([]discovery.Endpoint, len(c.Endpoints))
	for i, e := range c.Endpoints {
		endpoints[i] = discovery.Endpoint{ID: e.ID, Address: e.Address, Weight: e.Weight, Source: "static"}
		if e.SPIFFEID == "" {
			continue
		}
		id, err := spiffeid.FromString(e.SPIFFEID)
		if err != nil {
			return discovery.Spec{}, err
		}
		endpoints[i].Identity = id
	}
	source, err := static.New(endpoints)
	return discovery.Spec{
		Key: fmt.Sprintf("static:%+v", endpoints), From: "static",
		New: func() discovery.Source { return source },
	}, err
}
