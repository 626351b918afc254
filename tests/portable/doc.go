// Package portable holds the product to what is promised beyond Linux and epoll: it builds
// for other systems, and the packages that run on the engine pass their tests with its
// goroutines kind. `make test-goroutines` runs all suites so.
package portable
