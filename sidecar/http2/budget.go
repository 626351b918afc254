package http2

import (
	"time"

	"github.com/larboard-proxy/larboard/policy"
)

// What a peer may cost. Each budget refills with time; one that is used up ends the connection
// with GOAWAY (ENHANCE_YOUR_CALM) and the reason beside it. All are for one connection, so the
// others of a listener do not feel them.
//
// Memory of one connection, at most: MaxStreams times StreamWindow for bodies that nobody has
// read yet (ConnectionWindow while the loop is short of buffers, keptAtLimit where there are none), as many heads of Options.Head
// bytes (twice that where streams are reset while their exchanges still run), 96 KiB of input and
// loansAtMost times 64 KiB of it that streams have views of, a header block under way of at most blockBytes, and outPause plus the answers to one read
// (readBuffer) of output.
const (
	// resetBurst and resetRate: streams that the client resets within resetYoung of opening
	// them, and streams that it makes us reset by breaking a rule, together. Rapid reset
	// (CVE-2023-44487) and MadeYouReset (CVE-2025-8671) cost the same, so they share it. Callers
	// that give up by a deadline of their own stay below: the connection of a proxy carries many
	// of them, so that each stream that comes to its end in order earns one.
	resetBurst, resetRate = 200, 50
	// resetYoung is how old a stream must be for its reset to be nobody's attack.
	resetYoung = time.Second

	// gaveUpBurst and gaveUpRate: streams that we reset ourselves within resetYoung, as their
	// clients have gone. Who asks through us and gives up again and again must not use up what
	// the endpoint allows the connection, which others share: it ends with its last stream, and
	// another takes over. MaxStreams (128, where it is not set) may be open by then, which is
	// less than resetBurst together.
	gaveUpBurst, gaveUpRate = 50, 25

	// blockFrames is how many CONTINUATION frames one header block may have. 16 KiB fit in each.
	blockFrames = 16
	// blockSlack is what a header block may be longer, compressed, than the limit of the head.
	blockSlack = 16 << 10

	// controlBurst and controlRate: SETTINGS, PING, PRIORITY and frames of unknown types. Some
	// libraries ping once for each DATA frame they get to measure the path, so each DATA frame
	// in either direction, and each head, earns controlEarned.
	controlBurst, controlRate, controlEarned = 1000, 100, 2
	// settingsEach is how many settings in one frame cost as much as another frame.
	settingsEach = 32

	// emptyBurst and emptyRate: DATA and CONTINUATION frames that carry nothing and end nothing.
	emptyBurst, emptyRate = 100, 10

	// windowBurst and windowRate: WINDOW_UPDATE frames, and pieces of less than crumb bytes that
	// a small window makes us send. Each DATA frame we send earns windowEarned, and one more for
	// each windowBytes in it: Go's clients and servers give back both windows for each 4 KiB that
	// are read.
	windowBurst, windowRate, windowEarned = 1000, 100, 4
	windowBytes, crumb                    = 512, 64

	// bombBurst and bombRate: heads over the limit. Each costs us its decompression and brings
	// nobody anything.
	bombBurst, bombRate = 16, 1

	// refusedBurst and refusedRate: streams over the limit that was announced. The first ones
	// are refused with REFUSED_STREAM, as they may have been sent before the limit was known.
	refusedBurst, refusedRate = 1024, 50

	// stormBurst and stormRate: streams that an endpoint resets or refuses. Others earn, too.
	stormBurst, stormRate = 500, 100

	// lateBurst and lateRate: frames for streams that have ended. When we give up streams, what
	// is under way of them is no fault of the peer's, and may be windows full of small messages;
	// the burst costs 2 ms to pass over.
	lateBurst, lateRate = 1 << 15, 100

	// interimAtMost bounds the interim responses to one request.
	interimAtMost = 32
)

// Bounds that are no budgets.
const (
	// turnBytes is how much is read from one connection before the others have a turn: some
	// 0.1 ms. What is read of an endpoint in one turn goes to its clients in one send each, so
	// that with 64 KiB large answers went out one by one.
	turnBytes = 256 << 10
	// lentFrom is from which size a DATA frame is lent and not copied, and loansAtMost how many
	// input buffers are lent at a time: what is read in a turn.
	lentFrom, loansAtMost = 4 << 10, 6
	// outRoom is how much output may wait before bodies and heads wait for it.
	outRoom = 60 << 10
	// outPause is how much may wait before nothing more is read: what is read must be answered
	// (PING, SETTINGS), so a peer that never reads is not listened to either.
	outPause = 128 << 10
	// resetsKept is how many streams that we have reset are remembered, or as many as may be open
	// if that is more; what the peer had sent before it knew is passed over.
	resetsKept = 128
	// keptAtLimit is how much a connection may hold of bodies that nobody has read, where the
	// buffers are at their limit; what comes above ends its stream (policy.BuffersShort).
	keptAtLimit = 64 << 10
	// settingsWithin is how long a peer may take to acknowledge our SETTINGS.
	settingsWithin = 10 * time.Second
	// drainWithin is how long a drain waits for the answer to its PING.
	drainWithin = time.Second
	// lingerFor and lingerBytes bound how long and how much is read from a peer that was told
	// to go: a socket closed over unread bytes takes back the GOAWAY that it was sent.
	lingerFor   = time.Second
	lingerBytes = 256 << 10
)

// bucket is a token bucket as one number: the time at which it will be full again. The zero
// value is full.
type bucket struct{ full int64 }

// take takes n tokens of a bucket of burst, refilled at rate a second; false if they are not
// there.
func (b *bucket) take(now int64, n, burst, rate int) bool {
	each := int64(time.Second) / int64(rate)
	b.full = max(b.full, now) + int64(n)*each
	return b.full-now <= int64(burst)*each
}

// earn gives n tokens back.
func (b *bucket) earn(n, rate int) { b.full -= int64(n) * (int64(time.Second) / int64(rate)) }

// budgets of a connection.
type budgets struct {
	resets, gaveUp, control, empty, windows, bombs, refused, storm, late bucket
}

// spent ends the connection for an attack, or what cannot be told from one.
func (c *conn) spent(r policy.Reason, text violation) {
	c.fatal(codeCalm, r, text)
}

// provoked counts a stream that the peer made us reset.
func (c *conn) provoked() {
	if !c.budgets.resets.take(c.now(), 1, resetBurst, resetRate) {
		c.spent(c.reason(policy.HTTP2ProvokedResets, policy.UpstreamProtocol), "one stream after another has to be reset")
	}
}

// rapid counts a stream that the client reset.
func (c *conn) rapid(s *Stream) {
	if c.now()-s.opened < int64(resetYoung) && !c.budgets.resets.take(c.now(), 1, resetBurst, resetRate) {
		c.spent(policy.HTTP2RapidReset, "streams are reset as fast as they are opened")
	}
}

// gaveUp counts a stream that we reset before its answer was there.
func (c *conn) gaveUp(s *Stream) {
	if c.client && !s.is(streamRecvEnd) && c.now()-s.opened < int64(resetYoung) && !c.end.leaving && !c.budgets.gaveUp.take(c.now(), 1, gaveUpBurst, gaveUpRate) {
		c.end.leaving = true
		c.hook()
	}
}

// stormy counts a stream that the endpoint reset.
func (c *conn) stormy() {
	if !c.budgets.storm.take(c.now(), 1, stormBurst, stormRate) {
		c.spent(policy.UpstreamResetStorm, "the endpoint resets one stream after another")
	}
}

func (c *conn) control(n int) {
	if !c.budgets.control.take(c.now(), n, controlBurst, controlRate) {
		c.spent(c.reason(policy.HTTP2ControlFlood, policy.UpstreamProtocol), "too many control frames")
	}
}

func (c *conn) emptyFrame() {
	if !c.budgets.empty.take(c.now(), 1, emptyBurst, emptyRate) {
		c.spent(c.reason(policy.HTTP2EmptyFrames, policy.UpstreamProtocol), "too many empty frames")
	}
}

func (c *conn) windowFrame() {
	if !c.budgets.windows.take(c.now(), 1, windowBurst, windowRate) {
		c.spent(c.reason(policy.HTTP2WindowFlood, policy.UpstreamProtocol), "windows are opened by crumbs")
	}
}

func (c *conn) bomb() {
	if !c.budgets.bombs.take(c.now(), 1, bombBurst, bombRate) {
		c.spent(c.reason(policy.HTTP2HeadBomb, policy.UpstreamProtocol), "one head after another is over the limit")
	}
}

func (c *conn) overLimit() {
	if !c.budgets.refused.take(c.now(), 1, refusedBurst, refusedRate) {
		c.spent(policy.HTTP2StreamLimit, "streams are opened over the limit again and again")
	}
}

func (c *conn) lateFrame() {
	if !c.budgets.late.take(c.now(), 1, lateBurst, lateRate) {
		c.spent(c.reason(policy.HTTP2ControlFlood, policy.UpstreamProtocol), "too many frames for streams that have ended")
	}
}

// completed earns what a stream does that has come to its end in order.
func (c *conn) completed() {
	c.budgets.resets.earn(1, resetRate)
	c.budgets.storm.earn(1, stormRate)
	c.budgets.gaveUp.earn(1, gaveUpRate)
}

// exchanged earns what a DATA frame or a head earns.
func (c *conn) exchanged() { c.budgets.control.earn(controlEarned, controlRate) }

// reason is the one for what a client, or an endpoint, does.
func (c *conn) reason(client, endpoint policy.Reason) policy.Reason {
	if c.client {
		return endpoint
	}
	return client
}
