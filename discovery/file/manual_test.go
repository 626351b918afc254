package file

import (
	"os"
	"regexp"
	"testing"
)

// The manual's files are read, and the broken one is refused in the manual's words.
func TestManual(t *testing.T) {
	page, err := os.ReadFile("../../examples/manual/discovery.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```([a-z ]+)\n(.*?)^```$").FindAllStringSubmatch(string(page), -1)
	read, refused := 0, 0
	for i, b := range blocks {
		switch b[1] {
		case "yaml endpoints", "json endpoints":
			if endpoints, err := parse("web-endpoints.yaml", b[2]); err != nil || len(endpoints) != 2 {
				t.Errorf("%v in\n%s", err, b[2])
			}
			read++
		case "yaml endpoints broken":
			if _, err := parse("web-endpoints.yaml", b[2]); err == nil || err.Error()+"\n" != blocks[i+1][2] {
				t.Errorf("got\n%v\nwant\n%s", err, blocks[i+1][2])
			}
			refused++
		}
	}
	if read != 2 || refused != 1 {
		t.Errorf("%d files read, %d refused", read, refused)
	}
}
