package metrics

import (
	"slices"
	"strings"
	"time"
)

// Totals is what was counted of one service since the start, or between two
// moments (see Since).
type Totals struct {
	Service  string
	Requests uint64
	Failures uint64 // see Failed
	BytesIn  uint64
	BytesOut uint64
	P50, P99 time.Duration // estimates, within about a tenth

	buckets [fineBuckets]uint64
}

// Totals sums what was counted of service, inbound and outbound together; all zero
// where nothing was.
func (m *Metrics) Totals(service string) Totals {
	t := Totals{Service: service}
	for _, s := range m.shards {
		for _, c := range s.services.all() {
			if c.key.service == service {
				t.add(&c.value)
			}
		}
	}
	t.estimate()
	return t
}

// AllTotals returns the totals of all services, sorted by name.
func (m *Metrics) AllTotals() []Totals {
	var names []string
	for _, s := range m.shards {
		for _, c := range s.services.all() {
			names = append(names, c.key.service)
		}
	}
	slices.Sort(names)
	var all []Totals
	for _, name := range slices.Compact(names) {
		all = append(all, m.Totals(name))
	}
	return all
}

// EndpointTotals is what was counted of one endpoint.
type EndpointTotals struct {
	Endpoint           string
	Requests, Failures uint64
}

// EndpointTotals returns the totals of service's endpoints, sorted by address.
func (m *Metrics) EndpointTotals(service string) []EndpointTotals {
	sums := make(map[string]EndpointTotals)
	for _, s := range m.shards {
		for _, c := range s.endpoints.all() {
			if c.key.service != service {
				continue
			}
			t := sums[c.key.endpoint]
			failed := c.value.failed.value()
			t.Failures += failed
			t.Requests += failed + c.value.ok.value()
			sums[c.key.endpoint] = t
		}
	}
	all := make([]EndpointTotals, 0, len(sums))
	for endpoint, t := range sums {
		t.Endpoint = endpoint
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b EndpointTotals) int { return strings.Compare(a.Endpoint, b.Endpoint) })
	return all
}

// Since returns what was counted after earlier, taken of the same service.
func (t Totals) Since(earlier Totals) Totals {
	t.Requests -= earlier.Requests
	t.Failures -= earlier.Failures
	t.BytesIn -= earlier.BytesIn
	t.BytesOut -= earlier.BytesOut
	for i := range t.buckets {
		t.buckets[i] -= earlier.buckets[i]
	}
	t.estimate()
	return t
}

// Quantile estimates the duration that the fraction q (0 to 1) of the exchanges
// did not exceed.
func (t Totals) Quantile(q float64) time.Duration { return quantile(&t.buckets, q) }

func (t *Totals) add(c *serviceCounts) {
	for i := range c.buckets {
		n := c.buckets[i].value()
		t.buckets[i] += n
		t.Requests += n
	}
	t.Failures += c.failed.value()
	t.BytesIn += c.bytesIn.value()
	t.BytesOut += c.bytesOut.value()
}

func (t *Totals) estimate() { t.P50, t.P99 = t.Quantile(0.50), t.Quantile(0.99) }
