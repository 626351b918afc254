package http1

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// transcript says in one text what came of some input, so that two runs compare.
// The data of a body whose end was never seen is left out: how much of it came
// before the error depends on the reads.

func describe(b *strings.Builder, h *message.Head) {
	f := h.Framing
	if h.Status != 0 {
		fmt.Fprintf(b, "%d %q", h.Status, h.PhraseBytes())
	} else {
		fmt.Fprintf(b, "%s %q at %q", h.MethodBytes(), h.PathBytes(), h.AuthorityBytes())
	}
	fmt.Fprintf(b, " 1.%d kind %d length %d", f.Minor, f.Kind, f.Length)
	if f.Close {
		b.WriteString(" close")
	}
	if f.Continue {
		b.WriteString(" continue")
	}
	if f.Trailers {
		b.WriteString(" trailers")
	}
	if f.Upgrade.End != 0 {
		fmt.Fprintf(b, " upgrade %q", h.UpgradeBytes())
	}
	describeFields(b, h)
}

func describeFields(b *strings.Builder, h *message.Head) {
	for _, f := range h.Fields() {
		if !f.Deleted() {
			fmt.Fprintf(b, " %s=%q", h.Name(f), h.Value(f))
		}
	}
	b.WriteByte('\n')
}

// verdict is the short form of an error.
func verdict(err error) string {
	var e *policy.Error
	switch {
	case err == nil:
		return "ok"
	case err == io.EOF:
		return "eof"
	case errors.As(err, &e):
		return e.Reason.String()
	}
	return err.Error()
}

func describeBody(b *strings.Builder, s message.Stream) error {
	body, err := readAll(s)
	if err != nil {
		fmt.Fprintf(b, "body: %s\n", verdict(err))
		return err
	}
	fmt.Fprintf(b, "body %q\n", body)
	if t := s.Trailers(); t != nil {
		b.WriteString("trailers")
		describeFields(b, t)
	}
	return nil
}

// serve reads all requests of the input, answering each with 200, and returns
// the transcript, the verdict on the last thing read, and what leaked.
func serve(in [][]byte) (text, last string) {
	s, _, l := newTestServer(in)
	var b strings.Builder
	var h message.Head
	for {
		err := s.ReadHead(&h)
		if err != nil {
			describe(&strings.Builder{}, &h) // what can be said of it is recorded
			last = verdict(err)
			break
		}
		describe(&b, &h)
		if err = describeBody(&b, s); err != nil {
			last = verdict(err)
			break
		}
		last = "ok"
		r := answer(200, message.Length, 0)
		if h.Framing.Kind == message.NoBody && string(h.MethodBytes()) == "CONNECT" {
			r = answer(200, message.Tunnel, 0)
		}
		if err = s.WriteHead(r); err == nil {
			err = s.Flush()
		}
		if err != nil {
			last = "write: " + verdict(err)
			break
		}
		if !s.KeepAlive() {
			last = "close"
			break
		}
	}
	s.Reset(policy.None)
	s.Release()
	if l.lent != 0 {
		last = fmt.Sprintf("leaked %d buffers", l.lent)
	}
	return b.String() + last, last
}

// call sends one request and reads all responses to it.
func call(request *message.Head, in [][]byte) (text, last string) {
	c, _, l := newTestClient(in)
	var b strings.Builder
	var h message.Head
	err := c.WriteHead(request)
	if err == nil {
		err = c.WriteBody(nil, true)
	}
	for err == nil {
		if err = c.ReadHead(&h); err == nil {
			describe(&b, &h)
			if h.Status >= 200 || h.Status == 101 {
				break
			}
		}
	}
	if err == nil {
		err = describeBody(&b, c)
	}
	switch last = verdict(err); {
	case err == nil && c.Reusable():
		last = "reusable"
	case err == nil:
		last = "ok"
	}
	c.Reset(policy.None)
	c.Release()
	if l.lent != 0 {
		last = fmt.Sprintf("leaked %d buffers", l.lent)
	}
	return b.String() + last, last
}

// everyCut runs f over the input whole, byte by byte, and split at every place,
// and returns the first transcript that differs from the first one.
func everyCut(data string, f func([][]byte) (string, string)) (text, last, other string) {
	text, last = f(whole(data))
	if got, _ := f(bytewise(data)); got != text {
		return text, last, "byte by byte: " + got
	}
	step := 1 + len(data)/2000
	for at := 1; at < len(data); at += step {
		if got, _ := f(split(data, at)); got != text {
			return text, last, fmt.Sprintf("split at %d: %s", at, got)
		}
	}
	return text, last, ""
}
