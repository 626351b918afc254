package cli

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// gate is a reader of the log that reads nothing until it is opened.
type gate struct {
	open chan struct{}
	bytes.Buffer
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	return g.Buffer.Write(p)
}

func TestLogWriterNeverWaitsForItsReader(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	w := newLogWriter(g)
	const lines = 3 * logLines
	for i := range lines {
		fmt.Fprintf(w, "line %d\n", i)
	}
	close(g.open)
	w.Close()
	text := g.String()
	if !strings.Contains(text, "line 0\n") || !strings.Contains(text, "log lines were dropped") {
		t.Errorf("%.200s", text)
	}
	if n := strings.Count(text, "\nline ") + 1; n < logLines || n > logLines+2 {
		t.Errorf("%d lines written, want about %d", n, logLines)
	}
}

func TestLogWriterWritesEverythingAtTheEnd(t *testing.T) {
	var out bytes.Buffer
	w := newLogWriter(&out)
	for i := range 100 {
		fmt.Fprintf(w, "line %d\n", i)
	}
	w.Close()
	w.Close()
	if n := strings.Count(out.String(), "line "); n != 100 {
		t.Errorf("%d lines", n)
	}
}
