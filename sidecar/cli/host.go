package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/engine"
)

// ofThisHost returns what a configuration asks of this host and cannot have.
func ofThisHost(c *config.Config) (problems config.Problems) {
	if kind, err := engine.ParseKind(c.Engine); err == nil && kind.Supported() != nil {
		problems = append(problems, c.ProblemAt("engine", kind.Supported().Error()))
	}
	if len(c.CPUs) == 0 {
		return problems
	}
	given, err := givenCPUs()
	if err != nil {
		return append(problems, c.ProblemAt("cpus", err.Error()))
	}
	for i, n := range c.CPUs {
		if !slices.Contains(given, n) {
			problems = append(problems, c.ProblemAt(fmt.Sprintf("cpus[%d]", i),
				fmt.Sprintf("this process may not run on CPU %d; it has %s", n, ranges(given))))
		}
	}
	return problems
}

// ranges writes sorted numbers as people do: 0-3,8.
func ranges(all []int) string {
	var parts []string
	for i := 0; i < len(all); {
		j := i
		for j+1 < len(all) && all[j+1] == all[j]+1 {
			j++
		}
		part := strconv.Itoa(all[i])
		if j > i {
			part += "-" + strconv.Itoa(all[j])
		}
		parts, i = append(parts, part), j+1
	}
	return strings.Join(parts, ",")
}
