package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/hcl/ast"
	"github.com/hashicorp/hcl/hcl/parser"

	"github.com/larboard-proxy/larboard/sidecar/config"
)

// isDefinition reports whether text is a service definition in HCL.
func isDefinition(data []byte) bool {
	parsed, err := parseHCL(data)
	return err == nil && len(hclServices(parsed)) > 0
}

// parseHCL is the parser of Consul, which panics on some wrong text.
func parseHCL(data []byte) (parsed *ast.ObjectList, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("not HCL")
		}
	}()
	file, err := parser.Parse(data)
	if err != nil {
		return nil, err
	}
	list, ok := file.Node.(*ast.ObjectList)
	if !ok {
		return nil, errors.New("not HCL: no blocks")
	}
	return list, nil
}

// hclService is a service and where it stands.
type hclService struct {
	*ast.ObjectType
	path string
}

// hclServices finds service and services, as blocks, values or lists.
func hclServices(list *ast.ObjectList) (all []hclService) {
	for _, item := range list.Items {
		key := hclKey(item)
		if key != "service" && key != "services" {
			continue
		}
		for _, o := range hclObjects(item.Val) {
			path := "service"
			if key == "services" {
				path = fmt.Sprintf("services[%d]", len(all))
			}
			all = append(all, hclService{o, path})
		}
	}
	return all
}

func hclKey(item *ast.ObjectItem) string {
	if len(item.Keys) != 1 {
		return ""
	}
	name, _ := item.Keys[0].Token.Value().(string)
	return folded(name)
}

// hclObjects are the objects that a value is or lists.
func hclObjects(n ast.Node) (all []*ast.ObjectType) {
	switch n := n.(type) {
	case *ast.ObjectType:
		return []*ast.ObjectType{n}
	case *ast.ListType:
		for _, one := range n.List {
			if o, ok := one.(*ast.ObjectType); ok {
				all = append(all, o)
			}
		}
	}
	return all
}

// hclItem is the entry of a key; nil: there is none.
func hclItem(o *ast.ObjectType, key string) *ast.ObjectItem {
	if o == nil {
		return nil
	}
	for _, item := range o.List.Items {
		if hclKey(item) == key {
			return item
		}
	}
	return nil
}

// hclBlock is the object under a key; nil: there is none.
func hclBlock(o *ast.ObjectType, key string) *ast.ObjectType {
	if item := hclItem(o, key); item != nil {
		if all := hclObjects(item.Val); len(all) > 0 {
			return all[0]
		}
	}
	return nil
}

// hclText is the literal under a key, as text.
func hclText(o *ast.ObjectType, key string) string {
	if item := hclItem(o, key); item != nil {
		return hclLiteral(item)
	}
	return ""
}

func hclLiteral(item *ast.ObjectItem) string {
	literal, ok := item.Val.(*ast.LiteralType)
	if !ok {
		return ""
	}
	return fmt.Sprint(literal.Token.Value())
}

// hclEdit replaces data[start:end].
type hclEdit struct {
	start, end int
	text       string
}

// changeHCL returns the changed text.
func (f *file) changeHCL() []byte {
	data := f.input.Data
	parsed, err := parseHCL(data)
	if err != nil {
		f.hclProblem(err)
		return data
	}
	services := hclServices(parsed)
	if len(services) == 0 {
		f.report(nil, "", "holds no service of Consul, neither service nor services")
	}
	out, at := []byte(nil), 0
	for _, s := range services {
		if e := f.changeHCLService(s); e != nil {
			out = append(append(out, data[at:e.start]...), e.text...)
			at = e.end
		}
	}
	out = append(out, data[at:]...)
	if again, err := parseHCL(out); err != nil || len(hclServices(again)) != len(services) {
		f.report(nil, "", "is written in a way that cannot be changed: write the service as a block on lines of its own")
	}
	return out
}

func (f *file) hclProblem(err error) {
	p := config.Problem{File: f.input.Name, Message: err.Error()}
	var at *parser.PosError
	if errors.As(err, &at) {
		p.Line, p.Column, p.Message = at.Pos.Line, at.Pos.Column, "not HCL: "+at.Err.Error()
	}
	f.problems = append(f.problems, p)
}

// changeHCLService returns what is to be done for a service; nil: nothing.
func (f *file) changeHCLService(s hclService) *hclEdit {
	d := &definition{
		file: f, line: s.Lbrace.Line, column: s.Lbrace.Column, path: s.path, meta: map[string]string{},
		name: hclText(s.ObjectType, "name"), id: hclText(s.ObjectType, "id"), kind: hclText(s.ObjectType, "kind"),
	}
	if meta := hclBlock(s.ObjectType, "meta"); meta != nil {
		for _, item := range meta.List.Items {
			if len(item.Keys) == 1 {
				key, _ := item.Keys[0].Token.Value().(string)
				d.meta[key] = hclLiteral(item)
			}
		}
	}
	connect := hclItem(s.ObjectType, "connect")
	if connect != nil {
		block := hclBlock(s.ObjectType, "connect")
		sidecar := hclBlock(block, "sidecarservice")
		marked := hclText(hclBlock(hclBlock(sidecar, "proxy"), "config"), folded(config.InjectedBy))
		d.connect = connectOf(hclText(block, "native") == "true", sidecar != nil, marked != "")
	}
	upstreams, protocol, ok := d.wanted()
	var cut *hclEdit
	if d.connect == ourSidecar {
		cut = f.hclCut(s.ObjectType, connect)
	}
	switch {
	case ok && d.connect != noConnect && cut == nil:
	case ok:
		return f.hclInsert(d, s.ObjectType, cut, connectHCL(upstreams, protocol))
	case cut != nil && f.options.Uninject:
		d.note(Restored, "")
	}
	return cut
}

// hclInsert puts block into o, in place of what is cut.
func (f *file) hclInsert(d *definition, o *ast.ObjectType, cut *hclEdit, block []string) *hclEdit {
	data := f.input.Data
	newline := "\n"
	if bytes.Contains(data, []byte("\r\n")) {
		newline = "\r\n"
	}
	closing := o.Rbrace.Offset
	start := bytes.LastIndexByte(data[:closing], '\n') + 1
	margin := string(data[start : start+len(data[start:closing])-len(bytes.TrimLeft(data[start:closing], " \t"))])
	step := "  "
	if items := o.List.Items; len(items) > 0 && items[0].Pos().Line > o.Lbrace.Line {
		first := items[0].Pos().Offset
		own := data[bytes.LastIndexByte(data[:first], '\n')+1 : first]
		if len(bytes.TrimSpace(own)) == 0 && len(own) > len(margin) {
			step = string(own[len(margin):])
		}
	}
	var b strings.Builder
	for _, line := range block {
		inner := strings.TrimLeft(line, "\t")
		b.WriteString(margin + strings.Repeat(step, 1+len(line)-len(inner)) + inner + newline)
	}
	text := b.String()
	e := &hclEdit{start, start, text}
	if len(bytes.TrimSpace(data[start:closing])) > 0 { // the brace stands behind something
		e = &hclEdit{closing, closing, newline + text + margin}
	}
	if cut != nil {
		if bytes.HasPrefix(data[cut.start:], []byte(newline)) {
			text = newline + text + margin
		}
		e = &hclEdit{cut.start, cut.end, text}
		if string(data[cut.start:cut.end]) == text {
			d.note(Unchanged, "")
			return nil
		}
	}
	d.note(Injected, "")
	return e
}

// hclCut takes an entry away with its lines; nil: it has no lines of its own.
func (f *file) hclCut(o *ast.ObjectType, item *ast.ObjectItem) *hclEdit {
	data := f.input.Data
	block, ok := item.Val.(*ast.ObjectType)
	if !ok {
		return nil
	}
	start := bytes.LastIndexByte(data[:item.Pos().Offset], '\n') + 1
	end := block.Rbrace.Offset + 1
	rest := bytes.IndexByte(data[end:], '\n')
	if rest < 0 || len(bytes.TrimSpace(data[end:end+rest])) > 0 || len(bytes.TrimSpace(data[start:item.Pos().Offset])) > 0 {
		return nil
	}
	for _, other := range o.List.Items {
		if other != item && other.Pos().Line > o.Lbrace.Line {
			return &hclEdit{start, end + rest + 1, ""}
		}
	}
	if o.Rbrace.Line > o.Lbrace.Line && len(o.List.Items) > 1 && start > 0 { // all else stands on one line, as the brace did
		return &hclEdit{len(bytes.TrimRight(data[:start], "\r\n")), o.Rbrace.Offset, ""}
	}
	return &hclEdit{start, end + rest + 1, ""}
}

// connectHCL is connect with a sidecar, in lines that are indented by tabs.
func connectHCL(upstreams []upstream, protocol string) []string {
	lines := []string{"connect {", "\tsidecar_service {", "\t\tproxy {"}
	if len(upstreams) > 0 {
		lines = append(lines, "\t\t\tupstreams = [")
		for _, u := range upstreams {
			more := ""
			if p := definedProtocol(u.protocol); p != "" {
				more = fmt.Sprintf(", config = { protocol = %q }", p)
			}
			lines = append(lines, fmt.Sprintf("\t\t\t\t{ destination_name = %q, local_bind_port = %d%s },", u.service, u.port, more))
		}
		lines = append(lines, "\t\t\t]")
	}
	lines = append(lines, "\t\t\tconfig {", fmt.Sprintf("\t\t\t\t%s = %q", config.InjectedBy, "larboard"))
	if p := definedProtocol(protocol); p != "" {
		lines = append(lines, fmt.Sprintf("\t\t\t\tprotocol = %q", p))
	}
	return append(lines, "\t\t\t}", "\t\t}", "\t}", "}")
}
