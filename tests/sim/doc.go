// Package sim runs a whole mesh on a simulated network and clock: services a, b and c,
// several instances of each of the last two, beside every instance the data plane of a
// sidecar as the product builds it from configuration text, and between the sidecars
// mutual TLS. In two schedules of three, clients, hops and workloads speak HTTP/2 and gRPC
// beside HTTP/1, by frames that are not the product's. What happens to it is drawn from a seed, and the same seed gives the same
// happenings to the nanosecond.
//
// It exists because what breaks a mesh is coincidence: an endpoint that leaves while a
// connection to it is being given back, a reset between the head and the body, a rotation
// in the turn of a reload. Tests with real processes meet such a moment once in a week and
// never again; here ten thousand schedules take minutes, and one that fails is run again
// until it is understood.
//
// What holds in every schedule is in check.go. It must not know how the proxy does what it
// does: it looks at requests and answers from outside, at records, and at what is left when
// all is over.
//
// Read mesh.go for what there is, schedule.go for what happens, run.go for the order.
package sim
