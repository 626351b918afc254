package http2

import (
	"github.com/larboard-proxy/larboard/sidecar/http2/hpack"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// sentName is how a known name is sent, and whether its values are worth a place in
// the dynamic table.
type sentName struct {
	hpack.Name
	how hpack.Indexing
}

// sentNames is indexed by tag.
var sentNames = buildSentNames()

func buildSentNames() (t [256]sentName) {
	for id := message.NameOther + 1; id.String() != ""; id++ {
		t[tagField+uint8(id)].Text = []byte(id.Lower())
	}
	for i := hpack.StaticCount; i > 0; i-- {
		if tag := staticTags[i]; tag != tagField {
			name, _ := hpack.Static(i)
			t[tag].Text, t[tag].Static = []byte(name), uint8(i)
		}
	}
	t[tagProtocol].Text = []byte(":protocol")
	for tag := range t {
		t[tag].Key, t[tag].how = uint8(tag), hpack.Repeating
		if tag >= int(tagField) && !isPseudo(uint8(tag)) {
			t[tag].how = indexingOf(fieldID(uint8(tag)))
		}
	}
	return t
}

// guessable is how long a cookie must at least be, not to be guessed by what its
// compression saves.
const guessable = 20

// indexingOf says how a field is sent. Credentials are never indexed (RFC 7541 section
// 7.1.3): connections to endpoints carry the requests of many clients. What differs
// from one message to the next is not looked up in vain.
func indexingOf(id message.NameID) hpack.Indexing {
	switch id {
	case message.NameAuthorization, message.NameSetCookie:
		return hpack.Never
	case message.NameCookie, message.NameContentLength, message.NameContentRange, message.NameETag,
		message.NameGRPCMessage, message.NameGRPCTimeout, message.NameIfMatch, message.NameIfNoneMatch,
		message.NameLastModified, message.NameRange, message.NameTraceparent, message.NameB3, message.NameB3TraceID,
		message.NameB3SpanID, message.NameB3ParentSpanID, message.NameXRequestID:
		return hpack.Literal
	}
	return hpack.Repeating
}
