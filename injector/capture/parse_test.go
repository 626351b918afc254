package capture

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestLists(t *testing.T) {
	anyOf := func(f func(string) (any, error)) func(string) (any, error) { return f }
	ports := anyOf(func(s string) (any, error) { return ParsePorts(s) })
	prefixes := anyOf(func(s string) (any, error) { return ParsePrefixes(s) })
	users := anyOf(func(s string) (any, error) { return ParseUsers(s) })
	groups := anyOf(func(s string) (any, error) { return ParseGroups(s) })
	interfaces := anyOf(func(s string) (any, error) { return ParseInterfaces(s) })
	for _, c := range []struct {
		name  string
		parse func(string) (any, error)
		text  string
		want  string // or part of the error
	}{
		{"ports", ports, "80, 443,8000-8010,", "[80 443 8000-8010]"},
		{"no ports", ports, "", "[]"},
		{"port zero", ports, "0", "from 1 to 65535"},
		{"port too high", ports, "65536", "from 1 to 65535"},
		{"port by name", ports, "http", `"http" is no port`},
		{"range backwards", ports, "90-80", `did you mean "80-90"?`},
		{"address for a port", ports, "10.0.0.0/8", "this list is of ports"},
		{"prefixes", prefixes, "10.0.0.0/8,192.0.2.7,fd00::/8,::ffff:192.0.2.9", "[10.0.0.0/8 192.0.2.7/32 fd00::/8 192.0.2.9/32]"},
		{"host in a network", prefixes, "10.1.2.3/8", `did you mean "10.0.0.0/8", or "10.1.2.3"?`},
		{"name for a prefix", prefixes, "db.example.com", "no address and no CIDR"},
		{"zone", prefixes, "fe80::1%eth0", "zone"},
		{"users", users, "1337,0,root", "[1337 0 0]"},
		{"groups", groups, "root,12", "[0 12]"},
		{"unknown user", users, "nobody-of-that-name", "no such user; give its id"},
		{"unknown group", groups, "nobody-of-that-name", "no such group; give its id"},
		{"id too large", users, "4294967296", "from 0 to 4294967295"},
		{"interfaces", interfaces, "eth0,docker0", "[eth0 docker0]"},
		{"pattern", interfaces, "veth*", "no patterns"},
		{"long name", interfaces, "a-very-long-name", "at most 15"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.parse(c.text)
			if err != nil {
				if !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %q, want %q in it", err, c.want)
				}
				return
			}
			if text := fmt.Sprint(got); text != c.want {
				t.Errorf("got %s, want %s", text, c.want)
			}
		})
	}
}

func TestMerge(t *testing.T) {
	got := merge([]Ports{{20000, 20010}, {65535, 65535}, {80, 80}, {81, 90}, {85, 86}, {65000, 65535}, {443, 443}})
	if want := []Ports{{80, 90}, {443, 443}, {20000, 20010}, {65000, 65535}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"80,443", "1-65535", "10.0.0.0/8", "fd00::/8", "eth0", "", ",", "-", "1-", "::1%lo"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ports, err := ParsePorts(text)
		for _, p := range ports {
			if err == nil && (p.From == 0 || p.From > p.To) {
				t.Errorf("%q gives %v", text, p)
			}
		}
		prefixes, err := ParsePrefixes(text)
		for _, p := range prefixes {
			if err == nil && p != p.Masked() {
				t.Errorf("%q gives %v", text, p)
			}
		}
		_, _ = ParseInterfaces(text)
		parseState(text)
	})
}
