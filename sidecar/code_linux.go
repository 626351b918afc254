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
func forgetCode() {
	self, err := os.Executable()
	if err != nil {
		return
	}
	maps, err := os.Open("/proc/self/maps")
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

// codeOf are the mappings of a file that cannot be written, as /proc/self/maps tells them
// (proc_pid_maps(5)).
func codeOf(maps io.Reader, file string) (all []mapping) {
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 6 || fields[5] != file || strings.Contains(fields[1], "w") {
			continue
		}
		from, to, _ := strings.Cut(fields[0], "-")
		start, err := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err == nil && err2 == nil && start < end {
			all = append(all, mapping{uintptr(start), uintptr(end)})
		}
	}
	return all
}
