package config

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxDuration bounds every duration, so that a deadline cannot overflow.
const maxDuration = Duration(365 * 24 * time.Hour)

// scalar decodes one plain value.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	switch v.Interface().(type) {
	case Duration:
		d.duration(n, v, path)
		return
	case Size:
		d.size(n, v, path)
		return
	}
	switch v.Kind() {
	case reflect.String:
		d.text(n, v, path)
	case reflect.Bool:
		d.truth(n, v, path)
	case reflect.Int:
		d.number(n, v, path)
	case reflect.Float64:
		d.fraction(n, v, path)
	default:
		panic("config: no way to decode " + v.Type().String())
	}
}

// text takes every scalar as it is written, so that a tag 1.10 stays 1.10.
func (d *decoder) text(n *yaml.Node, v reflect.Value, path string) {
	switch {
	case n.Kind != yaml.ScalarNode:
		d.wrongType(n, path, "a text")
	case isNull(n) || n.Value == "":
		d.report(n, path, "has no value", "")
	default:
		v.SetString(n.Value)
	}
}

func (d *decoder) truth(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!bool" {
		v.SetBool(strings.EqualFold(n.Value, "true"))
		return
	}
	meant := ""
	switch strings.ToLower(n.Value) {
	case "yes", "on", "y", "1":
		meant = "true"
	case "no", "off", "n", "0":
		meant = "false"
	}
	d.report(n, path, "must be true or false, not "+kindOf(n), meant)
}

func (d *decoder) number(n *yaml.Node, v reflect.Value, path string) {
	value, err := strconv.ParseInt(n.Value, 10, 32)
	percent, isPercent := strings.CutSuffix(n.Value, "%")
	switch {
	case errors.Is(err, strconv.ErrRange) && n.ShortTag() == "!!int":
		d.report(n, path, n.Value+" is out of all bounds", "")
	case isPercent && isNumber(percent):
		d.report(n, path, "must be a whole number, not "+kindOf(n), percent)
	case n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || err != nil:
		d.wrongType(n, path, "a whole number")
	default:
		v.SetInt(value)
	}
}

func (d *decoder) fraction(n *yaml.Node, v reflect.Value, path string) {
	value, err := strconv.ParseFloat(n.Value, 64)
	tag := n.ShortTag()
	if n.Kind != yaml.ScalarNode || tag != "!!int" && tag != "!!float" || err != nil {
		d.wrongType(n, path, "a number")
		return
	}
	v.SetFloat(value)
}

func (d *decoder) duration(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode || isNull(n) {
		d.wrongType(n, path, "a duration like 250ms or 2s")
		return
	}
	value, err := ParseDuration(n.Value)
	switch {
	case err != nil:
		d.report(n, path, err.Error(), meantDuration(n.Value))
	case value > maxDuration:
		d.report(n, path, fmt.Sprintf("%s is longer than a year", n.Value), "")
	default:
		v.SetInt(int64(value))
	}
}

func (d *decoder) size(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode || isNull(n) {
		d.wrongType(n, path, "a size like 8192 or 64KiB")
		return
	}
	value, err := ParseSize(n.Value)
	if err != nil {
		d.report(n, path, err.Error(), binaryUnit(n.Value))
		return
	}
	v.SetInt(int64(value))
}

// binaryUnit returns the size that was probably meant by a decimal, short or
// misspelt unit: 64k, 64KB, 64kib.
func binaryUnit(text string) string {
	digits := strings.TrimRight(text, " kmgibKMGIB")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return ""
	}
	switch unit := strings.ToLower(strings.TrimSpace(text[len(digits):])); {
	case strings.HasPrefix(unit, "k"):
		return digits + "KiB"
	case strings.HasPrefix(unit, "m"):
		return digits + "MiB"
	case strings.HasPrefix(unit, "g"):
		return digits + "GiB"
	}
	return ""
}

// fromText takes a lone string as the address.
func (e *Endpoint) fromText(text string) { e.Address = text }

// fromText takes a lone string as the name.
func (s *DNSDiscovery) fromText(text string) { s.Name = text }

// fromText takes a lone string as the path.
func (s *FileDiscovery) fromText(text string) { s.Path = text }

// decodeNode takes a lone mapping as a list of one.
func (s *Discovery) decodeNode(d *decoder, n *yaml.Node, path string) {
	if n.Kind == yaml.SequenceNode {
		d.list(n, reflect.ValueOf((*[]DiscoverySource)(s)).Elem(), path)
		return
	}
	var one DiscoverySource
	d.structure(n, reflect.ValueOf(&one).Elem(), path)
	*s = Discovery{one}
}

// fromText takes a lone string as the service.
func (i *Intentions) fromText(text string) { i.Service = text }

// loneOrList reads a list of texts, or a lone one as a list of one.
func (d *decoder) loneOrList(n *yaml.Node, path string) []string {
	if n.Kind == yaml.SequenceNode {
		var list []string
		d.list(n, reflect.ValueOf(&list).Elem(), path)
		return list
	}
	var one string
	d.text(n, reflect.ValueOf(&one).Elem(), path)
	return []string{one}
}

// decodeNode takes a lone value as a list of one.
func (a *Addresses) decodeNode(d *decoder, n *yaml.Node, path string) {
	*a = d.loneOrList(n, path)
}

// decodeNode reads 200, 200-299, or a list of those.
func (r *StatusRanges) decodeNode(d *decoder, n *yaml.Node, path string) {
	*r = nil
	if n.Kind != yaml.SequenceNode {
		r.add(d, n, path)
		return
	}
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		item = followed(item)
		d.positions[at] = position{item.Line, item.Column}
		r.add(d, item, at)
	}
}

func (r *StatusRanges) add(d *decoder, n *yaml.Node, path string) {
	one, err := ParseStatusRange(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil {
		d.report(n, path, "must be a status like 200 or a range like 200-299, not "+kindOf(n), meantStatuses(n.Value))
		return
	}
	*r = append(*r, one)
}

// ParseStatusRange reads 200 or 200-299.
func ParseStatusRange(text string) (StatusRange, error) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	from, err := strconv.ParseUint(strings.TrimSpace(first), 10, 16)
	if err != nil {
		return StatusRange{}, fmt.Errorf("%q is not a status", first)
	}
	to, err := strconv.ParseUint(strings.TrimSpace(last), 10, 16)
	if err != nil {
		return StatusRange{}, fmt.Errorf("%q is not a status", last)
	}
	if from < 100 || to > 599 || from > to {
		return StatusRange{}, fmt.Errorf("%q is not within 100-599", text)
	}
	return StatusRange{int(from), int(to)}, nil
}

// String returns what ParseStatusRange reads.
func (r StatusRange) String() string {
	if r.From == r.To {
		return strconv.Itoa(r.From)
	}
	return fmt.Sprintf("%d-%d", r.From, r.To)
}

// decodeNode knows the form {hash: ...}, so that it is named and not called a
// wrong type.
func (b *Balance) decodeNode(d *decoder, n *yaml.Node, path string) {
	if n.Kind == yaml.MappingNode && len(n.Content) > 0 {
		*b = Balance(n.Content[0].Value)
		return
	}
	d.text(n, reflect.ValueOf((*string)(b)).Elem(), path)
}
