package capture

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/tests/real"
)

// Every command that the manual's page shows does what it is shown for.
func TestManual(t *testing.T) {
	page, err := os.ReadFile("../../examples/manual/capture.md")
	if err != nil {
		t.Fatal(err)
	}
	n, shown := real.Namespace(t), 0
	for _, block := range regexp.MustCompile("(?ms)^```console\n(.*?)^```$").FindAllStringSubmatch(string(page), -1) {
		for line := range strings.Lines(block[1]) {
			words := strings.Fields(strings.Replace(line, "--user larboard", "--user 1337", 1)) // no such user need be here
			switch {
			case len(words) > 1 && words[0] == "larboard" && words[1] == "capture":
				if ran := larboard(n, nil, words[1:]...); ran.Code != 0 {
					t.Errorf("%s: exit code %d\n%s%s", strings.TrimSpace(line), ran.Code, ran.Stdout, ran.Stderr)
				}
			case words[0] == "nft" || words[0] == "iptables-save":
				n.MustRun(words[0], words[1:]...)
			default:
				continue
			}
			shown++
		}
	}
	if shown < 8 {
		t.Errorf("only %d commands were found", shown)
	}
	// Every option has its place on the page.
	help := larboard(n, nil, "capture", "--help").Stdout
	for _, m := range regexp.MustCompile(`(?m)^ +(?:-\w, )?(--[a-z-]+[a-z0-9])`).FindAllStringSubmatch(help, -1) {
		if m[1] != "--help" && !strings.Contains(string(page), m[1]) {
			t.Errorf("the page does not name %s", m[1])
		}
	}
}
