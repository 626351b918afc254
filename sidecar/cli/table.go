package cli

import (
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// table is text in aligned columns. On a terminal that is too narrow for it the last
// columns are wrapped, and give each other room.
type table struct {
	head []string
	wrap int // how many of the last columns may be wrapped
	rows [][]string
}

// narrowest is what a wrapped column has at least, in characters.
const narrowest = 16

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// write writes the table to w.
func (t *table) write(w io.Writer) error {
	var b strings.Builder
	widths := t.widths(terminalWidth(w))
	for _, row := range append([][]string{t.head}, t.rows...) {
		cells := make([][]string, len(row))
		for lines, i := true, 0; lines; i++ {
			lines = false
			line := ""
			for c, cell := range row {
				if i == 0 {
					cells[c] = wrapped(cell, widths[c])
				}
				text := ""
				if i < len(cells[c]) {
					text = cells[c][i]
				}
				lines = lines || i+1 < len(cells[c])
				line += text + strings.Repeat(" ", widths[c]-min(widths[c], utf8.RuneCountInString(text))+2)
			}
			b.WriteString(strings.TrimRight(line, " "))
			b.WriteByte('\n')
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// widths are those of the columns within most characters; 0: any number.
func (t *table) widths(most int) []int {
	widths := make([]int, len(t.head))
	total := 0
	for c := range widths {
		widths[c] = utf8.RuneCountInString(t.head[c])
		for _, row := range t.rows {
			widths[c] = max(widths[c], utf8.RuneCountInString(row[c]))
		}
		total += widths[c] + 2
	}
	if most == 0 {
		return widths
	}
	for total-2 > most { // a column at a time, the widest one first
		widest := len(widths) - t.wrap
		for c := widest; c < len(widths); c++ {
			if widths[c] > widths[widest] {
				widest = c
			}
		}
		if t.wrap == 0 || widths[widest] <= narrowest {
			break
		}
		widths[widest]--
		total--
	}
	return widths
}

// wrapped cuts text at spaces into lines of at most width characters, where that is
// possible.
func wrapped(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width:
			lines = append(lines, line)
			line = word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

// terminalWidth is how many characters a line of w has; 0: it is no terminal.
func terminalWidth(w io.Writer) int {
	file, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0
	}
	return width
}
