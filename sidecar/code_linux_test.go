package sidecar

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestCodeOf(t *testing.T) {
	const anonymous = "Size:                  4 kB\nRss:                   4 kB\nAnonymous:             "
	maps := `00400000-0135d000 r-xp 00000000 fe:00 11446730                           /larboard
` + anonymous + `0 kB
VmFlags: rd ex mr mw me
0135d000-024e5000 r--p 00f5d000 fe:00 11446730                           /larboard
` + anonymous + `0 kB
024e5000-024f0000 r--p 020e5000 fe:00 11446730                           /larboard
` + anonymous + `44 kB
024f0000-025a6000 rw-p 020f0000 fe:00 11446730                           /larboard
` + anonymous + `0 kB
c000000000-c000400000 rw-p 00000000 00:00 0
` + anonymous + `0 kB
7f00-7f10 r--p 00000000 fe:00 12                                         /lib/other
` + anonymous + `0 kB
7ffd1000-7ffd3000 r-xp 00000000 00:00 0                                  [vdso]
` + anonymous + `0 kB
nonsense-x r-xp 0 0 0 /larboard
` + anonymous + `0 kB
`
	got := codeOf(strings.NewReader(maps), "/larboard")
	if want := []mapping{{0x400000, 0x135d000}, {0x135d000, 0x24e5000}}; !slices.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if len(codeOf(file, self)) < 2 {
		t.Error("our own code is not found")
	}
	// What was forgotten comes back as it was.
	for range 3 {
		forgetCode()
		if got := codeOf(strings.NewReader(maps), "/larboard"); len(got) != 2 {
			t.Errorf("%x", got)
		}
	}
}
