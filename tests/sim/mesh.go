package sim

import (
	"fmt"
	"math/rand/v2"
	"sort"
	"sync"
	"time"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/sidecar/compile"
	"github.com/larboard-proxy/larboard/sidecar/config"
	network "github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/identity"
)

// Tools are what schedules have in common and need not make anew. They may be used by
// several schedules at once.
type Tools struct {
	text      text
	authority *authority

	mu      sync.Mutex
	configs map[string]*config.Config // expanded, by their text
}

// NewTools returns fresh ones.
func NewTools() *Tools {
	return &Tools{text: newText(), authority: newAuthority(), configs: map[string]*config.Config{}}
}

// config is the configuration of a text.
func (t *Tools) config(text string) (*config.Config, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.configs[text]; c != nil {
		return c, nil
	}
	c, problems := config.Load("larboard.yaml", []byte(text))
	if len(problems) > 0 {
		return nil, fmt.Errorf("%v in\n%s", problems, text)
	}
	t.configs[text] = config.Expand(c)
	return t.configs[text], nil
}

// node is one instance: a host with a workload and its sidecar. Those of a have no
// workload that serves; a's clients dial its sidecar.
type node struct {
	mesh    *mesh
	name    string // b1
	service string
	ip      string
	host    *network.Host
	side    *sidecar  // nil: not running
	work    *workload // nil: not running
	variant int       // of the configuration
	cert    int       // generation
	busy    bool      // an event is under way with it
}

// mesh is one run of a schedule. One goroutine does everything.
type mesh struct {
	tools  *Tools
	plan   plan
	plant  Plant
	world  *network.World
	random *rand.Rand // of what is decided while it runs
	nodes  []*node    // a first
	calls  []*call
	faults []*fault
	due    []appointment

	tripped []time.Time          // when breakers refused connections to stream
	members map[string][]string  // registered, by service: node names
	gone    map[string]time.Time // when an address left its service
	signer  int
	bundle  [2]bool

	result *Result
	traced bool
}

// appointment is something that the schedule does between two runs of the World.
type appointment struct {
	at time.Time
	f  func()
}

// at makes the schedule do f when d has passed. What is due at one time happens in the
// order in which it was asked for.
func (m *mesh) at(d time.Duration, f func()) {
	t := m.world.Now().Add(max(d, 0))
	i := sort.Search(len(m.due), func(i int) bool { return m.due[i].at.After(t) })
	m.due = append(m.due, appointment{})
	copy(m.due[i+1:], m.due[i:])
	m.due[i] = appointment{t, f}
}

// until lets the time pass up to t, with all that is due.
func (m *mesh) until(t time.Time) {
	for len(m.due) > 0 && !m.due[0].at.After(t) {
		next := m.due[0]
		m.due = m.due[1:]
		m.world.RunFor(next.at.Sub(m.world.Now()))
		next.f()
	}
	m.world.RunFor(t.Sub(m.world.Now()))
}

// build starts everything, from the far end.
func (m *mesh) build() error {
	m.members, m.gone = map[string][]string{}, map[string]time.Time{}
	m.bundle[0] = true
	m.addNode("a", "a", "10.0.0.1")
	for i := range m.plan.instances[0] {
		m.addNode(fmt.Sprint("b", i+1), serviceB, fmt.Sprint("10.0.1.", i+1))
	}
	for i := range m.plan.instances[1] {
		m.addNode(fmt.Sprint("c", i+1), serviceC, fmt.Sprint("10.0.2.", i+1))
	}
	for _, n := range m.nodes[1:] {
		m.members[n.service] = append(m.members[n.service], n.name)
		n.startWorkload()
	}
	for _, n := range m.nodes {
		if _, err := m.startSidecar(n); err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
	}
	return nil
}

func (m *mesh) addNode(name, service, ip string) {
	n := &node{mesh: m, name: name, service: service, ip: ip, host: m.world.Host(ip), variant: m.random.IntN(6)}
	n.redirect()
	m.nodes = append(m.nodes, n)
}

func (m *mesh) node(name string) *node {
	for _, n := range m.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// instances of the service whose endpoints a name stands for.
func instancesOf(name string) (service string, port int) {
	if name == stream {
		return serviceC, streamPort
	}
	return name, meshPort
}

// registered is what discovery says of a service.
func (m *mesh) registered(name string) (all []discovery.Endpoint) {
	service, port := instancesOf(name)
	for _, member := range m.members[service] {
		all = append(all, discovery.Endpoint{
			ID: member, Address: fmt.Sprintf("%s:%d", m.node(member).ip, port), Weight: 1,
			Source: "registry", IdentityPath: compile.ServicePath("", service),
		})
	}
	return all
}

// material is what n is to prove itself with.
func (m *mesh) material(n *node) identity.Material {
	life := 100 * time.Hour
	if m.plan.shortLived {
		life = time.Duration(n.cert)*certificatePeriod + certificatePeriod*3/2
	}
	return m.tools.authority.issue(svid{n.service, n.cert, life, m.signer, m.bundle})
}

// certificatePeriod is how often short-lived certificates are renewed; they live half as
// long again.
const certificatePeriod = 20 * time.Second

// log writes a line of the timeline.
func (m *mesh) log(format string, args ...any) {
	if m.traced {
		m.result.Timeline = fmt.Appendf(m.result.Timeline, "%12.6f  ", m.world.Now().Sub(epoch).Seconds())
		m.result.Timeline = fmt.Appendf(m.result.Timeline, format+"\n", args...)
	}
}

// violate notes that something does not hold which must.
func (m *mesh) violate(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	m.log("VIOLATED: %s", text)
	if len(m.result.Violations) < 20 {
		m.result.Violations = append(m.result.Violations, fmt.Sprintf("%.6fs: %s", m.world.Now().Sub(epoch).Seconds(), text))
	}
}

func (m *mesh) count(what, kind string) { m.result.Counts[Counter{what, kind}]++ }
