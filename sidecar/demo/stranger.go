package demo

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/identity"
)

// knock calls an instance's mesh listener as somebody who is no sidecar of the
// mesh: cfg nil speaks plain text. It returns the status, or the error that the
// refusal shows as.
func knock(ctx context.Context, addr string, cfg *tls.Config) (status int, reason string, err error) {
	d := net.Dialer{Timeout: 3 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(3 * time.Second))
	if cfg != nil {
		conn = tls.Client(conn, cfg)
	}
	if _, err := io.WriteString(conn, "GET /items HTTP/1.1\r\nHost: stranger\r\nConnection: close\r\n\r\n"); err != nil {
		return 0, "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("X-Larboard-Reason"), nil
}

// credentials is the client configuration of a workload id of authority a, which
// verifies the servers of every trust domain that a knows.
func credentials(a *identity.Authority, path string) (*tls.Config, error) {
	id, err := spiffeid.FromPath(a.TrustDomain(), path)
	if err != nil {
		return nil, err
	}
	material, err := a.Issue(id)
	if err != nil {
		return nil, err
	}
	current := identity.NewCurrent(slog.New(slog.DiscardHandler))
	current.Set(material)
	snap := current.Snapshot()
	if snap == nil {
		return nil, errors.New("the material was not accepted")
	}
	return snap.ClientConfig(identity.AnyTrusted()).Clone(), nil
}

// foreigner is a workload of another trust domain that knows ours, while we do not
// know its.
func (m *mesh) foreigner() (*tls.Config, error) {
	other, err := identity.NewAuthority(identity.AuthorityOptions{TrustDomain: spiffeid.RequireTrustDomainFromString("elsewhere.test")})
	if err != nil {
		return nil, err
	}
	ours, err := m.authority.Bundle()
	if err != nil {
		return nil, err
	}
	if err := other.Federate(m.authority.TrustDomain(), ours); err != nil {
		return nil, err
	}
	return credentials(other, "/svc/stranger")
}

// refused knocks and checks that the knock was refused and counted under reason.
func (m *mesh) refused(ctx context.Context, n *node, cfg *tls.Config, reason policy.Reason) error {
	before := n.sidecar.Metrics().Refusals()[reason]
	status, _, err := knock(ctx, n.listener("inbound"), cfg)
	if err == nil {
		return fmt.Errorf("a stranger was answered with status %d", status)
	}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if n.sidecar.Metrics().Refusals()[reason] > before {
			return nil
		}
	}
	return fmt.Errorf("refused (%v), but not counted as %s: %v", err, reason, n.sidecar.Metrics().Refusals())
}
