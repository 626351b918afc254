package main

import (
	"testing"

	"golang.org/x/tools/go/analysis/analysistest"
)

// The packages under testdata say in their comments what is to be found, and where
// nothing is.
func TestRules(t *testing.T) {
	analysistest.Run(t, analysistest.TestData(), newAnalyzer(),
		"sidecar/engine", "sidecar/message", "sidecar/upstream", "sidecar/proxy", "sidecar/control")
}
