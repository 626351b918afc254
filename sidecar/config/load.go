package config

import (
	"fmt"
	"reflect"
)

// Load reads the configuration file name, whose content is data. The name is only
// said in problems and taken as the place that relative file names start from.
//
// Where there are problems the configuration must not be used, except to look for
// more of them; it is nil where the text is no YAML at all. Problems are in the
// order of the file.
func Load(name string, data []byte) (*Config, Problems) {
	return read(name, data, nil)
}

// LoadWith is Load for a file that says only a part: add is given what it says and
// adds the rest, before the defaults that depend on other fields are filled in and all
// is validated. Its problems are returned with those of the file.
func LoadWith(name string, data []byte, add func(*Config) Problems) (*Config, Problems) {
	return read(name, data, add)
}

func read(name string, data []byte, add func(*Config) Problems) (*Config, Problems) {
	root, problem := parse(name, data)
	if problem != nil {
		return nil, Problems{*problem}
	}
	d := newDecoder(name)
	c := &Config{}
	if root == nil {
		c.setDefaults()
	} else {
		d.value(root, reflect.ValueOf(c).Elem(), "")
	}
	c.source = d.source
	c.AccessLog.finish(d)
	var added Problems
	if add != nil {
		added = add(c)
	}
	c.inheritAll()
	v := &validator{config: c, decoder: d}
	if d.budget >= 0 && len(added) == 0 {
		v.validate()
		if add == nil && len(d.problems) == 0 { // what is added comes and goes
			v.logTargets()
		}
	}
	d.problems.Sort()
	return c, append(added, d.problems...).shortened()
}

func listenerPath(i int) string { return fmt.Sprintf("listeners[%d]", i) }
func servicePath(i int) string  { return fmt.Sprintf("services[%d]", i) }
func upstreamPath(i int) string { return fmt.Sprintf("upstreams[%d]", i) }

// identityPath is the path of a named identity.
func identityPath(name string) string { return join("identities", shown(name)) }
func workloadPath(i int) string       { return fmt.Sprintf("workloads[%d]", i) }
