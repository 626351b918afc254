package hpack

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	xhpack "golang.org/x/net/http2/hpack"
)

func TestHuffmanIsThatOfTheRFC(t *testing.T) {
	for c := range 256 {
		for _, text := range []string{string([]byte{byte(c)}), "a" + string([]byte{byte(c)}) + "0-/" + string([]byte{byte(c), byte(c)}) + "x"} {
			got, err := appendDecoded(nil, xhpack.AppendHuffmanString(nil, text))
			if err != nil || string(got) != text {
				t.Errorf("%q: %q, %v", text, got, err)
			}
		}
	}
}

func TestHuffmanRefuses(t *testing.T) {
	for _, tc := range []struct{ name, text string }{
		{"eight bits of padding", "1fff"}, // "a" and three bits, then a whole byte
		{"padding of zeros", "18"},
		{"EOS", "ffffffff"},
		{"EOS among others", "1fffffffff1f"},
		{"a long code cut off", "fffffe"},
		{"only padding, a whole byte", "ff"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, err := appendDecoded(nil, unhex(t, tc.text)); err != ErrHuffman {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	if got, err := appendDecoded(nil, nil); err != nil || len(got) != 0 {
		t.Errorf("the empty string: %q, %v", got, err)
	}
}

func TestDecoderRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, block string
		want        error
	}{
		{"index 0", "80", ErrIndex},
		{"index beyond both tables", "be", ErrIndex},
		{"name beyond both tables", "7f0061", ErrIndex},
		{"a huge index", "ffffffffff0f", ErrInteger},
		{"a literal without anything", "40", ErrTruncated},
		{"a literal without a value", "400161", ErrTruncated},
		{"a name shorter than said", "400561", ErrTruncated},
		{"a value shorter than said", "40016105", ErrTruncated},
		{"a length that overflows", "407fffffffff0f", ErrInteger},
		{"bad Huffman in a name", "4081ff00", ErrHuffman},
		{"a size update after a field", "8220", ErrSizeUpdate},
		{"a third size update", "202020", ErrSizeUpdate},
		{"a size update above the limit", "3fe21f", ErrSizeUpdate},
		{"a size update cut off", "3f", ErrTruncated},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var d Decoder
			d.Init(DefaultTable, nil)
			if _, err := decodeAll(&d, unhex(t, tc.block)); err != tc.want {
				t.Errorf("%v, want %v", err, tc.want)
			}
		})
	}
}

func TestSizeUpdates(t *testing.T) {
	var d Decoder
	d.Init(0, nil)
	if _, err := decodeAll(&d, unhex(t, "400161016240016301643fe11f")); err != ErrSizeUpdate {
		t.Fatal(err)
	}
	if got := contents(&d.table); got != "c: d\na: b\n" {
		t.Fatalf("table %q", got)
	}
	// To what holds one entry, and back to the default.
	if got, err := decodeAll(&d, unhex(t, "3f033fe11fbe")); err != nil || got != "c: d\n" {
		t.Errorf("%q, %v", got, err)
	}
	// An entry larger than the table empties it.
	if got, err := decodeAll(&d, unhex(t, "3f03"+"400461616161016240016101")); err != ErrTruncated || got != "aaaa: b\n" {
		t.Errorf("%q, %v", got, err)
	}
	if d.table.count != 0 || d.table.size != 0 {
		t.Errorf("table %q, size %d", contents(&d.table), d.table.size)
	}
}

// TestNameOfAnEntryThatGoes: RFC 7541 section 4.4, a name taken from an entry that
// makes room for the field it names.
func TestNameOfAnEntryThatGoes(t *testing.T) {
	var d Decoder
	d.Init(DefaultTable, nil)
	d.table.resize(60)
	block := unhex(t, "4003 6162 63 01 64") // abc: d
	block = append(block, 0x7e, 12)         // abc again, which needs the whole table
	block = append(block, "twelve bytes"...)
	got, err := decodeAll(&d, block)
	if want := "abc: d\nabc: twelve bytes\n"; err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
	if got := contents(&d.table); got != "abc: twelve bytes\n" {
		t.Errorf("table %q", got)
	}
}

func TestNotesStayWithTheirEntry(t *testing.T) {
	var d Decoder
	d.Init(DefaultTable, nil)
	var f Field
	next := func() Field {
		t.Helper()
		if ok, err := d.Next(&f); !ok || err != nil {
			t.Fatal(ok, err)
		}
		return f
	}
	d.Begin(unhex(t, "4001610162 be 7e0163 be bf 0f2f0164 84"))
	next()
	d.Note(7, 1)
	if f := next(); f.NameTag != 7 || f.ValueTag != 1 {
		t.Errorf("the entry: %d %d", f.NameTag, f.ValueTag)
	}
	if f := next(); f.NameTag != 7 || f.ValueTag != 0 {
		t.Errorf("its name with another value, stored: %d %d", f.NameTag, f.ValueTag)
	}
	if f := next(); f.NameTag != 7 || f.ValueTag != 0 {
		t.Errorf("that one: %d %d", f.NameTag, f.ValueTag)
	}
	if f := next(); f.NameTag != 7 || f.ValueTag != 1 {
		t.Errorf("the first again: %d %d", f.NameTag, f.ValueTag)
	}
	if f := next(); f.NameTag != 7 || f.ValueTag != 0 || string(f.Value) != "d" {
		t.Errorf("its name with another value, not stored: %d %d", f.NameTag, f.ValueTag)
	}
	d.Note(9, 9) // it has no entry
	if f := next(); f.NameTag != 0 || f.Static != 4 || !f.Whole {
		t.Errorf("%+v", f)
	}
	d.Note(9, 9)
	if e := d.table.find(0); e.nameTag != 7 || e.valueTag != 0 {
		t.Errorf("the newest: %d %d", e.nameTag, e.valueTag)
	}
}

// reference is what golang.org/x/net makes of the same blocks. It allows size
// updates where its table happens to be empty, so blocks with one in the middle
// are for TestDecoderRefuses.
type reference struct {
	d    *xhpack.Decoder
	text strings.Builder
}

func newReference() *reference {
	r := &reference{}
	r.d = xhpack.NewDecoder(DefaultTable, func(f xhpack.HeaderField) {
		never := ""
		if f.Sensitive {
			never = " (never indexed)"
		}
		fmt.Fprintf(&r.text, "%s: %s%s\n", f.Name, f.Value, never)
	})
	return r
}

func (r *reference) decode(block []byte) (string, error) {
	r.text.Reset()
	_, err := r.d.Write(block)
	if closing := r.d.Close(); err == nil {
		err = closing
	}
	return r.text.String(), err
}

// compare decodes blocks with both and stops at the first error.
func compare(t *testing.T, blocks [][]byte) {
	t.Helper()
	var d Decoder
	d.Init(DefaultTable, nil)
	r := newReference()
	for i, block := range blocks {
		got, err := decodeAll(&d, block)
		want, wrong := r.decode(block)
		if err == ErrSizeUpdate || err == ErrInteger {
			return // stricter here
		}
		if err == nil && wrong != nil && strings.Contains(wrong.Error(), "MUST occur at the beginning") {
			return // a second update at the beginning, which section 4.2 allows: see Encoder.Begin
		}
		if (err == nil) != (wrong == nil) {
			t.Fatalf("block %d %x: %v, the reference says %v", i, block, err, wrong)
		}
		if err != nil {
			return
		}
		if got != want {
			t.Fatalf("block %d %x:\n%swant\n%s", i, block, got, want)
		}
		if d.table.size > d.table.max || cap(d.table.buf) > DefaultTable {
			t.Fatalf("block %d: size %d of %d, buffer %d", i, d.table.size, d.table.max, cap(d.table.buf))
		}
	}
}

// TestLikeTheReference decodes what the encoder of golang.org/x/net makes of many
// heads, with entries that come and go and tables that change their size.
func TestLikeTheReference(t *testing.T) {
	var out bytes.Buffer
	e := xhpack.NewEncoder(&out)
	var blocks [][]byte
	for i := range 2000 {
		if i%97 == 0 {
			e.SetMaxDynamicTableSize(uint32(i*31) % 4097)
		}
		out.Reset()
		for _, f := range []xhpack.HeaderField{
			{Name: ":method", Value: "POST"}, {Name: ":path", Value: fmt.Sprintf("/a/%d", i%50)},
			{Name: "x-trace", Value: strings.Repeat("é~<{\x7f", i%40)}, {Name: "user-agent", Value: "x/1"},
			{Name: fmt.Sprintf("x-%d", i%13), Value: fmt.Sprint(i % 200)},
			{Name: "authorization", Value: "secret", Sensitive: i%2 == 0},
		} {
			if err := e.WriteField(f); err != nil {
				t.Fatal(err)
			}
		}
		blocks = append(blocks, bytes.Clone(out.Bytes()))
	}
	compare(t, blocks)
}

// FuzzDecode cuts its input into blocks and holds the decoder against that of
// golang.org/x/net.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("\x82\x86\x84\x41\x0fwww.example.com"), uint8(5))
	f.Add([]byte("\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf\xbe\xbf"), uint8(24))
	f.Add([]byte("\x3f\x10\x40\x01a\x01b\x7e\x01c\xbe\xbf\x20\x3f\xe1\x1f\x40\x01a\x01b"), uint8(9))
	f.Add([]byte("?0@\x010\x010?00"), uint8(6))
	f.Fuzz(func(t *testing.T, input []byte, cut uint8) {
		var blocks [][]byte
		for n := int(cut) + 1; len(input) > n; input = input[n:] {
			blocks = append(blocks, input[:n])
		}
		compare(t, append(blocks, input))
	})
}

func FuzzHuffman(f *testing.F) {
	f.Add([]byte("\xf1\xe3\xc2\xe5\xf2:k\xa0\xab\x90\xf4\xff"))
	f.Fuzz(func(t *testing.T, input []byte) {
		got, err := appendDecoded(nil, input)
		want, wrong := xhpack.HuffmanDecodeToString(input)
		if (err == nil) != (wrong == nil) || err == nil && string(got) != want {
			t.Fatalf("%x: %q, %v; the reference says %q, %v", input, got, err, want, wrong)
		}
	})
}
