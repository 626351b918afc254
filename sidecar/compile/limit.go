package compile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/larboard-proxy/larboard/policy/limit"
	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/proxy"
)

// ratelimits are those of one listener, route or service.
type ratelimits struct {
	own    []proxy.RateLimit
	shared []proxy.Shared
}

func (l ratelimits) and(other ratelimits) ratelimits {
	return ratelimits{slices.Concat(l.own, other.own), slices.Concat(l.shared, other.shared)}
}

// rateLimits are the limits at a place. A place that has them again, unchanged, has the same ones,
// with all that was counted.
func (out *Output) rateLimits(in Input, place string, all []config.RateLimit) (l ratelimits, err error) {
	for _, c := range all {
		if c.Shared == nil {
			l.own = append(l.own, out.rateLimit(in, place+" "+c.Name, c))
			continue
		}
		if in.Quota == nil {
			return l, fmt.Errorf("limit %q: there is no rate limit service", c.Name)
		}
		l.shared = append(l.shared, proxy.Shared{Name: c.Name, Quota: in.Quota, Domain: c.Shared.Domain,
			Hits: uint32(c.Shared.Hits), Ask: descriptors(c.Shared.Descriptors)})
	}
	return l, nil
}

func (out *Output) rateLimit(in Input, place string, c config.RateLimit) proxy.RateLimit {
	first := place
	for n := 2; slices.ContainsFunc(out.Limits, func(p limit.Placed) bool { return p.Place == place }); n++ {
		place = fmt.Sprintf("%s (%d)", first, n) // two routes with the same match
	}
	made := in.Limits.Get(place, c.Name, limit.Definition{Rate: c.Rate.PerSecond(), Burst: c.Burst, Keys: c.Keys})
	out.Limits = append(out.Limits, limit.Placed{Place: place, Limit: made})
	r := proxy.RateLimit{Limit: made}
	switch {
	case c.By.Source != nil:
		r.By, r.V4, r.V6 = proxy.BySource, c.By.Source.V4, c.By.Source.V6
	case c.By.Identity != nil:
		r.By = proxy.ByIdentity
	case c.By.Header != "":
		r.By, r.Field = proxy.ByHeader, strings.ToLower(c.By.Header)
	case c.By.Query != "":
		r.By, r.Field = proxy.ByQuery, c.By.Query
	}
	return r
}

// connectionRate is nil where there is none.
func (out *Output) connectionRate(in Input, c *config.Listener) *proxy.RateLimit {
	r := c.ConnectionRate
	if r == nil {
		return nil
	}
	made := out.rateLimit(in, "connections of "+c.Name, config.RateLimit{Name: c.Name + ".connections", Rate: r.Rate, Burst: r.Burst, By: r.By, Keys: r.Keys})
	return &made
}

var entrySources = map[string]proxy.EntryFrom{
	"path": proxy.FromPath, "method": proxy.FromMethod, "authority": proxy.FromAuthority, "source": proxy.FromSource,
	"identity": proxy.FromIdentity, "listener": proxy.FromListener, "route": proxy.FromRoute, "service": proxy.FromService,
}

func descriptors(all []config.Descriptor) (made []proxy.SharedDescriptor) {
	for _, d := range all {
		var entries proxy.SharedDescriptor
		for _, e := range d {
			one := proxy.SharedEntry{Key: e.Key, Value: e.Value, From: entrySources[e.From]}
			switch {
			case e.Header != "":
				one.From, one.Field = proxy.FromHeader, strings.ToLower(e.Header)
			case e.Query != "":
				one.From, one.Field = proxy.FromQuery, e.Query
			}
			entries = append(entries, one)
		}
		made = append(made, entries)
	}
	return made
}

func limitFields(c config.RateLimitFields) proxy.LimitFields {
	return proxy.LimitFields{
		When: map[string]proxy.LimitFieldsWhen{config.LimitFieldsAlways: proxy.LimitFieldsAlways, config.LimitFieldsNever: proxy.LimitFieldsNever}[c.Answers],
		Form: map[string]proxy.LimitFieldsForm{config.TrioForm: proxy.TrioForm, config.XRateLimitForm: proxy.XRateLimitForm}[c.Form],
	}
}
