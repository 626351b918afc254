// Package e2e tests larboard as its users run it: the binary, started with a
// configuration file, reached over sockets, told by signals, and judged by what
// its clients saw, by what it logged and by what it counted. Consul is the real
// one. What a package can show about itself is tested beside that package; here
// stands what only the whole can show.
//
// The tests must not know the program from inside: they import nothing of it. The
// short forms run with `go test`; LARBOARD_LONG=1 (`make soak`) gives the claims
// that need minutes their minutes.
package e2e
