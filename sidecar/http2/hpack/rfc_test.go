package hpack

import (
	"encoding/hex"
	"strings"
	"testing"
)

// unhex reads the hexadecimal dumps of the RFC.
func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// decodeAll returns the fields of a block as "name: value" lines.
func decodeAll(d *Decoder, block []byte) (string, error) {
	var s strings.Builder
	var f Field
	d.Begin(block)
	for {
		ok, err := d.Next(&f)
		if !ok {
			return s.String(), err
		}
		s.Write(f.Name)
		s.WriteString(": ")
		s.Write(f.Value)
		if f.Sensitive {
			s.WriteString(" (never indexed)")
		}
		s.WriteByte('\n')
	}
}

// contents returns the dynamic table, the newest entry first.
func contents(t *table) string {
	var s strings.Builder
	for i := range t.count {
		name, value := t.bytes(t.find(i))
		s.WriteString(string(name) + ": " + string(value) + "\n")
	}
	return s.String()
}

// step of an example: a block, what it means, and the table after it.
type step struct {
	block, fields, table string
	size                 int
}

// TestExamplesOfTheRFC runs RFC 7541 appendix C.
func TestExamplesOfTheRFC(t *testing.T) {
	const (
		date1 = "Mon, 21 Oct 2013 20:13:21 GMT"
		date2 = "Mon, 21 Oct 2013 20:13:22 GMT"
		first = ":status: 302\ncache-control: private\ndate: " + date1 + "\nlocation: https://www.example.com\n"
		third = ":status: 200\ncache-control: private\ndate: " + date2 + "\nlocation: https://www.example.com\n" +
			"content-encoding: gzip\nset-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n"
		get1    = ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n"
		get2    = get1 + "cache-control: no-cache\n"
		get3    = ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value\n"
		tableG1 = ":authority: www.example.com\n"
		tableG2 = "cache-control: no-cache\n" + tableG1
		tableG3 = "custom-key: custom-value\n" + tableG2
		tableR1 = "location: https://www.example.com\ndate: " + date1 + "\ncache-control: private\n:status: 302\n"
		tableR2 = ":status: 307\nlocation: https://www.example.com\ndate: " + date1 + "\ncache-control: private\n"
		tableR3 = "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\ncontent-encoding: gzip\ndate: " + date2 + "\n"
	)
	second := strings.Replace(first, "302", "307", 1)
	for _, tc := range []struct {
		name  string
		size  int
		steps []step
	}{
		{"C.2.1", 4096, []step{{"400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
			"custom-key: custom-header\n", "custom-key: custom-header\n", 55}}},
		{"C.2.2", 4096, []step{{"040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path\n", "", 0}}},
		{"C.2.3", 4096, []step{{"1008 7061 7373 776f 7264 0673 6563 7265 74", "password: secret (never indexed)\n", "", 0}}},
		{"C.2.4", 4096, []step{{"82", ":method: GET\n", "", 0}}},
		{"C.3", 4096, []step{
			{"8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", get1, tableG1, 57},
			{"8286 84be 5808 6e6f 2d63 6163 6865", get2, tableG2, 110},
			{"8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", get3, tableG3, 164},
		}},
		{"C.4", 4096, []step{
			{"8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", get1, tableG1, 57},
			{"8286 84be 5886 a8eb 1064 9cbf", get2, tableG2, 110},
			{"8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", get3, tableG3, 164},
		}},
		{"C.5", 256, []step{
			{"4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32" +
				"3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", first, tableR1, 222},
			{"4803 3330 37c1 c0bf", second, tableR2, 222},
			{"88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970" +
				"7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61" +
				"6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31", third, tableR3, 215},
		}},
		{"C.6", 256, []step{
			{"4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad" +
				"1718 63c7 8f0b 97c8 e9ae 82ae 43d3", first, tableR1, 222},
			{"4883 640e ffc1 c0bf", second, tableR2, 222},
			{"88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2" +
				"e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
				third, tableR3, 215},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var d Decoder
			d.Init(DefaultTable, nil)
			d.table.resize(tc.size)
			for i, s := range tc.steps {
				fields, err := decodeAll(&d, unhex(t, s.block))
				if err != nil || fields != s.fields {
					t.Errorf("block %d: %v\n%swant\n%s", i+1, err, fields, s.fields)
				}
				if got := contents(&d.table); got != s.table || d.table.size != s.size {
					t.Errorf("table %d: size %d, want %d\n%swant\n%s", i+1, d.table.size, s.size, got, s.table)
				}
			}
		})
	}
}

// TestIntegers runs RFC 7541 appendix C.1 both ways, and what must be refused.
func TestIntegers(t *testing.T) {
	for _, tc := range []struct {
		n    int
		bits uint
		text string
	}{
		{10, 5, "0a"}, {1337, 5, "1f9a0a"}, {42, 8, "2a"}, {0, 4, "00"}, {14, 4, "0e"}, {15, 4, "0f00"},
		{142, 4, "0f7f"}, {143, 4, "0f8001"}, {maxInteger, 7, "7f81ffff7f"},
	} {
		b := appendInteger(nil, 0, tc.bits, tc.n)
		if hex.EncodeToString(b) != tc.text {
			t.Errorf("%d in %d bits: %x, want %s", tc.n, tc.bits, b, tc.text)
		}
		n, rest, err := readInteger(append(b, 0xee), tc.bits)
		if err != nil || int(n) != tc.n || len(rest) != 1 {
			t.Errorf("%s: %d, %v, %d bytes left", tc.text, n, err, len(rest))
		}
	}
	for text, want := range map[string]error{
		"7f": ErrTruncated, "7f80": ErrTruncated,
		"7f82ffff7f": ErrInteger, "7f8080808001": ErrInteger, "7fffffffff7f": ErrInteger,
		"7f808080808000": ErrInteger, "7f8080808000": nil, // zeros that mean nothing, a few of them
	} {
		if _, _, err := readInteger(unhex(t, text), 7); err != want {
			t.Errorf("%s: %v, want %v", text, err, want)
		}
	}
}
