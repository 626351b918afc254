package engine

// NewEpoll gives the external tests the poller of Linux.
var NewEpoll = newPoller

// NewNetpoll gives them that of the goroutines kind.
func NewNetpoll() Poller { return newNetpoll() }

// TestKind tells them what the tests are run on.
var TestKind = testKind

// TLSPair makes TLS configurations for the external tests.
var TLSPair = tlsPair
