package identity

import (
	"fmt"
	"log/slog"
	"time"
)

// Material carries a private key, and the default formatting of fmt, encoding/json
// and log/slog would print it. These methods name the material in place of it.

// String names the material without its key.
func (m Material) String() string {
	return fmt.Sprintf("%s from %s until %s", m.ID, m.Source, m.NotAfter.UTC().Format(time.RFC3339))
}

// GoString is String.
func (m Material) GoString() string { return m.String() }

// MarshalText is String; encoding/json uses it too.
func (m Material) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// LogValue keeps the key out of structured logs.
func (m Material) LogValue() slog.Value { return slog.StringValue(m.String()) }
