// Package attack holds programs that do to a running larboard what HTTP/2's rules
// leave open to, and forbid, a hostile peer, and measures what others notice of it.
//
// It exists because a protection is worth what it does to a whole process: each
// attack is a bounded function over real sockets, with frames written byte by byte
// and by no library that would refuse to. Beside it run ordinary clients, whose
// latency and failures are measured with and without the attack, and the memory and
// CPU of the proxy. A recorder in place of the proxy proves that each attack sends
// what it says. It must not know how the proxy defends itself, only what it promises:
// the bounds, the reasons that are counted, and the code that a peer is told.
package attack
