package config

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// PrintOrigins is Print of the expanded c, with the origin of each value as a comment
// behind it. It reads back as what it says without them.
func PrintOrigins(c *Config) []byte {
	root, origins := traced(c)
	eachLeaf(root, "", func(_ string, n *yaml.Node) {
		n.LineComment = mark
		if strings.Contains(n.Value, "\n") {
			n.Style = yaml.DoubleQuotedStyle // on one line, and no comment of ours in it
		}
	})
	return aligned(writeYAML(root), origins)
}

// mark is the comment that stands for an origin until the columns are known. No value ends
// a line with it, since " #" has to be quoted.
const mark = "#@"

var marked = regexp.MustCompile(` +` + mark + `$`)

// widest is the column behind which comments are not moved for a longer line.
const widest = 60

// aligned puts the comments of a document into one column.
func aligned(text []byte, origins []Origin) []byte {
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	column := 0
	for _, line := range lines {
		if at := marked.FindStringIndex(line); at != nil {
			if n := utf8.RuneCountInString(line[:at[0]]); n <= widest {
				column = max(column, n)
			}
		}
	}
	var out bytes.Buffer
	next := 0
	for _, line := range lines {
		if at := marked.FindStringIndex(line); at != nil {
			line = line[:at[0]] + strings.Repeat(" ", max(0, column-utf8.RuneCountInString(line[:at[0]]))) + "  # " + origins[next].String()
			next++
		}
		out.WriteString(line + "\n")
	}
	return out.Bytes()
}

// PrintOriginsJSON is the expanded c as PrintJSON writes it, under config, with its origins
// beside it.
func PrintOriginsJSON(c *Config) []byte {
	answer := struct {
		Config  json.RawMessage `json:"config"`
		Origins []Origin        `json:"origins"`
	}{PrintJSON(Expand(c)), Origins(c)}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(answer); err != nil {
		panic("config: print: " + err.Error()) // texts and numbers always encode
	}
	return out.Bytes()
}
