package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/tests/real"
)

// manualBlocks returns the blocks of code of a language from a page of the manual that
// hold a text.
func manualBlocks(t testing.TB, page, language, with string) (found []string) {
	t.Helper()
	text, err := os.ReadFile("../../examples/manual/" + page)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?ms)^( *)```([a-z]+)\n(.*?)^ *```$").FindAllStringSubmatch(string(text), -1) {
		if m[2] == language && strings.Contains(m[3], with) {
			lines := strings.ReplaceAll("\n"+m[3], "\n"+m[1], "\n") // within a list item
			found = append(found, strings.TrimPrefix(lines, "\n"))
		}
	}
	if len(found) == 0 {
		t.Fatalf("%s shows no %s with %q", page, language, with)
	}
	return found
}

// TestManualOfSPIRE: the commands that the manual tells operators to run make what its
// configurations ask for.
func TestManualOfSPIRE(t *testing.T) {
	t.Parallel()
	domain := real.SPIRE(t, real.SPIREOptions{TrustDomain: "example.org"})
	partner := real.SPIRE(t, real.SPIREOptions{TrustDomain: "partner.example"})
	site := strings.NewReplacer("unix:uid:1000", fmt.Sprint("unix:uid:", os.Getuid()),
		"https://spire.partner.example:8443", partner.BundleEndpoint(),
		"partner.json", partner.SaveBundle("partner.json"),
		"unix:///run/spire/agent.sock", domain.Socket)
	for _, block := range manualBlocks(t, "identity.md", "sh", "spire-server") {
		for line := range strings.Lines(site.Replace(block)) {
			domain.Server(strings.Fields(strings.TrimPrefix(line, "spire-server "))...)
		}
	}
	for _, text := range manualBlocks(t, "identity.md", "yaml", "spiffe: {socket: unix:///run/spire/agent.sock") {
		want := "/web"
		switch {
		case strings.Contains(text, "hint: shop"):
			want = "/shop"
		case !strings.Contains(text, "hint: web") && !strings.Contains(text, "id: "):
			continue // the first of several, which may be either
		}
		if !strings.Contains(text, "workload:") {
			text += "workload: {service: web, address: 127.0.0.1:8000, listen: 0.0.0.0:20000}\n"
		}
		text = strings.NewReplacer("0.0.0.0:20000", "127.0.0.1:0", "127.0.0.1:9191", "127.0.0.1:0").Replace(site.Replace(text))
		p := start(t, "the manual's "+want, text)
		eventually(t, patience, "the identity that the manual promises", func() error {
			if v := p.identityView(); v.ID != domain.ID(want) || len(v.Bundles) != 2 {
				return fmt.Errorf("%+v", v)
			}
			return nil
		})
	}
}

// TestManualPerHost: the manual's host runs as written, and its names are those that the
// manual gives.
func TestManualPerHost(t *testing.T) {
	t.Parallel()
	domain := real.SPIRE(t, real.SPIREOptions{TrustDomain: "example.org"})
	for _, name := range []string{"web", "batch"} {
		domain.Register("/"+name, real.SPIREEntry{Hint: name})
	}
	site := regexp.MustCompile(`(listen|bind): [0-9.]+:\d+`)
	for _, text := range manualBlocks(t, "per-host.md", "yaml", "workloads:") {
		dir := shortDir(t)
		for _, user := range []string{"web", "batch"} {
			if err := os.Mkdir(filepath.Join(dir, user), 0o750); err != nil {
				t.Fatal(err)
			}
		}
		text = strings.NewReplacer("unix:///run/spire/agent.sock", domain.Socket, "/run/larboard", dir).Replace(text)
		p := start(t, "the manual's host", site.ReplaceAllString(text, "$1: 127.0.0.1:0"))
		eventually(t, patience, "both identities", func() error {
			if all := p.identityViews(); all["web"].ID == "" || all["batch"].ID == "" {
				return errors.New("not yet")
			}
			return nil
		})
		for _, name := range []string{"web.inbound", "web.api", "batch.inbound", "batch.api"} {
			socket, ok := strings.CutPrefix(p.address(name), "unix://")
			if info, err := os.Stat(socket); ok && (err != nil || info.Mode().Perm() != 0o666) {
				t.Errorf("%s: %v %v", socket, info, err)
			}
		}
	}
}
