package config

// source remembers where in the file each field stood.
type source struct {
	file      string
	positions map[string]position // by path
}

type position struct{ line, column int }
