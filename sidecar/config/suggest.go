package config

import "strings"

// Suggest returns the one of names that was probably meant by word, or "".
func Suggest(word string, names []string) string { return suggest(word, names) }

// suggest returns the one of names that was probably meant by word, or "". Names
// are compared without case, '-' and '_'; the first of equally near ones wins, and
// an abbreviation counts as near.
func suggest(word string, names []string) string {
	folded := fold(word)
	if len(folded) < 2 || len(folded) > maxSuggested {
		return ""
	}
	best, nearest := "", maxSuggested
	for _, name := range names {
		candidate := fold(name)
		limit := max(1, max(len(folded), len(candidate))/3)
		d := distance(folded, candidate)
		if strings.HasPrefix(candidate, folded) || candidate != "" && strings.HasPrefix(folded, candidate) {
			d = min(d, limit)
		}
		if d <= limit && d < nearest {
			best, nearest = name, d
		}
	}
	return best
}

// maxSuggested bounds the work for absurd words.
const maxSuggested = 64

func fold(s string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s))
}

// distance is the number of insertions, deletions, replacements and swaps of
// neighbours that turn a into b (optimal string alignment), by bytes.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
