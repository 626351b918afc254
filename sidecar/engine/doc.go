// Package engine runs connections and the code that serves them on event loops.
//
// Why it exists: a goroutine for each connection costs stacks, scheduler work and
// netpoller wake-ups that a proxy pays on every request. Here each loop owns an epoll
// instance, its connections, its timers and its buffers, and a request runs on a Task: a
// coroutine that reads top to bottom like ordinary blocking Go and is switched by a direct
// hand-over inside the runtime (iter.Pull). Conn.Read tries the system call; where it would
// block, it parks the task, and the loop resumes it when the socket is ready, its deadline
// has passed or it was cancelled. A connection that waits for its next request owns no
// task, no stack and no buffer: only its record.
//
// The same tasks and connections run on plain goroutines (Kind), for systems without
// epoll, for tests that compare the two, and as a fallback.
//
// What it must not know: HTTP, services, routes, policy, metrics. It imports nothing of
// this project. Sockets and time are behind Poller and Clock, so that a simulated network
// can stand in for both.
//
// The failure unit is the loop: code on a task that blocks in the Go scheduler stops every
// connection of its loop. The rules for such code:
//
//  1. No lock, Once or singleflight is held across anything that may park.
//  2. Never wait in the Go scheduler (channel, mutex, sleep, file, DNS): use Offload.
//  3. One task for each direction of a connection.
//  4. After a park re-check conditions, handle its error, and treat loop state read before
//     as stale.
//  5. No goroutine touches what a loop owns: values in by argument, back by Loop.Post.
//  6. Under 64 KiB or 200 us a turn, then Yield (Conn does so by itself).
//  7. No LockOSThread, no runtime.Goexit, no testing.T.Fatal on a task.
//  8. No allocation per request in steady state, no buffer kept while idle, and every park
//     has a deadline.
package engine
