package kubernetes

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/tests/real"
)

// walk does what a section of the manual's walk-through shows: its manifests become files, its
// commands are run.
func (c cluster) walk(section string) {
	c.t.Helper()
	page, err := os.ReadFile("../../examples/manual/walkthrough.md")
	if err != nil {
		c.t.Fatal(err)
	}
	_, text, found := strings.Cut(string(page), "\n## "+section+"\n")
	if !found {
		c.t.Fatalf("the page has no section %q", section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	dir := c.desk()
	blocks := regexp.MustCompile("(?ms)^```(yaml|sh) ?(\\w*)\n(.*?)^```$").FindAllStringSubmatch(text, -1)
	if len(blocks) == 0 {
		c.t.Fatalf("the section %q shows nothing", section)
	}
	for _, b := range blocks {
		if b[1] == "yaml" {
			if err := os.WriteFile(filepath.Join(dir, b[2]+".yaml"), []byte(b[3]), 0o644); err != nil {
				c.t.Fatal(err)
			}
			continue
		}
		if ran := c.Shell(dir, b[3]); ran.Code != 0 {
			c.t.Fatalf("%s: exit code %d of\n%s\n%s%s\n%s", section, ran.Code, b[3], ran.Stdout, ran.Stderr, c.Describe())
		}
	}
}

// desk is the directory that the walk-through is done in, where the project's deploy lies.
func (c cluster) desk() string {
	c.t.Helper()
	dir := filepath.Join(c.Dir(), "desk")
	deploy, err := filepath.Abs("../../deploy")
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		_ = os.Remove(filepath.Join(dir, "deploy"))
		err = os.Symlink(deploy, filepath.Join(dir, "deploy"))
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return dir
}

// The rest of the manual's walk-through, whose installation all tests have used; it takes
// the injector away in the end.
func (c cluster) testWalkthrough(t *testing.T) {
	c = c.with(t)
	c.walk("Identities")
	c.walk("Two services")
	web := c.ready("tour", "tour-web", 1)[0]
	var first []answer
	if err := c.ask(web, "/first", &first); err != nil || len(first) != 1 || first[0].Status != 200 {
		t.Errorf("the first call: %+v, %v", first, err)
	}
	c.reaches(web, upstream, "tour-stock")
	c.logged("tour", web, func(line accessLine) bool {
		return line.EndpointID == "spiffe://"+real.NodeTrustDomain+"/ns/tour/sa/tour-stock"
	})
	c.walk("Looking at it")
	c.walk("Addresses instead of ports")
	web, stock := c.ready("tour", "tour-web", 1)[0], c.ready("tour", "tour-stock", 2)[0]
	c.reaches(web, "http://"+stock.Status.PodIP+":8080/", "tour-stock")
	c.logged("tour", web, func(line accessLine) bool { return line.EndpointID != "" })
	c.walk("Jobs")
	c.walk("New versions")
	c.walk("Out again")
	c.Eventually(t, "nothing asks the injector any more", func() error {
		left := c.Kubectl("", "get", "mutatingwebhookconfigurations", "-o", "name")
		if strings.Contains(left, "larboard") {
			return fmt.Errorf("%s", left)
		}
		return nil
	})
}
