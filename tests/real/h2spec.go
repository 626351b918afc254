package real

import (
	"encoding/xml"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// H2specOptions choose what h2spec does. The zero value runs all of its cases over
// cleartext with prior knowledge.
type H2specOptions struct {
	// TLS offers h2 by ALPN; the server's certificate is not verified.
	TLS bool
	// Strict has the cases that RFC 9113 only recommends, too.
	Strict bool
	// Sections are those to run, as in "http2/6.5"; none: all.
	Sections []string
}

// H2specReport is the outcome of one run.
type H2specReport struct {
	Passed int
	// Failed has a line for each case that failed, Skipped for each that did not run.
	Failed, Skipped []string
}

// H2spec runs h2spec, the conformance test of HTTP/2 servers, against an address. It
// blocks until the run has ended, which takes some tenths of a second where the server
// answers as it should, and two seconds more for each case that it leaves unanswered.
func H2spec(t testing.TB, address string, o H2specOptions) H2specReport {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatalf("h2spec: %v", err)
	}
	report := filepath.Join(shortTempDir(t), "report.xml")
	args := append(o.Sections, "--host", host, "--port", port, "--junit-report", report)
	if o.TLS {
		args = append(args, "--tls", "--insecure")
	}
	if o.Strict {
		args = append(args, "--strict")
	}
	out := Run(t, 5*time.Minute, Tool(t, "h2spec"), args...)
	data, err := os.ReadFile(report)
	if err != nil {
		t.Fatalf("h2spec: exit code %d without a report\n%s%s", out.Code, out.Stdout, out.Stderr)
	}
	r, err := parseH2spec(data)
	if err != nil {
		t.Fatalf("h2spec: its report: %v", err)
	}
	return r
}

// parseH2spec reads a report in JUnit's form.
func parseH2spec(data []byte) (r H2specReport, err error) {
	var all struct {
		Suites []struct {
			Cases []struct {
				Package string  `xml:"package,attr"`
				Name    string  `xml:"classname,attr"`
				Failure *string `xml:"failure"`
				Error   *string `xml:"error"`
				Skipped *string `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(data, &all); err != nil {
		return r, err
	}
	for _, s := range all.Suites {
		for _, c := range s.Cases {
			line := fmt.Sprintf("%s: %s", c.Package, c.Name)
			switch {
			case c.Failure != nil:
				r.Failed = append(r.Failed, line+": "+oneLine(*c.Failure))
			case c.Error != nil:
				r.Failed = append(r.Failed, line+": "+oneLine(*c.Error))
			case c.Skipped != nil:
				r.Skipped = append(r.Skipped, line)
			default:
				r.Passed++
			}
		}
	}
	return r, nil
}

func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' }), "; ")
}
