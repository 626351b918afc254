package sidecar

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// forgetCode unmaps the pages of the program's own file: code, and constants. A start runs through
// most of it once, and each page that it has touched is counted as ours with its neighbours,
// some 20 MiB, of which an idle proxy needs a tenth. They stay in the system's cache, and come back by
// themselves where they are needed, in microseconds.
//
// What was written before it was made read-only does not come back: a position-independent
// program's relocated data, which codeOf leaves out.
func forgetCode() {
	self, err := os.Executable()
	if err != nil {
		return
	}
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer maps.Close()
	for _, m := range codeOf(maps, self) {
		// Pages that are never written have the file's content whenever they are read again.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED)
	}
}

// mapping is a range of addresses.
type mapping struct{ start, end uintptr }

// codeOf are the mappings of a file that cannot be written and never were, as /proc/self/smaps
// tells them (proc_pid_smaps(5)): one that has pages of no file (Anonymous) has been written.
func codeOf(maps io.Reader, file string) (all []mapping) {
	var of *mapping // that the lines are about; nil: one that does not matter
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 3 && fields[0] == "Anonymous:":
			if of != nil && fields[1] == "0" {
				all = append(all, *of)
			}
			of = nil
		case len(fields) >= 5 && strings.Contains(fields[0], "-"):
			of = nil
			if len(fields) == 6 && fields[5] == file && !strings.Contains(fields[1], "w") {
				of = rangeOf(fields[0])
			}
		}
	}
	return all
}

// rangeOf reads START-END; nil: it is none.
func rangeOf(text string) *mapping {
	from, to, _ := strings.Cut(text, "-")
	start, err := strconv.ParseUint(from, 16, 64)
	end, err2 := strconv.ParseUint(to, 16, 64)
	if err != nil || err2 != nil || start >= end {
		return nil
	}
	return &mapping{uintptr(start), uintptr(end)}
}
