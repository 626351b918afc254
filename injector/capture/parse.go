package capture

import (
	"cmp"
	"fmt"
	"net/netip"
	"os/user"
	"slices"
	"strconv"
	"strings"
)

// ParsePorts reads a list such as "80,443,8000-8010"; empty: none.
func ParsePorts(list string) (ranges []Ports, err error) {
	for _, word := range words(list) {
		from, to, isRange := strings.Cut(word, "-")
		if !isRange {
			to = from
		}
		r, err := parseRange(from, to)
		if err != nil {
			if _, address := parsePrefix(word); address == nil {
				return nil, fmt.Errorf("%q is an address; this list is of ports, such as 443 or 8000-8010", word)
			}
			return nil, fmt.Errorf("%q: %w", word, err)
		}
		ranges = append(ranges, r)
	}
	return ranges, nil
}

func parseRange(first, last string) (Ports, error) {
	from, err := parsePort(first)
	if err != nil {
		return Ports{}, err
	}
	to, err := parsePort(last)
	if err != nil {
		return Ports{}, err
	}
	if from > to {
		return Ports{}, fmt.Errorf("the range ends before it begins; did you mean \"%d-%d\"?", to, from)
	}
	return Ports{from, to}, nil
}

func parsePort(text string) (uint16, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no port: they are numbers from 1 to 65535, or ranges such as 8000-8010", text)
	}
	return uint16(n), nil
}

// ParsePrefixes reads a list such as "10.0.0.0/8,192.0.2.7,fd00::/8"; empty: none.
func ParsePrefixes(list string) (prefixes []netip.Prefix, err error) {
	for _, word := range words(list) {
		prefix, err := parsePrefix(word)
		if err != nil {
			return nil, err
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes, nil
}

func parsePrefix(word string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(word); err == nil {
		if address.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q has a zone, which a rule cannot tell apart", word)
		}
		return netip.PrefixFrom(address.Unmap(), address.Unmap().BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(word)
	switch {
	case err != nil:
		return prefix, fmt.Errorf("%q is no address and no CIDR, such as 192.0.2.7, 10.0.0.0/8 or fd00::/8", word)
	case prefix.Addr().Is4In6():
		return prefix, fmt.Errorf("%q is IPv4 within IPv6; write it as IPv4", word)
	case prefix != prefix.Masked():
		return prefix, fmt.Errorf("%q names a host within a network; did you mean %q, or %q?", word, prefix.Masked(), prefix.Addr())
	}
	return prefix, nil
}

// ParseUsers reads a list of user ids, or of names that this machine knows.
func ParseUsers(list string) ([]uint32, error) {
	return parseIDs(list, "user", func(name string) (string, error) {
		found, err := user.Lookup(name)
		if err != nil {
			return "", err
		}
		return found.Uid, nil
	})
}

// ParseGroups reads a list of group ids, or of names that this machine knows.
func ParseGroups(list string) ([]uint32, error) {
	return parseIDs(list, "group", func(name string) (string, error) {
		found, err := user.LookupGroup(name)
		if err != nil {
			return "", err
		}
		return found.Gid, nil
	})
}

func parseIDs(list, kind string, lookup func(string) (string, error)) (ids []uint32, err error) {
	for _, word := range words(list) {
		text := word
		if word[0] < '0' || word[0] > '9' {
			if text, err = lookup(word); err != nil {
				return nil, fmt.Errorf("%q: this machine knows no such %s; give its id", word, kind)
			}
		}
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%q is no %s id: they are numbers from 0 to 4294967295", word, kind)
		}
		ids = append(ids, uint32(id))
	}
	return ids, nil
}

// maxInterface is how long the name of an interface can be. Source: IFNAMSIZ, less the zero.
const maxInterface = 15

// ParseInterfaces reads a list of names of interfaces; they need not exist yet.
func ParseInterfaces(list string) ([]string, error) {
	names := words(list)
	for _, name := range names {
		if len(name) > maxInterface || strings.ContainsAny(name, " \t\"'/*+\\") {
			return nil, fmt.Errorf("%q is no name of an interface (at most %d characters, no patterns)", name, maxInterface)
		}
	}
	return names, nil
}

// words are the parts between commas, without those that are empty.
func words(list string) (all []string) {
	for _, word := range strings.Split(list, ",") {
		if word = strings.TrimSpace(word); word != "" {
			all = append(all, word)
		}
	}
	return all
}

// merge returns the ranges in order, with those joined that touch each other.
func merge(ranges []Ports) (merged []Ports) {
	sorted := slices.Clone(ranges)
	slices.SortFunc(sorted, func(a, b Ports) int { return cmp.Compare(a.From, b.From) })
	for _, r := range sorted {
		if last := len(merged) - 1; last >= 0 && int(r.From) <= int(merged[last].To)+1 {
			merged[last].To = max(merged[last].To, r.To)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}
