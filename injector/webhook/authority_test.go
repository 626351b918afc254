package webhook

import (
	"bytes"
	"encoding/base64"
	"testing"
	"time"
)

// stored is what the Secret holds.
func (f *fakeAPI) stored(t testing.TB) []byte {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	text, _ := f.objects[secretPath]["data"].(map[string]any)[authoritiesKey].(string)
	return []byte(decoded(text))
}

func decoded(text string) string {
	data, _ := base64.StdEncoding.DecodeString(text)
	return string(data)
}

func TestAuthoritiesAreReadAsWritten(t *testing.T) {
	now := time.Now()
	var all []*authority
	for _, life := range []time.Duration{time.Hour, 2 * time.Hour} {
		a, err := newAuthority(now, life)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	text, err := encode([]*authority{all[1], all[0]})
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(text)
	if err != nil || len(got) != 2 || !got[0].cert.Equal(all[0].cert) || !got[1].key.Equal(all[1].key) {
		t.Errorf("%v, %v", got, err)
	}
	if left := unexpired(got, now.Add(90*time.Minute)); len(left) != 1 || !left[0].cert.Equal(all[1].cert) {
		t.Errorf("after the first has expired: %v", left)
	}
	pair, err := all[0].issue(now, 24*time.Hour, []string{"a.b.svc"})
	if err != nil || pair.Leaf.NotAfter.After(all[0].cert.NotAfter) {
		t.Errorf("a certificate outlives its authority: %v, %v", pair.Leaf.NotAfter, err)
	}
	if !contains(bundle(all), all[0]) || contains(bundle(all[1:]), all[0]) {
		t.Error("contains")
	}
}

func TestAuthoritiesThatCannotBeRead(t *testing.T) {
	now := time.Now()
	a, _ := newAuthority(now, time.Hour)
	b, _ := newAuthority(now, time.Hour)
	good, _ := encode([]*authority{a})
	other, _ := encode([]*authority{b})
	cert, key, _ := bytes.Cut(good, []byte("-----BEGIN PRIVATE KEY"))
	key = append([]byte("-----BEGIN PRIVATE KEY"), key...)
	otherCert, _, _ := bytes.Cut(other, []byte("-----BEGIN PRIVATE KEY"))
	for name, text := range map[string][]byte{
		"rubbish":                  []byte("rubbish"),
		"a certificate alone":      cert,
		"a key alone":              key,
		"somebody else's key":      append(bytes.Clone(otherCert), key...),
		"rubbish after what holds": append(bytes.Clone(good), "rubbish"...),
		"no certificate inside":    []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
	} {
		if got, err := decode(text); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got, err := decode(nil); err != nil || got != nil {
		t.Errorf("nothing: %v, %v", got, err)
	}
}
