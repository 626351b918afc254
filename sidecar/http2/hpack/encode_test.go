package hpack

import (
	"strings"
	"testing"
)

// TestEncoderIsUnderstood by the decoder and by that of golang.org/x/net.
func TestEncoderIsUnderstood(t *testing.T) {
	var e Encoder
	var d Decoder
	e.Init(1)
	d.Init(DefaultTable, nil)
	r := newReference()
	long := strings.Repeat("v", 300)
	for range 3 {
		b := e.Begin(nil)
		b = e.Indexed(b, 3)
		b = e.Append(b, &Name{Text: []byte(":authority"), Static: 1, Key: 7}, []byte("example.com"), Repeating)
		b = e.Append(b, &Name{Text: []byte("x-long")}, []byte(long), Repeating)
		b = e.Append(b, &Name{Text: []byte("authorization"), Static: 23}, []byte("secret"), Never)
		b = e.Append(b, &Name{Text: []byte(strings.Repeat("n", 130))}, nil, Never)
		want := ":method: POST\n:authority: example.com\nx-long: " + long + "\nauthorization: secret (never indexed)\n" +
			strings.Repeat("n", 130) + ":  (never indexed)\n"
		if got, err := decodeAll(&d, b); err != nil || got != want {
			t.Errorf("%v\n%s", err, got)
		}
		if got, err := r.decode(b); err != nil || got != want {
			t.Errorf("the reference: %v\n%s", err, got)
		}
	}
}

func TestSizeUpdatesOfTheEncoder(t *testing.T) {
	for _, tc := range []struct {
		name  string
		sizes []uint32
		want  string
	}{
		{"none", nil, ""},
		{"the default again", []uint32{4096}, ""},
		{"larger than is used", []uint32{65536}, ""},
		{"smaller", []uint32{100}, "3f45"},
		{"none at all", []uint32{0}, "20"},
		{"smaller and back", []uint32{100, 4096}, "203fe11f"},
		{"smaller, smallest, larger", []uint32{100, 0, 200}, "203fa901"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var e Encoder
			e.Init(1)
			for _, n := range tc.sizes {
				e.SetLimit(n)
			}
			got, want := e.Begin(nil), unhex(t, tc.want)
			if string(got) != string(want) {
				t.Errorf("%x, want %x", got, want)
			}
			if again := e.Begin(nil); len(again) > 0 {
				t.Errorf("%x in the next block", again)
			}
		})
	}
}

// named is short for a Name without a key.
func named(text string) *Name { return &Name{Text: []byte(text)} }

func TestWhatRepeatsIsIndexed(t *testing.T) {
	var e Encoder
	e.Init(1)
	path := &Name{Text: []byte(":path"), Static: 4, Key: 1}
	trace := &Name{Text: []byte("trace"), Key: 2}
	for i, tc := range []struct {
		name  *Name
		value string
		how   Indexing
		want  string
	}{
		{path, "/a", Repeating, "04022f61"},                  // seen first
		{path, "/a", Repeating, "44022f61"},                  // stored
		{path, "/a", Repeating, "be"},                        // indexed
		{path, "/b", Repeating, "04022f62"},                  // another value
		{path, "/a", Literal, "04022f61"},                    // as asked for
		{path, "/a", Never, "14022f61"},                      //
		{trace, "1", Literal, "0005747261636501" + "31"},     // a name seen first
		{trace, "2", Literal, "4005747261636501" + "32"},     // stored
		{trace, "3", Literal, "0f2f01" + "33"},               // its name indexed
		{path, "/a", Repeating, "bf"},                        // moved by one
		{named("x"), "y", Literal, "0001780179"},             // without a key: not looked for
		{named("x"), "y", Literal, "0001780179"},             //
		{named("x"), "y", Never, "1001780179"},               //
		{named("x"), "y", Repeating, "0001780179"},           //
		{named("x"), "y", Repeating, "4001780179"},           //
		{named("x"), "y", Repeating, "be"},                   //
		{path, strings.Repeat("a", 600), Repeating, "large"}, // too large to be worth it
		{path, strings.Repeat("a", 600), Repeating, "large"}, //
		{path, strings.Repeat("a", 600), Repeating, "large"}, //
		{&Name{Text: []byte("z"), Key: 3}, "", Literal, "00017a00"},
	} {
		got := e.Append(nil, tc.name, []byte(tc.value), tc.how)
		if tc.want == "large" {
			if len(got) < 600 || got[0] != 4 {
				t.Errorf("%d: %x", i, got[:8])
			}
			continue
		}
		if want := unhex(t, tc.want); string(got) != string(want) {
			t.Errorf("%d: %s: %s: %x, want %x", i, tc.name.Text, tc.value, got, want)
		}
	}
	for range 3 { // larger than the table: what is in it stays
		e.table.max = e.table.size
		if got := e.Append(nil, path, []byte(strings.Repeat("b", 400)), Repeating); got[0] != 4 || e.table.count == 0 {
			t.Errorf("%x, %d entries", got[:4], e.table.count)
		}
	}
	e.SetLimit(0)
	if got := e.Append(e.Begin(nil), path, []byte("/a"), Repeating); string(got) != "\x20\x04\x02/a" {
		t.Errorf("without a table: %x", got)
	}
	if size, memory := e.Table(); size != 0 || memory > 1024 {
		t.Errorf("size %d, %d bytes", size, memory)
	}
	var s Encoder
	s.Init(1)
	s.WithoutTable()
	for range 3 {
		if got := s.Append(s.Begin(nil), path, []byte("/a"), Repeating); string(got) != "\x04\x02/a" {
			t.Errorf("a table not to be used: %x", got)
		}
	}
}

// FuzzEncode sends fields drawn from the input, with limits that change, and has both
// decoders read them.
func FuzzEncode(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x00\x01\x02\x03\xf0\x10\x00\x01\x02\x03\xff\x00\x01\x00\x01\x00\x01"))
	f.Add([]byte(strings.Repeat("\x01\x11\x21\x31\x41\x51", 40)))
	f.Fuzz(func(t *testing.T, input []byte) {
		var e Encoder
		var d Decoder
		e.Init(1)
		d.Init(DefaultTable, nil)
		r := newReference()
		names := [...]*Name{{Text: []byte(":path"), Static: 4, Key: 1}, {Text: []byte("trace"), Key: 2}, named("x-one"), named("x-two")}
		for len(input) > 0 {
			var want strings.Builder
			block := e.Begin(nil)
			n := min(len(input), 6)
			for _, c := range input[:n] {
				if c >= 0xf0 {
					e.SetLimit(uint32(c&15) * 40)
					r.d.SetAllowedMaxDynamicTableSize(DefaultTable)
					continue
				}
				name, how := names[c&3], Indexing(c>>2)%3
				value := strings.Repeat("v", int(c>>4)*9)
				block = e.Append(block, name, []byte(value), how)
				want.WriteString(string(name.Text) + ": " + value)
				if how == Never {
					want.WriteString(" (never indexed)")
				}
				want.WriteByte('\n')
			}
			input = input[n:]
			if got, err := decodeAll(&d, block); err != nil || got != want.String() {
				t.Fatalf("%x: %v\n%swant\n%s", block, err, got, want.String())
			}
			if got, err := r.decode(block); err != nil || got != want.String() {
				t.Fatalf("the reference: %x: %v\n%swant\n%s", block, err, got, want.String())
			}
			if e.table.size != d.table.size || contents(&e.table) != contents(&d.table) {
				t.Fatalf("the tables differ: %q and %q", contents(&e.table), contents(&d.table))
			}
		}
	})
}

// TestSteadyStateAllocatesNothing in either direction, with entries coming and going.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	var e Encoder
	var d Decoder
	e.Init(1)
	d.Init(DefaultTable, nil)
	coded := unhex(t, "4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf") // Huffman, stored
	var block []byte
	value := make([]byte, 40)
	var f Field
	i := 0
	once := func() {
		block = e.Begin(block[:0])
		i++
		for j := range 20 {
			value[0], value[1], value[2] = byte(i), byte(i>>8), byte(j)
			block = e.Append(block, &Name{Text: []byte("x-more"), Key: 1}, value, Repeating)
			block = e.Append(block, &Name{Text: []byte("x-more"), Key: 1}, value, Repeating)
		}
		block = append(block, coded...)
		e.table.insert([]byte("custom-key"), []byte("custom-value"))
		for d.Begin(block); ; {
			if ok, err := d.Next(&f); err != nil {
				t.Fatal(err)
			} else if !ok {
				return
			}
		}
	}
	for range 50 {
		once()
	}
	if allocs := testing.AllocsPerRun(200, once); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	if contents(&e.table) != contents(&d.table) {
		t.Error("the tables differ")
	}
}
