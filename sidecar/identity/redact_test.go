package identity

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// No form of printing shows a private key, whatever value somebody logs.
func TestSecretsAreNeverPrinted(t *testing.T) {
	a, err := NewAuthority(AuthorityOptions{TrustDomain: spiffeid.RequireTrustDomainFromString("mesh.test")})
	if err != nil {
		t.Fatal(err)
	}
	m, err := a.Issue(spiffeid.RequireFromString(apiID))
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	current := NewCurrent(logger)
	current.Set(m)
	s := current.Snapshot()
	text := slog.New(slog.NewTextHandler(&log, nil))
	for _, v := range []any{m, &m, s, a, current.Status(), []any{m}, struct{ M Material }{m}} {
		fmt.Fprintf(&log, "%v %+v %#v %s\n", v, v, v, v)
		logger.Info("value", "value", v)
		text.Info("value", "value", v)
		if j, err := json.Marshal(v); err == nil {
			log.Write(j)
		}
	}
	for i, key := range []*ecdsa.PrivateKey{m.Certificate.PrivateKey.(*ecdsa.PrivateKey), a.roots[0].key} {
		d, err := key.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		number := new(big.Int).SetBytes(d).String()
		for _, form := range []string{number, hex.EncodeToString(d), base64.StdEncoding.EncodeToString(d), strings.Trim(fmt.Sprint(d), "[]"), string(d)} {
			if strings.Contains(log.String(), form) {
				t.Errorf("secret %d was printed", i)
			}
		}
	}
	if !strings.Contains(log.String(), apiID) {
		t.Error("nothing was printed at all")
	}
}
