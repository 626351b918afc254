package real

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
)

// Cluster is several Consul servers of one datacenter.
type Cluster struct {
	t      testing.TB
	agents []*ConsulAgent
}

// ConsulCluster starts n servers, an odd number, and returns when they have a leader.
// Killing one less than half of them leaves a majority.
func ConsulCluster(t testing.TB, n int) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	ports := freePorts(t, 4*n)
	var gossip []string
	for i := range n {
		gossip = append(gossip, fmt.Sprintf("127.0.0.1:%d", ports[4*i+2]))
	}
	for i := range n {
		a := &ConsulAgent{t: t, name: fmt.Sprintf("real-%d", i), servers: gossip, ports: ports[4*i : 4*i+4],
			binary: Tool(t, "consul"), dir: shortTempDir(t)}
		t.Cleanup(a.finish)
		a.configure()
		c.agents = append(c.agents, a)
	}
	errs := make([]error, n)
	var starting sync.WaitGroup
	for i, a := range c.agents {
		starting.Go(func() { errs[i] = a.start() })
	}
	starting.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("consul: %v\n%s", err, c.agents[i].log())
		}
	}
	return c
}

// LeaderAddress is what a server takes for the leader; empty: none.
func (c *ConsulAgent) LeaderAddress() string {
	var leader string
	if err := c.Call(http.MethodGet, "/v1/status/leader", nil, &leader); err != nil {
		return ""
	}
	return leader
}

// Leader is the server that leads now.
func (c *Cluster) Leader() *ConsulAgent { return c.pick(true) }

// Follower is one that does not.
func (c *Cluster) Follower() *ConsulAgent { return c.pick(false) }

func (c *Cluster) pick(leading bool) *ConsulAgent {
	c.t.Helper()
	leader := c.agents[0].LeaderAddress()
	for _, a := range c.agents {
		if (a.server == leader) == leading {
			return a
		}
	}
	c.t.Fatalf("no such server: the leader is %q", leader)
	return nil
}

// Server is the address by which other servers know c, as LeaderAddress gives it.
func (c *ConsulAgent) Server() string { return c.server }
