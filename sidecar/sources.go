package sidecar

import (
	"fmt"
	"log/slog"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/discovery/consul"
	"github.com/larboard-proxy/larboard/discovery/dns"
	"github.com/larboard-proxy/larboard/discovery/file"
	"github.com/larboard-proxy/larboard/discovery/static"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

// sources makes the discovery sources of services.
type sources struct {
	consul  *consul.Client
	replace func(*config.ConsulDiscovery) discovery.Source
	log     *slog.Logger
}

func (s *sources) init(c *config.Config, o Options, log *slog.Logger) error {
	s.replace, s.log = o.Source, log
	if s.replace != nil {
		return nil
	}
	var err error
	s.consul, err = NewConsul(&c.Consul, log)
	return err
}

// NewConsul returns a client for the agent that c describes. It opens no connection.
func NewConsul(c *config.Consul, log *slog.Logger) (*consul.Client, error) {
	options := consul.Options{
		Address: c.Address, Token: c.Token.Reveal(), TokenFile: c.TokenFile,
		Datacenter: c.Datacenter, Namespace: c.Namespace, Partition: c.Partition,
		Wait: c.Wait.D(), Log: log,
	}
	if t := c.TLS; t != nil {
		options.TLS = consul.TLS{CA: t.CA, Cert: t.Cert, Key: t.Key, ServerName: t.ServerName}
	}
	return consul.New(options)
}

// specs says where each service's endpoints come from, the endpoints of the
// configuration itself first.
func (s *sources) specs(c *config.Config) (map[string][]discovery.Spec, error) {
	specs := make(map[string][]discovery.Spec, len(c.Services))
	for i := range c.Services {
		list, err := s.ofService(&c.Services[i])
		if err != nil {
			return nil, fmt.Errorf("service %q: %w", c.Services[i].Name, err)
		}
		specs[c.Services[i].Name] = list
	}
	return specs, nil
}

func (s *sources) ofService(c *config.Service) (list []discovery.Spec, err error) {
	if len(c.Endpoints) > 0 || len(c.Discovery) == 0 {
		spec, err := staticSpec(c)
		if err != nil {
			return nil, err
		}
		list = append(list, spec)
	}
	for i := range c.Discovery {
		spec, err := s.spec(&c.Discovery[i])
		if err != nil {
			return nil, err
		}
		list = append(list, spec)
	}
	return list, nil
}

func (s *sources) spec(d *config.DiscoverySource) (discovery.Spec, error) {
	switch {
	case d.Consul != nil:
		return s.consulSpec(d.Consul)
	case d.DNS != nil:
		return dnsSpec(d.DNS, s.log)
	default:
		return file.Spec(file.Options{Path: d.File.Path, Log: s.log}), nil
	}
}

func (s *sources) consulSpec(d *config.ConsulDiscovery) (discovery.Spec, error) {
	if s.replace != nil {
		return discovery.Spec{Key: "replaced:" + d.Service, From: "registry",
			New: func() discovery.Source { return s.replace(d) }}, nil
	}
	want := consul.Health{
		Service: d.Service, Connect: d.Connect, Tags: d.Tags, Datacenter: d.Datacenter,
		Namespace: d.Namespace, Partition: d.Partition, Filter: d.Filter, Warning: !d.PassingOnly,
	}
	var err error
	want.OnEmpty, err = consul.ParseOnEmpty(string(d.OnEmpty))
	return s.consul.Spec(want), err
}

func dnsSpec(d *config.DNSDiscovery, log *slog.Logger) (discovery.Spec, error) {
	o := dns.Options{
		Name: d.Name, Type: d.Type, Port: d.Port, Resolvers: d.Resolvers,
		MinTTL: d.MinTTL.D(), MaxTTL: d.MaxTTL.D(), OnEmpty: string(d.OnEmpty), Log: log,
	}
	return dns.Spec(o)
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
