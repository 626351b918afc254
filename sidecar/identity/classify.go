package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/larboard-proxy/larboard/policy"
)

// Classify turns what tls.Conn.Handshake returned into a reason; server says that
// the connection was accepted by us. A *policy.Error in the chain (our own
// verification) is returned as it is, except that one of PeerID about an endpoint
// becomes the endpoint's; nil stays nil.
//
// With TLS 1.3 a client's handshake ends before the server has looked at the
// client's certificate, so its refusal arrives with the first read: a caller that
// gets an error from the first read of a fresh connection asks IsAlert and then
// Classify.
func Classify(err error, server bool) *policy.Error {
	if err == nil {
		return nil
	}
	var known *policy.Error
	if errors.As(err, &known) {
		if !server && known.Side == policy.Downstream { // PeerID does not know our side
			return (&refusal{known.Reason, known.Err}).asClient()
		}
		return known
	}
	if server {
		return &policy.Error{Reason: serverReason(err), Side: policy.Downstream, Phase: policy.PhaseAccept, Err: explain(err, true)}
	}
	return &policy.Error{
		Reason: clientReason(err), Side: policy.Upstream, Phase: policy.PhaseConnect,
		Retryable: true, Err: explain(err, false),
	}
}

func serverReason(err error) policy.Reason {
	switch {
	case isPlainText(err):
		return policy.TLSPlainText
	case isGone(err):
		return policy.ClientAborted
	}
	return policy.TLSHandshake
}

func clientReason(err error) policy.Reason {
	var name x509.HostnameError
	switch {
	case isTimeout(err):
		return policy.ConnectTimeout
	case errors.As(err, &name):
		return policy.UpstreamTLSIdentity
	}
	return policy.UpstreamTLS
}

// explain puts the words of the proxy before those of crypto/tls where the latter
// leave the reader guessing.
func explain(err error, server bool) error {
	peer := "the endpoint"
	if server {
		peer = "the caller"
	}
	switch {
	case isPlainText(err):
		return fmt.Errorf("%s does not speak TLS: %w", peer, err)
	case isTimeout(err):
		return fmt.Errorf("%s did not finish the handshake in time: %w", peer, err)
	case isGone(err):
		return fmt.Errorf("%s closed the connection during the handshake: %w", peer, err)
	case refusedCertificate(err):
		return fmt.Errorf("%s refuses our certificate: %w", peer, err)
	case IsAlert(err):
		return fmt.Errorf("%s ended the handshake: %w", peer, err)
	}
	return err
}

// isPlainText: crypto/tls hands out the connection only when the very first record
// is nothing like TLS; other bad headers come from a broken or hostile TLS peer.
func isPlainText(err error) bool {
	var header tls.RecordHeaderError
	return errors.As(err, &header) && header.Conn != nil
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &n) && n.Timeout()
}

func isGone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// IsAlert reports whether err is a TLS alert sent by the peer: at the first read of
// a connection we opened it means that the endpoint refused us before it read a
// byte of the request.
func IsAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// certificateAlerts are those by which a peer says that our certificate does not
// suit it (RFC 8446 section 6.2).
var certificateAlerts = [...]tls.AlertError{42, 43, 44, 45, 46, 48, 49, 116}

// refusedCertificate compares texts because the type of an alert received over
// TCP is not exported by crypto/tls.
func refusedCertificate(err error) bool {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" || op.Err == nil {
		return false
	}
	for _, a := range certificateAlerts {
		if op.Err.Error() == a.Error() {
			return true
		}
	}
	return false
}
