package sim

import (
	"fmt"
	"strconv"
	"strings"
)

// The scripted workloads speak HTTP/1.1 through a reader of their own: net/http's wants a
// connection that blocks, and the product's must not judge itself.

// head is a start line with the fields that matter here, by lower-case name.
type head struct {
	first  string // method, or version
	second string // target, or status
	fields map[string]string
}

func (h *head) status() int {
	n, err := strconv.Atoi(h.second)
	if err != nil {
		return 0
	}
	return n
}

// has reports whether a field's list names a token.
func (h *head) has(field, token string) bool {
	for part := range strings.SplitSeq(h.fields[field], ",") {
		if strings.EqualFold(strings.TrimSpace(part), token) {
			return true
		}
	}
	return false
}

// reader takes a connection's bytes apart. Its functions are called while take runs.
type reader struct {
	// head tells of a head and says how its body is delimited.
	head func(*head) framing
	// body tells of a piece of the body; end of its end.
	body func(string)
	end  func()

	trailers map[string]string // of the message that end tells of

	rest  string
	state readerState
	left  int
	err   error
}

type readerState uint8

const (
	inHead readerState = iota
	inLength
	inChunkSize
	inChunk
	inTrailers
	untilEnd
)

// framing is how a body is delimited.
type framing uint8

const (
	byFields   framing = iota // as the fields say; without any, none
	bodiless                  // none whatever they say
	unframed                  // all that comes until the end of the connection
	unlessSaid                // as the fields say; without any, until the end
)

// take reads on with what has arrived.
func (r *reader) take(s string) {
	r.rest += s
	for r.err == nil && r.step() {
	}
}

// ended tells of the end of the connection: true where a message may end there.
func (r *reader) ended() bool {
	if r.state == untilEnd {
		r.state = inHead
		r.end()
		return true
	}
	return r.state == inHead && r.rest == ""
}

// step reads one element; false: more has to arrive.
func (r *reader) step() bool {
	switch r.state {
	case inHead:
		text, rest, ok := strings.Cut(r.rest, "\r\n\r\n")
		if !ok {
			return false
		}
		r.rest = rest
		r.open(text)
	case inLength, inChunk, untilEnd:
		return r.data()
	case inChunkSize:
		line, rest, ok := strings.Cut(r.rest, "\r\n")
		if !ok {
			return false
		}
		r.rest = rest
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseUint(size, 16, 31)
		if err != nil {
			r.err = fmt.Errorf("chunk size %q", line)
			return false
		}
		r.left, r.state = int(n)+2, inChunk
		if n == 0 {
			r.state = inTrailers
		}
	case inTrailers:
		line, rest, ok := strings.Cut(r.rest, "\r\n")
		if !ok {
			return false
		}
		r.rest = rest
		if line == "" {
			r.finish()
		} else if name, value, ok := strings.Cut(line, ":"); ok {
			r.trailers[strings.ToLower(name)] = strings.TrimSpace(value)
		}
	}
	return true
}

func (r *reader) data() bool {
	n := len(r.rest)
	if n == 0 {
		return false
	}
	if r.state == untilEnd {
		s := r.rest
		r.rest = ""
		r.body(s)
		return true
	}
	n = min(n, r.left)
	s := r.rest[:n]
	r.rest = r.rest[n:]
	r.left -= n
	if r.state == inChunk { // its line end does not count
		s = s[:max(0, min(len(s), len(s)+r.left-2))]
	}
	if s != "" {
		r.body(s)
	}
	if r.left == 0 && r.state == inChunk {
		r.state = inChunkSize
	} else if r.left == 0 {
		r.finish()
	}
	return true
}

func (r *reader) finish() {
	r.state = inHead
	r.end()
}

// open begins a message.
func (r *reader) open(text string) {
	lines := strings.Split(text, "\r\n")
	h := &head{fields: make(map[string]string, len(lines))}
	start := strings.SplitN(lines[0], " ", 3)
	if len(start) < 2 {
		r.err = fmt.Errorf("start line %q", lines[0])
		return
	}
	h.first, h.second = start[0], start[1]
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		name = strings.ToLower(name)
		if was := h.fields[name]; was != "" {
			value = was + "," + value
		}
		h.fields[name] = strings.TrimSpace(value)
	}
	r.trailers = map[string]string{}
	f := r.head(h)
	length := h.fields["content-length"]
	switch {
	case f == bodiless:
		r.finish()
	case f == unframed:
		r.state = untilEnd
	case h.has("transfer-encoding", "chunked"):
		r.state = inChunkSize
	case length != "":
		n, err := strconv.Atoi(length)
		if err != nil || n < 0 {
			r.err = fmt.Errorf("content-length %q", length)
			return
		}
		if r.left, r.state = n, inLength; n == 0 {
			r.finish()
		}
	case f == unlessSaid:
		r.state = untilEnd
	default:
		r.finish()
	}
}

// framed writes a body of n bytes as a message's fields announce it.
func (t text) framed(id, n int, chunked bool) (fields, body string) {
	if !chunked {
		return "Content-Length: " + strconv.Itoa(n) + "\r\n", t.whole(id, n)
	}
	var b strings.Builder
	for done, size := 0, 1+id%97; done < n; size = size*3%5000 + 1 {
		piece := t.at(id, done, min(size, n-done))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(piece), piece)
		done += len(piece)
	}
	fmt.Fprintf(&b, "0\r\nX-Sum: %d\r\n\r\n", id)
	return "Transfer-Encoding: chunked\r\n", b.String()
}
