package policy

import (
	"fmt"
	"os"
	"regexp"
	"testing"
)

// TestManualNamesTheStatusesOfReasons holds the page on gRPC against the table.
func TestManualNamesTheStatusesOfReasons(t *testing.T) {
	page, err := os.ReadFile("../examples/manual/grpc.md")
	if err != nil {
		t.Fatal(err)
	}
	byCode := map[string]Reason{}
	for _, r := range Reasons() {
		byCode[r.Info().Code] = r
	}
	found := 0
	for _, row := range regexp.MustCompile("(?m)^\\| (\\d+ `[A-Z_]+`) \\| (.+) \\|$").FindAllStringSubmatch(string(page), -1) {
		for _, code := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(row[2], -1) {
			r, known := byCode[code[1]]
			if s := GRPCStatusOf(r.Info().GRPC); !known || row[1] != fmt.Sprintf("%d `%s`", s.Code(), s) {
				t.Errorf("%s stands under %s, and is %d %s", code[1], row[1], s.Code(), s)
			}
			found++
		}
	}
	if found < 10 {
		t.Errorf("only %d reasons found", found)
	}
}
