package file

import (
	"fmt"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/discovery"
)

func TestParse(t *testing.T) {
	plain := func(address string) discovery.Endpoint {
		return discovery.Endpoint{ID: address, Address: address, Weight: 1, Source: "file:f"}
	}
	full := discovery.Endpoint{
		ID: "one", Address: "10.0.0.1:80", Weight: 3, Tags: []string{"v1", "1.10"}, Meta: map[string]string{"team": "a", "rack": "7"},
		Identity: spiffeid.RequireFromString("spiffe://a.test/web"), Zone: "eu-1", Source: "file:f",
	}
	for name, c := range map[string]struct {
		text string
		want []discovery.Endpoint
	}{
		"none":              {"endpoints: []\n", nil},
		"a lone empty list": {"[]", nil},
		"addresses":         {"endpoints: [10.0.0.1:80, \"[::1]:80\", unix:///run/x.sock]", []discovery.Endpoint{plain("10.0.0.1:80"), plain("[::1]:80"), plain("unix:///run/x.sock")}},
		"a lone list":       {"# written by hand\n- 10.0.0.1:80\n- {address: 10.0.0.2:80}\n", []discovery.Endpoint{plain("10.0.0.1:80"), plain("10.0.0.2:80")}},
		"all fields": {"endpoints:\n- address: 10.0.0.1:80\n  weight: 3\n  id: one\n  tags: [v1, 1.10]\n  meta: {team: a, rack: 7}\n  spiffe_id: spiffe://a.test/web\n  zone: eu-1\n",
			[]discovery.Endpoint{full}},
		"JSON with tabs": {"{\n\t\"endpoints\": [\n\t\t{\"address\": \"10.0.0.1:80\", \"weight\": 3, \"id\": \"one\", \"tags\": [\"v1\", \"1.10\"],\n\t\t\"meta\": {\"team\": \"a\", \"rack\": \"7\"}, \"spiffe_id\": \"spiffe://a.test/web\", \"zone\": \"eu-1\"}\n\t]\n}\n",
			[]discovery.Endpoint{full}},
		"alias": {"- &one 10.0.0.1:80\n- {address: *one, id: two}\n", []discovery.Endpoint{plain("10.0.0.1:80"), {ID: "two", Address: "10.0.0.1:80", Weight: 1, Source: "file:f"}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parse("f", c.text)
			if err != nil || !discovery.Equal(got, c.want) {
				t.Errorf("got %+v, %v, want %+v", got, err, c.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"empty":           {" \n", "f:1:1: the file is empty; write endpoints: [] for no endpoint"},
		"comments only":   {"# nothing\n", "f:1:1: the file is empty; write endpoints: [] for no endpoint"},
		"half of JSON":    {`{"endpoints": ["10.0.0.1:80", "10.0`, "f:1:1: neither YAML nor JSON: found unexpected end of stream"},
		"broken YAML":     {"endpoints:\n- a\n b: c: d\n", "f:3:1: neither YAML nor JSON: "},
		"two documents":   {"[]\n---\n[]\n", "f:2:1: a second document begins here"},
		"unknown on top":  {"endpoint: []\n", `f:1:1: unknown field "endpoint"; known here: endpoints; f:1:1: endpoints is missing`},
		"a text":          {"hello", "f:1:1: must be a list of endpoints"},
		"no value":        {"endpoints:\n", "f:1:11: must be a list of endpoints"},
		"unknown field":   {"- {adress: 10.0.0.1:80}\n", `f:1:4: unknown field "adress"; known here: address, weight, id, tags, meta, spiffe_id, zone; f:1:3: address is missing`},
		"twice":           {"- {address: 10.0.0.1:80, weight: 1, weight: 2}\n", `f:1:37: "weight" is given twice`},
		"host name":       {"- web.test:80\n", `f:1:3: address "web.test:80": the host must be an IP address`},
		"weight":          {"- {address: 10.0.0.1:80, weight: -1}\n", "f:1:34: weight must be a whole number from 0 to 65535"},
		"weight text":     {"- {address: 10.0.0.1:80, weight: \"1\"}\n", "f:1:34: weight must be"},
		"SPIFFE ID":       {"- {address: 10.0.0.1:80, spiffe_id: web}\n", `f:1:37: "web" is not a SPIFFE ID`},
		"tags":            {"- {address: 10.0.0.1:80, tags: v1}\n", "f:1:32: tags must be a list"},
		"meta":            {"- {address: 10.0.0.1:80, meta: [a]}\n", "f:1:32: meta must be a mapping"},
		"null":            {"- {address: ~}\n", "f:1:13: must be a text"},
		"nested":          {"- [10.0.0.1:80]\n", "f:1:3: an endpoint is an address, or a mapping with address"},
		"same id":         {"- 10.0.0.1:80\n- {address: 10.0.0.2:80, id: 10.0.0.1:80}\n", `f:2:3: "10.0.0.1:80" is already the endpoint of line 1`},
		"many problems":   {"- a\n- b\n- c\n- d\n- e\n", `f:3:3: address "c": want host:port or unix:///path; and 2 more`},
		"many entries":    {"- {" + strings.Repeat("a: 1, ", 101) + "}\n", "f:1:3: a mapping of 101 entries; at most 100 are possible"},
		"many endpoints":  {strings.Repeat("- 10.0.0.1:80\n", maxEndpoints+1), "10001 endpoints; at most 10000 are possible"},
		"an alias bomb":   {"- &a [x, x]\n- &b [*a, *a]\n- [*b, *b]\n", "f:1:3: an endpoint is an address"},
		"unknown anchor":  {"- *nobody\n", "neither YAML nor JSON: unknown anchor 'nobody' referenced"},
		"tab in the YAML": {"endpoints:\n\t- 10.0.0.1:80\n", "f:2:1: neither YAML nor JSON: found character that cannot start any token"},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := parse("f", c.text); err == nil || got != nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, %v\nwant %s", got, err, c.want)
			}
		})
	}
}

// What is taken is complete; what is not has a place.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"[]", "endpoints: []", "- 10.0.0.1:80\n- {address: 10.0.0.2:80, weight: 2, id: b, tags: [x], meta: {a: b}, spiffe_id: spiffe://a.test/b, zone: z}",
		`{"endpoints": [{"address": "[::1]:1"}]}`, "- &a x\n- *a\n", "<<: {}\n", "%YAML 1.1\n---\n[]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		endpoints, err := parse("f", text)
		if err != nil {
			var line, column int
			if n, _ := fmt.Sscanf(err.Error(), "f:%d:%d:", &line, &column); n != 2 || line < 1 || column < 1 || len(endpoints) > 0 {
				t.Errorf("%d endpoints and %v", len(endpoints), err)
			}
			return
		}
		ids := map[string]bool{}
		for _, e := range endpoints {
			if discovery.CheckAddress(e.Address) != nil || e.ID == "" || ids[e.ID] || e.Weight < 0 || e.Weight > maxWeight {
				t.Errorf("%+v", e)
			}
			ids[e.ID] = true
		}
	})
}
