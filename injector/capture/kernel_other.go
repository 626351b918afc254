//go:build !linux

package capture

// nft is for Linux alone.
type nft struct{}

func (nft) name() string                       { return FirewallNftables }
func (nft) try(*Plan) error                    { return ErrKernel }
func (nft) apply(*Plan) error                  { return ErrKernel }
func (nft) remove() (bool, error)              { return false, ErrKernel }
func (nft) look(*Plan) (bool, []string, error) { return false, nil, ErrKernel }
