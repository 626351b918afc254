package message

import (
	"slices"
	"strings"
	"testing"
)

func TestIDOf(t *testing.T) {
	for id := NameOther + 1; id < nameCount; id++ {
		name := id.String()
		if name == "" {
			t.Fatalf("name %d has no text", id)
		}
		for _, variant := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
			if got := IDOf(variant); got != id {
				t.Errorf("IDOf(%q) = %d, want %d", variant, got, id)
			}
			if got := IDOf([]byte(variant)); got != id {
				t.Errorf("IDOf([]byte %q) = %d, want %d", variant, got, id)
			}
		}
		for _, other := range []string{name + "x", name[1:], "x" + name, strings.Replace(name, "-", "_", 1) + "_"} {
			if got := IDOf(other); got == id {
				t.Errorf("IDOf(%q) = %s", other, name)
			}
		}
	}
	if IDOf("") != NameOther || IDOf("content\x0dlength") != NameOther {
		t.Error("a name that is not in the table was found")
	}
}

// TestNameTableIsSparse keeps the look-up at few comparisons.
func TestIDOfLower(t *testing.T) {
	for id := NameOther + 1; id < nameCount; id++ {
		name := strings.ToLower(id.String())
		if got := IDOfLower([]byte(name)); got != id || id.Lower() != name {
			t.Errorf("%s: %s, %q", name, got, id.Lower())
		}
		if got := IDOfLower([]byte(id.String())); got != NameOther {
			t.Errorf("%s: %s", id, got)
		}
	}
	for _, name := range []string{"", "x", "content-lengtH", "content-lengt"} {
		if got := IDOfLower([]byte(name)); got != NameOther {
			t.Errorf("%q: %s", name, got)
		}
	}
}

func TestNameTableIsSparse(t *testing.T) {
	for id := NameOther + 1; id < nameCount; id++ {
		steps := 1
		for i := nameHash(id.String()); nameTable[i] != id; i++ {
			steps++
		}
		if steps > 3 {
			t.Errorf("%s takes %d comparisons", id, steps)
		}
	}
}

func TestTraits(t *testing.T) {
	for _, tc := range []struct {
		id            NameID
		hop, trailing bool
	}{
		{NameOther, false, true}, {NameConnection, true, false}, {NameContentLength, true, false},
		{NameHost, false, false}, {NameAuthorization, false, false}, {NameETag, false, true},
		{NameGRPCStatus, false, true}, {NameTrailer, false, false},
	} {
		if tc.id.HopByHop() != tc.hop || tc.id.Trailing() != tc.trailing {
			t.Errorf("%s: hop-by-hop %v, trailing %v", tc.id, tc.id.HopByHop(), tc.id.Trailing())
		}
	}
}

// TestIsValue compares the eight-at-a-time check with the definition, for every
// byte at every place.
func TestIsValue(t *testing.T) {
	for length := range 20 {
		for at := range length {
			for c := range 256 {
				b := []byte(strings.Repeat("\xffa ~", 5)[:length])
				b[at] = byte(c)
				want := c == '\t' || c >= 0x20 && c != 0x7f
				if IsValue(b) != want {
					t.Fatalf("IsValue(%q) = %v", b, !want)
				}
			}
		}
	}
}

func TestTokenAndTarget(t *testing.T) {
	const token = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	for c := range 256 {
		s := string([]byte{byte(c)})
		if IsToken(s) != strings.Contains(token, s) {
			t.Errorf("IsToken(%q)", s)
		}
		if IsTarget(s) != (c > 0x20 && c < 0x7f && c != '#') {
			t.Errorf("IsTarget(%q)", s)
		}
	}
	if IsToken("") || TokenLen([]byte("ab:c")) != 2 {
		t.Error("token length")
	}
}

func fieldsOf(h *Head) (all []string) {
	for _, f := range h.Fields() {
		if !f.Deleted() {
			all = append(all, string(h.Name(f))+"="+string(h.Value(f)))
		}
	}
	return all
}

func TestEdits(t *testing.T) {
	v := func(s string) []byte { return []byte(s) }
	for _, tc := range []struct {
		name string
		edit func(*Head)
		want []string
	}{
		{"add", func(h *Head) { h.Add(NameVia, "", v("x")) }, []string{"Accept=a", "X-One=1", "accept=b", "Via=x"}},
		{"add by name", func(h *Head) { h.Add(NameOther, "accept", v("c")); h.Del(NameAccept) }, []string{"X-One=1"}},
		{"set", func(h *Head) { h.Set(NameAccept, "", v("c")) }, []string{"X-One=1", "Accept=c"}},
		{"set by name", func(h *Head) { h.Set(NameOther, "x-one", v("2")) }, []string{"Accept=a", "accept=b", "x-one=2"}},
		{"set string", func(h *Head) { h.SetString(NameAccept, "", "c") }, []string{"X-One=1", "Accept=c"}},
		{"append", func(h *Head) { h.Append(NameAccept, "", v("c")) }, []string{"X-One=1", "Accept=a, b, c"}},
		{"append to nothing", func(h *Head) { h.Append(NameXForwardedFor, "", v("::1")) }, []string{"Accept=a", "X-One=1", "accept=b", "X-Forwarded-For=::1"}},
		{"append by name", func(h *Head) { h.Append(NameOther, "X-One", v("2")) }, []string{"Accept=a", "accept=b", "X-One=1, 2"}},
		{"del", func(h *Head) { h.Del(NameAccept) }, []string{"X-One=1"}},
		{"del nothing", func(h *Head) { h.Del(NameOther) }, []string{"Accept=a", "X-One=1", "accept=b"}},
		{"del by name", func(h *Head) { h.DelName("X-ONE"); h.DelName("ACCEPT") }, nil},
		{"controls", func(h *Head) { h.Set(NameAccept, "", v(" a\r\nX: b\x00\t")) }, []string{"X-One=1", "Accept=a  X: b"}},
		{"name not a token", func(h *Head) { h.Add(NameOther, "a b", v("c")); h.Append(NameOther, "", v("c")) }, []string{"Accept=a", "X-One=1", "accept=b"}},
		{"hop by hop", func(h *Head) { h.AddString(NameConnection, "", "close"); h.Append(NameTE, "", v("x")) }, []string{"Accept=a", "X-One=1", "accept=b"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := &Head{}
			h.AddString(NameAccept, "", "a")
			h.AddString(NameOther, "X-One", "1")
			h.AddString(NameOther, "accept", "b")
			tc.edit(h)
			if got := fieldsOf(h); !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if h.Len() != len(tc.want) {
				t.Errorf("%d fields, want %d", h.Len(), len(tc.want))
			}
		})
	}
}

func TestReading(t *testing.T) {
	h := &Head{}
	h.SetRequest("GET", "/p?q", "a:80")
	h.AddString(NameCookie, "", "a=1")
	h.AddString(NameCookie, "", "b=2")
	h.AddString(NameOther, "X-Odd", "3")
	h.SetUpgrade("websocket")
	if v, ok := h.Get(NameCookie); !ok || string(v) != "a=1" {
		t.Errorf("Get: %q %v", v, ok)
	}
	if v, ok := h.Get(NameHost); !ok || string(v) != "a:80" {
		t.Errorf("Get host: %q %v", v, ok)
	}
	if _, ok := h.Get(NameVia); ok {
		t.Error("Get found what is not there")
	}
	if v, ok := h.Lookup("x-ODD"); !ok || string(v) != "3" {
		t.Errorf("Lookup: %q %v", v, ok)
	}
	if v, ok := h.Lookup("COOKIE"); !ok || string(v) != "a=1" {
		t.Errorf("Lookup: %q %v", v, ok)
	}
	if _, ok := h.Lookup("x-even"); ok {
		t.Error("Lookup found what is not there")
	}
	n := 0
	h.Values(NameCookie, func([]byte) bool { n++; return true })
	h.Values(NameCookie, func([]byte) bool { n++; return false })
	if n != 3 {
		t.Errorf("Values yielded %d times", n)
	}
	if !h.IsRequest() || string(h.MethodBytes()) != "GET" || string(h.PathBytes()) != "/p?q" ||
		string(h.TargetBytes()) != "/p?q" || string(h.UpgradeBytes()) != "websocket" {
		t.Errorf("request line %q %q", h.MethodBytes(), h.PathBytes())
	}
	h.SetString(NameHost, "", "b c\r\n")
	if string(h.AuthorityBytes()) != "bc" {
		t.Errorf("authority %q", h.AuthorityBytes())
	}
	h.SetStatus(204)
	if h.IsRequest() || len(h.MethodBytes()) != 0 || h.Status != 204 {
		t.Error("not a response")
	}
}

// TestCloneSharesNothing: a clone outlives the head it was made of.
func TestTrimGivesUpLargeMemory(t *testing.T) {
	var h Head
	h.AddString(NameOther, "small", "value")
	h.Reset()
	h.Trim(1 << 10)
	if cap(h.buf) == 0 || cap(h.fields) == 0 {
		t.Error("the memory of a small head was given up")
	}
	for range 100 {
		h.AddString(NameOther, "large", strings.Repeat("x", 100))
	}
	h.Reset()
	h.Trim(1 << 10)
	if cap(h.buf) != 0 || cap(h.fields) != 0 {
		t.Errorf("%d bytes and %d fields kept", cap(h.buf), cap(h.fields))
	}
	h.AddString(NameOther, "again", "value")
	if v, _ := h.Lookup("again"); string(v) != "value" {
		t.Errorf("a trimmed head holds %q", v)
	}
}

func TestCloneSharesNothing(t *testing.T) {
	h := &Head{}
	h.SetRequest("GET", "/", "a")
	h.AddString(NameCookie, "", "a=1")
	c := h.Clone()
	h.Reset()
	h.SetRequest("POST", "/other", "b")
	h.AddString(NameCookie, "", "xyz")
	if string(c.MethodBytes()) != "GET" || !slices.Equal(fieldsOf(c), []string{"Cookie=a=1"}) {
		t.Errorf("clone changed: %q %q", c.MethodBytes(), fieldsOf(c))
	}
	if h.Reset(); h.Len() != 0 || len(h.MethodBytes()) != 0 {
		t.Error("not empty after Reset")
	}
}

// TestEditsAllocateNothing once the head has grown to its size.
func TestEditsAllocateNothing(t *testing.T) {
	h := &Head{}
	raw := []byte("GET / HTTP/1.1\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n")
	addr := []byte("10.0.0.1")
	allocs := testing.AllocsPerRun(100, func() {
		h.Reset()
		h.Load(raw)
		h.AppendField(Field{Name: Span{16, 31}, Value: Span{33, 40}, ID: NameXForwardedFor})
		h.Append(NameXForwardedFor, "", addr)
		h.Set(NameXRequestID, "", addr)
		h.AddString(NameXForwardedProto, "", "http")
		if _, ok := h.Lookup("x-request-id"); !ok {
			t.Error("lost")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func FuzzIDOf(f *testing.F) {
	f.Add("Content-Length")
	f.Fuzz(func(t *testing.T, name string) {
		if id := IDOf(name); id != NameOther && !strings.EqualFold(name, id.String()) {
			t.Errorf("IDOf(%q) = %s", name, id)
		}
	})
}

func BenchmarkHead(b *testing.B) {
	h := &Head{}
	raw := []byte("GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n")
	value := []byte("10.0.0.1")
	b.ReportAllocs()
	for b.Loop() {
		h.Reset()
		h.Load(raw)
		h.Append(NameXForwardedFor, "", value)
		h.Set(NameXRequestID, "", value)
	}
}

func BenchmarkIDOf(b *testing.B) {
	names := [...][]byte{[]byte("Content-Length"), []byte("user-agent"), []byte("X-Custom-Header"), []byte("Accept")}
	i := 0
	for b.Loop() {
		IDOf(names[i&3])
		i++
	}
}

func TestSwap(t *testing.T) {
	var a, b Head
	a.SetRequest("GET", "/a", "a")
	a.AddString(NameCookie, "", "a=1")
	b.SetStatus(204)
	b.Framing.Kind = Length
	a.Swap(&b)
	if a.Status != 204 || a.Framing.Kind != Length || len(a.Fields()) != 0 {
		t.Errorf("a holds %+v", a)
	}
	if string(b.PathBytes()) != "/a" || !slices.Equal(fieldsOf(&b), []string{"Cookie=a=1"}) || b.Framing.Kind != NoBody {
		t.Errorf("b holds %q %q", b.PathBytes(), fieldsOf(&b))
	}
	a.AddString(NameVia, "", "x")
	if !slices.Equal(fieldsOf(&b), []string{"Cookie=a=1"}) {
		t.Error("they share memory")
	}
}
