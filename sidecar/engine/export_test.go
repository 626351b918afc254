package engine

// NewEpoll gives the external tests the poller of Linux.
var NewEpoll = newPoller

// TLSPair makes TLS configurations for the external tests.
var TLSPair = tlsPair
