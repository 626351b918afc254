package consul

import (
	"context"
	"fmt"
	"net"
)

// ownAddress is the IP address from which this host reaches the agent: where the agent runs
// elsewhere, that is what others reach this host by, and the address of the agent's node would be
// wrong. It is empty for an agent on loopback or behind a socket, whose node this host is. A
// name is looked up, so it blocks until ctx ends at the latest; nothing is sent to the agent.
func (t target) ownAddress(ctx context.Context) (string, error) {
	if t.socket != "" {
		return "", nil
	}
	// Connecting a UDP socket chooses a route and a source, and sends no packet.
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", t.host)
	if err != nil {
		return "", fmt.Errorf("own address towards the agent: %w", err)
	}
	defer conn.Close()
	own, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok || own.IP.IsLoopback() || own.IP.IsUnspecified() {
		return "", nil
	}
	return own.AddrPort().Addr().Unmap().WithZone("").String(), nil
}
