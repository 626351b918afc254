package engine_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"strings"
	"testing"

	"crypto/tls"
)

// recordConn speaks TLS 1.3 records (RFC 8446 section 5) with the traffic secrets of a
// handshake that crypto/tls has done: to send what crypto/tls never would by itself.
type recordConn struct {
	net.Conn
	in, out half
	news    func() hash.Hash
	keyLen  int
	updates int // key updates of the other side
	asked   int // of which wanted one of ours
}

// half is one direction.
type half struct {
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

const (
	recordAlert       = 21
	recordHandshake   = 22
	recordApplication = 23
	messageKeyUpdate  = 24
)

// takeOver shakes hands over raw by crypto/tls, as server or client, and then goes on with
// records of its own.
func takeOver(t *testing.T, raw net.Conn, cfg *tls.Config, server bool) *recordConn {
	t.Helper()
	var log bytes.Buffer
	cfg = cfg.Clone()
	cfg.KeyLogWriter, cfg.MinVersion = &log, tls.VersionTLS13
	wire := &recordwise{Conn: raw}
	c := tls.Client(wire, cfg)
	if server {
		c = tls.Server(wire, cfg)
	}
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	r := &recordConn{Conn: raw, news: sha256.New, keyLen: 16}
	switch c.ConnectionState().CipherSuite {
	case tls.TLS_AES_128_GCM_SHA256:
	case tls.TLS_AES_256_GCM_SHA384:
		r.news, r.keyLen = sha512.New384, 32
	default:
		t.Fatalf("no AES on this machine: %s", tls.CipherSuiteName(c.ConnectionState().CipherSuite))
	}
	clientSecret, serverSecret := logged(t, log.String(), "CLIENT_TRAFFIC_SECRET_0"), logged(t, log.String(), "SERVER_TRAFFIC_SECRET_0")
	if server {
		clientSecret, serverSecret = serverSecret, clientSecret
	}
	r.key(&r.out, clientSecret)
	r.key(&r.in, serverSecret)
	return r
}

// recordwise never reads beyond the record at hand: what comes after the handshake is not
// for crypto/tls, which would take it into its buffer.
type recordwise struct {
	net.Conn
	have []byte // of a header, not given out
	left int    // of the body
}

func (w *recordwise) Read(p []byte) (int, error) {
	if len(w.have) == 0 && w.left == 0 {
		w.have = make([]byte, 5)
		if _, err := io.ReadFull(w.Conn, w.have); err != nil {
			return 0, err
		}
		w.left = int(binary.BigEndian.Uint16(w.have[3:]))
	}
	if len(w.have) > 0 {
		n := copy(p, w.have)
		w.have = w.have[n:]
		return n, nil
	}
	n, err := w.Conn.Read(p[:min(len(p), w.left)])
	w.left -= n
	return n, err
}

func logged(t *testing.T, log, label string) []byte {
	t.Helper()
	for line := range strings.Lines(log) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == label {
			secret, err := hex.DecodeString(f[2])
			if err == nil {
				return secret
			}
		}
	}
	t.Fatalf("no %s", label)
	return nil
}

// expand is HKDF-Expand-Label with an empty context (RFC 8446 section 7.1).
func (r *recordConn) expand(secret []byte, label string, n int) []byte {
	label = "tls13 " + label
	info := append([]byte{byte(n >> 8), byte(n), byte(len(label))}, label...)
	out, err := hkdf.Expand(r.news, secret, string(append(info, 0)), n)
	if err != nil {
		panic(err)
	}
	return out
}

func (r *recordConn) key(h *half, secret []byte) {
	block, err := aes.NewCipher(r.expand(secret, "key", r.keyLen))
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	*h = half{secret: secret, aead: aead, iv: r.expand(secret, "iv", 12)}
}

// next moves to the next generation of keys (section 7.2).
func (r *recordConn) next(h *half) { r.key(h, r.expand(h.secret, "traffic upd", r.news().Size())) }

func (h *half) nonce() []byte {
	n := bytes.Clone(h.iv)
	for i := range 8 {
		n[4+i] ^= byte(h.seq >> (56 - 8*i))
	}
	h.seq++
	return n
}

// seal makes one record.
func (r *recordConn) seal(kind byte, text []byte) []byte {
	inner := append(bytes.Clone(text), kind)
	head := []byte{recordApplication, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(head[3:], uint16(len(inner)+r.out.aead.Overhead()))
	return r.out.aead.Seal(head, r.out.nonce(), inner, head)
}

// keyUpdate makes the record that announces new keys for what follows.
func (r *recordConn) keyUpdate(answer bool) []byte {
	request := byte(0)
	if answer {
		request = 1
	}
	record := r.seal(recordHandshake, []byte{messageKeyUpdate, 0, 0, 1, request})
	r.next(&r.out)
	return record
}

// receive returns the next application data. Key updates of the other side are followed.
func (r *recordConn) receive() ([]byte, error) {
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(r.Conn, head); err != nil {
			return nil, err
		}
		sealed := make([]byte, binary.BigEndian.Uint16(head[3:]))
		if _, err := io.ReadFull(r.Conn, sealed); err != nil {
			return nil, err
		}
		inner, err := r.in.aead.Open(sealed[:0], r.in.nonce(), sealed, head)
		if err != nil {
			return nil, fmt.Errorf("record %d of generation %d: %w", r.in.seq-1, r.updates, err)
		}
		inner = bytes.TrimRight(inner, "\x00")
		kind, text := inner[len(inner)-1], inner[:len(inner)-1]
		switch kind {
		case recordApplication:
			return text, nil
		case recordAlert:
			return nil, fmt.Errorf("alert %d", text[1])
		case recordHandshake:
			if len(text) != 5 || text[0] != messageKeyUpdate {
				return nil, errors.New("not a key update")
			}
			r.updates++
			r.asked += int(text[4])
			r.next(&r.in)
		}
	}
}
