package demo

import (
	"encoding/binary"
	"reflect"
	"testing"
)

// message appends fields to a message of protocol buffers: texts by their number.
func message(fields ...any) (b []byte) {
	for i := 0; i < len(fields); i += 2 {
		number := uint64(fields[i].(int))
		switch v := fields[i+1].(type) {
		case string:
			b = binary.AppendUvarint(b, number<<3|2)
			b = append(binary.AppendUvarint(b, uint64(len(v))), v...)
		case uint64:
			b = binary.LittleEndian.AppendUint64(binary.AppendUvarint(b, number<<3|1), v)
		case int:
			b = binary.AppendUvarint(binary.AppendUvarint(b, number<<3), uint64(v))
		}
	}
	return b
}

func nested(fields ...any) string { return string(message(fields...)) }

// exported is what an exporter sends of one span of api-1.
func exported() []byte {
	s := nested(spanTrace, "\x01\x02", spanID, "\x03", spanParent, "\x04", spanName, "GET", spanKind, kindClient, spanStart, uint64(7), spanEnd, uint64(9),
		spanAttributes, nested(pairKey, "larboard.endpoint", pairValue, nested(valueText, "a:1")),
		spanAttributes, nested(pairKey, "larboard.try", pairValue, nested(valueInt, 2)), 15, nested(3, 2))
	resource := nested(resourceAttributes, nested(pairKey, "service.name", pairValue, nested(valueText, "api-1")))
	return message(exportResourceSpans, nested(resourceSpansScopes, nested(1, nested(1, "scope"), scopeSpans, s), resourceSpansOf, resource, 3, "url"))
}

func TestParseExport(t *testing.T) {
	got, err := parseExport(exported())
	want := []span{{service: "api-1", trace: "0102", id: "03", parent: "04", name: "GET", client: true, start: 7, end: 9,
		attributes: map[string]string{"larboard.endpoint": "a:1", "larboard.try": "2"}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v %+v", err, got)
	}
	for n := range exported() {
		if _, err := parseExport(exported()[:n]); n > 0 && err == nil {
			t.Errorf("cut off after %d bytes it is taken", n)
		}
	}
}

func FuzzParseExport(f *testing.F) {
	f.Add(exported())
	f.Fuzz(func(t *testing.T, b []byte) {
		spans, err := parseExport(b)
		if err == nil && len(spans) > len(b) {
			t.Errorf("%d spans in %d bytes", len(spans), len(b))
		}
	})
}
