// Package inject runs `larboard inject` as its users do, and gives what it writes to those that it is
// for: docker-compose, and an agent of Consul. It must not know the program from inside, but for
// the table of labels that the manual shows.
package inject
