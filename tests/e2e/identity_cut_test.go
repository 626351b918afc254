package e2e

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// cutWithin is the time in which a denial reaches connections that live.
const cutWithin = time.Second

// meshTunnel is a mutual TLS client with a TCP tunnel.
type meshTunnel struct {
	t    testing.TB
	name string
	conn *tls.Conn
	end  chan error
}

func openMeshTunnel(t testing.TB, name, address string, own tls.Certificate) *meshTunnel {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", address, meshClient(own))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	t.Cleanup(func() { conn.Close() })
	m := &meshTunnel{t: t, name: name, conn: conn, end: make(chan error, 1)}
	m.mustEcho()
	return m
}

func (m *meshTunnel) mustEcho() {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		m.t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := io.WriteString(m.conn, "hello"); err != nil {
		m.t.Fatalf("%s: %v", m.name, err)
	}
	if _, err := io.ReadFull(m.conn, b); err != nil || string(b) != "hello" {
		m.t.Fatalf("%s: %q %v", m.name, b, err)
	}
}

// mustEnd waits for the end, which is to come within cutWithin of since.
func (m *meshTunnel) mustEnd(since time.Time) {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		m.t.Fatal(err)
	}
	_, err := m.conn.Read(make([]byte, 1))
	var timeout net.Error
	if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		m.t.Fatalf("the tunnel of %s lives on: %v", m.name, err)
	}
	took := time.Since(since)
	m.t.Logf("%s cut after %v", m.name, took)
	if took > claimed(cutWithin) {
		m.t.Errorf("the tunnel of %s was cut after %v", m.name, took)
	}
}

// TestDeniedTunnelsAreCut: who leaves the allow list, and whose authority leaves the
// bundle, loses the tunnel within a second; the others keep theirs.
func TestDeniedTunnelsAreCut(t *testing.T) {
	old, mesh := newAuthority(t, meshDomain), newAuthority(t, meshDomain)
	files := newSVIDFiles(t, mesh.svid("api"), old, mesh)
	endpoint := echo(t)
	configuration := func(allow ...string) string {
		return files.identity() + app(fmt.Sprintf("{name: in, address: 127.0.0.1:0, protocol: tcp, service: app, tls: {spiffe: {}}, allow: [%s]}",
			strings.Join(allow, ", ")), endpoint)
	}
	web, billing := svcID(meshDomain, "web"), svcID(meshDomain, "billing")
	p := start(t, "api", configuration(web, billing))
	address := p.address("in")
	stays := openMeshTunnel(t, "web", address, mesh.svid("web"))
	leaves := openMeshTunnel(t, "billing", address, mesh.svid("billing"))
	outdated := openMeshTunnel(t, "web by the old authority", address, old.svid("web"))

	p.configure(configuration(web))
	began := time.Now()
	if status, body := p.reload(); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	leaves.mustEnd(began)
	outdated.mustEcho()

	files.trust(mesh)
	p.waitLog("trust bundles changed")
	outdated.mustEnd(time.Now())
	stays.mustEcho()

	for reason, id := range map[string]string{"not_allowed": billing, "tls_bad_certificate": web} {
		eventually(t, patience, "the cut in metrics and log", func() error {
			scraped := p.scrape()
			if n := scraped.sum("larboard_connections_cut_total", `listener="in"`, `reason="`+reason+`"`); n != 1 {
				return fmt.Errorf("%v cut", n)
			}
			if n := scraped.sum("larboard_requests_total", `reason="`+reason+`"`); n != 1 {
				return fmt.Errorf("%v recorded", n)
			}
			return p.logged("connection cut", "listener=in", "reason="+reason, id)
		})
	}
	if v := p.limits(); v.Connections != 1 {
		t.Errorf("%+v", v)
	}
}

// TestUnexpectedEndpointsAreCut: a reload that expects somebody else at an endpoint
// cuts the tunnels that lead there.
func TestUnexpectedEndpointsAreCut(t *testing.T) {
	mesh := newAuthority(t, meshDomain)
	called := start(t, "api", newSVIDFiles(t, mesh.svid("api"), mesh).identity()+
		app("{name: in, address: 127.0.0.1:0, protocol: tcp, service: app, tls: {spiffe: {}}}", echo(t)))
	files := newSVIDFiles(t, mesh.svid("web"), mesh)
	configuration := func(expected string) string {
		return files.identity() + fmt.Sprintf("listeners: [{name: out, direction: outbound, address: 127.0.0.1:0, protocol: tcp, service: api}]\n"+
			"services: [{name: api, endpoints: [%q], tls: {spiffe: {ids: [%q]}}}]\n", called.address("in"), expected)
	}
	caller := start(t, "web", configuration(svcID(meshDomain, "api")))
	conn, err := net.DialTimeout("tcp", caller.address("out"), patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := in.ReadString('\n'); err != nil {
		t.Fatalf("%q %v", line, err)
	}
	caller.configure(configuration(svcID(meshDomain, "other")))
	began := time.Now()
	if status, body := caller.reload(); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	var timeout net.Error
	if _, err := in.ReadByte(); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("the tunnel lives on: %v", err)
	}
	if took := time.Since(began); took > claimed(cutWithin) {
		t.Errorf("cut after %v", took)
	}
	eventually(t, patience, "the record", func() error {
		if n := caller.scrape().sum("larboard_requests_total", `reason="upstream_tls_identity"`); n != 1 {
			return fmt.Errorf("%v recorded", n)
		}
		return caller.logged("endpoint refused", "reason=upstream_tls_identity", svcID(meshDomain, "api"))
	})
}
