package identity

import "time"

// Status is what the admin API shows of an identity; it holds no secret.
type Status struct {
	Ready        bool      `json:"ready"`
	ID           string    `json:"id,omitempty"`
	Source       string    `json:"source,omitempty"`
	Serial       string    `json:"serial,omitempty"`
	NotBefore    time.Time `json:"not_before,omitzero"`
	NotAfter     time.Time `json:"not_after,omitzero"`
	Expired      bool      `json:"expired"`
	Generation   uint64    `json:"generation"`
	Rotations    uint64    `json:"rotations"`
	TrustDomains []string  `json:"trust_domains,omitempty"`
	// LastError is the latest failure of the source or of its material, empty once
	// it has been overcome.
	LastError string `json:"last_error,omitempty"`
}

// Status describes the current identity. It may be called from anywhere.
func (c *Current) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := Status{Rotations: c.rotations, LastError: c.lastError}
	if st.LastError == "" && c.reporter != nil {
		st.LastError = c.reporter.LastError()
	}
	s := c.snapshot.Load()
	if s == nil {
		return st
	}
	st.Ready = true
	st.ID = s.id.String()
	st.Source = s.source
	st.Serial = s.certificate.Leaf.SerialNumber.Text(16)
	st.NotBefore, st.NotAfter = s.notBefore, s.notAfter
	st.Expired = s.now().After(s.notAfter)
	st.Generation = s.generation
	for _, d := range s.domains {
		st.TrustDomains = append(st.TrustDomains, d.Name())
	}
	return st
}
