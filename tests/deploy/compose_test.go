package deploy

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/larboard-proxy/larboard/sidecar/config"
)

// composed is what is looked at of a service of the stack.
type composed struct {
	Image, User string
	Network     string `yaml:"network_mode"`
	Ports       []string
	Tmpfs       []string
	Volumes     []string
}

func composeFile(t *testing.T) map[string]composed {
	t.Helper()
	var file struct{ Services map[string]composed }
	if err := yaml.Unmarshal([]byte(read(t, dir+"/compose/docker-compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	return file.Services
}

// Each proxy stands beside its application, as a user that SPIRE gives its identity to.
// tests/compose runs the stack; this needs no Docker.
func TestComposeFitsTogether(t *testing.T) {
	var entries struct {
		Entries []struct {
			ID        string `json:"spiffe_id"`
			Selectors []struct{ Value string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, dir+"/compose/spire/entries.json")), &entries); err != nil {
		t.Fatal(err)
	}
	services, proxies := composeFile(t), 0
	for name, s := range services {
		if !regexp.MustCompile(`^\$\{[A-Z_]+_IMAGE:-\S+:\S+\}$`).MatchString(s.Image) {
			t.Errorf("%s: the image %q is no variable with a tagged default", name, s.Image)
		}
		for _, p := range s.Ports {
			if !regexp.MustCompile(`^127\.0\.0\.1:\$\{[A-Z]+_PORT:-\d+\}:\d+$`).MatchString(p) {
				t.Errorf("%s: the port %q is no variable, or open to others", name, p)
			}
		}
		app, ok := strings.CutSuffix(name, "-larboard")
		if !ok {
			continue
		}
		proxies++
		uid, _, _ := strings.Cut(s.User, ":")
		if _, known := services[app]; !known || s.Network != "service:"+app || !slices.Equal(s.Tmpfs, []string{"/run/larboard:uid=" + uid + ",gid=" + uid + ",mode=700"}) {
			t.Errorf("%s: %+v", name, s)
		}
		file := filepath.Join(dir, "compose/larboard", app+".yaml")
		if !slices.Contains(s.Volumes, "./larboard/"+app+".yaml:/etc/larboard/larboard.yaml:ro") {
			t.Errorf("%s does not have %s", name, file)
		}
		c, problems := config.Load(file, []byte(read(t, file)))
		if len(problems) > 0 {
			t.Errorf("%v", problems)
			continue
		}
		if c.Workload == nil || c.Workload.Register == nil {
			t.Errorf("%s registers nothing", file)
			continue
		}
		id := c.Workload.Register.Meta["spiffe_id"]
		given := false
		for _, e := range entries.Entries {
			given = given || e.ID == id && e.Selectors[0].Value == "uid:"+uid
		}
		if !given || !strings.HasSuffix(id, "/"+c.Workload.Service) {
			t.Errorf("%s: user %s gets no identity %q", name, uid, id)
		}
	}
	if proxies != 4 {
		t.Errorf("%d proxies", proxies)
	}
}
