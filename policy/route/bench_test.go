package route

import (
	"fmt"
	"strings"
	"testing"
)

// shape is a table of rules and a request that is costly for it.
type shape struct {
	name       string
	rules      []Rule
	host, path string
	want       int
}

// thousand are tables of 1,000 rules in the forms that real ones take, each with a
// request that is as costly for it as one can be.
func thousand() []shape {
	const n = 1000
	make := func(of func(i int) Rule) []Rule {
		rules := []Rule{}
		for i := range n {
			rules = append(rules, of(i))
		}
		return rules
	}
	long := "/organizations/acme/regions/eu-central-1/clusters/production/namespaces/shop/services"
	label := strings.Repeat("label.", 20)
	return []shape{
		{"1,000 hosts, the last", make(func(i int) Rule { return Rule{Host: fmt.Sprintf("service-%d.example.com", i)} }),
			"service-999.example.com", "/v1/items/42", 999},
		{"1,000 hosts, none", make(func(i int) Rule { return Rule{Host: fmt.Sprintf("service-%d.example.com", i)} }),
			"service-1000.example.com", "/v1/items/42", -1},
		{"1,000 prefixes of one host", make(func(i int) Rule { return Rule{Host: "example.com", PathPrefix: fmt.Sprintf("/service-%d", i)} }),
			"example.com", "/service-999/v1/items/42", 999},
		{"1,000 long prefixes alike", make(func(i int) Rule { return Rule{Host: "example.com", PathPrefix: fmt.Sprintf("%s/service-%d", long, i)} }),
			"example.com", long + "/service-999/v1/items/42", 999},
		{"1,000 prefixes in each other", make(func(i int) Rule { return Rule{PathPrefix: strings.Repeat("/a", n-i)} }),
			"example.com", strings.Repeat("/a", n), 0},
		{"1,000 prefixes in each other, the shortest first", make(func(i int) Rule { return Rule{PathPrefix: strings.Repeat("/a", i+1)} }),
			"example.com", strings.Repeat("/a", n), 0},
		{"40 lengths of prefix", make(func(i int) Rule {
			return Rule{PathPrefix: strings.Repeat("/segment", i%40) + fmt.Sprintf("/end-%d", i)}
		}),
			"example.com", strings.Repeat("/segment", 60), -1},
		{"1,000 exact paths", make(func(i int) Rule { return Rule{Path: fmt.Sprintf("%s/%d", long, i)} }),
			"example.com", long + "/999", 999},
		{"1,000 wildcards", make(func(i int) Rule { return Rule{Host: fmt.Sprintf("*.tenant-%d.example.com", i)} }),
			"www.tenant-999.example.com", "/v1/items/42", 999},
		{"1,000 wildcards, a host of 22 labels", make(func(i int) Rule { return Rule{Host: fmt.Sprintf("*.tenant-%d.example.com", i)} }),
			label + "example.com", "/v1/items/42", -1},
		{"wildcards in each other", make(func(i int) Rule {
			return Rule{Host: "*." + strings.Repeat("a.", 100-i%100) + "example.com", PathPrefix: fmt.Sprintf("/v%d", i)}
		}),
			strings.Repeat("a.", 110) + "example.com", "/v999", 999},
		{"a path of slashes", make(func(i int) Rule { return Rule{PathPrefix: fmt.Sprintf("%s/service-%d", long, i)} }),
			"example.com", strings.Repeat("/", 4000), -1},
	}
}

func TestThousandRules(t *testing.T) {
	for _, s := range thousand() {
		t.Run(s.name, func(t *testing.T) {
			table, host, path := Compile(s.rules), []byte(s.host), []byte(s.path)
			got, ok := table.Match(host, path)
			if !ok {
				got = -1
			}
			if got != s.want {
				t.Errorf("rule %d, want %d", got, s.want)
			}
			if n := testing.AllocsPerRun(20, func() { table.Match(host, path) }); n != 0 {
				t.Errorf("%v allocations a match", n)
			}
		})
	}
}

// A match among 1,000 rules takes at most 500 ns in the shapes that there are. Prefixes and
// wildcards that lie in each other by dozens are here to show that they cost no more
// than some 15 ns for each that the path goes through.
func BenchmarkMatchThousand(b *testing.B) {
	for _, s := range thousand() {
		b.Run(s.name, func(b *testing.B) {
			table, host, path := Compile(s.rules), []byte(s.host), []byte(s.path)
			b.ReportAllocs()
			for b.Loop() {
				table.Match(host, path)
			}
		})
	}
}
