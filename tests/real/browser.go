package real

import (
	"os"
	"path/filepath"
	"testing"
)

// Browser is a running Chromium without a window.
type Browser struct{ log string }

// Browse opens a page in Chromium, which takes about a second. What the page does is for
// its script, and what came of it is for the script to tell: to the server of the page,
// as a rule. Certificates are not verified, and nothing is asked of other hosts. The
// browser ends with the test.
func Browse(t testing.TB, url string) *Browser {
	t.Helper()
	dir := shortTempDir(t)
	b := &Browser{filepath.Join(dir, "chromium.log")}
	p, err := startProcess(Installed(t, "chromium"), b.log, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
		"--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--ignore-certificate-errors", "--user-data-dir="+filepath.Join(dir, "profile"), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	return b
}

// Log is what the browser has written, of which little is of interest.
func (b *Browser) Log() string {
	text, err := os.ReadFile(b.log)
	if err != nil {
		return err.Error()
	}
	return tail(string(text), 20)
}
