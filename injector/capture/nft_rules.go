//go:build linux

package capture

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// nftRule is a rule as the kernel knows it: what nft would make of the lines in nft_script.go.
type nftRule struct {
	why   string
	exprs []expr.Any
}

// nftRules are those of a chain.
func (p *Plan) nftRules(c Chain) (rules []nftRule) {
	if c.Hook != "" {
		if !p.IPv4 {
			rules = append(rules, nftRule{exprs: append(family(expr.CmpOpEq, unix.NFPROTO_IPV4), verdict(expr.VerdictReturn, ""))})
		}
		if !p.IPv6 {
			rules = append(rules, nftRule{exprs: append(family(expr.CmpOpEq, unix.NFPROTO_IPV6), verdict(expr.VerdictReturn, ""))})
		}
		rules = append(rules,
			nftRule{exprs: append(protocol(expr.CmpOpNeq), verdict(expr.VerdictReturn, ""))},
			nftRule{exprs: append(notFirst(), verdict(expr.VerdictReturn, ""))})
	}
	for _, r := range c.Rules {
		rules = append(rules, nftRule{r.Why, r.exprs(c.Hook)})
	}
	return rules
}

// first is the register that everything is compared in.
const first = 1

func (r *Rule) exprs(hook Hook) (all []expr.Any) {
	if r.Interface != "" {
		key := map[Hook]expr.MetaKey{Prerouting: expr.MetaKeyIIFNAME, Output: expr.MetaKeyOIFNAME}[hook]
		name := make([]byte, unix.IFNAMSIZ)
		copy(name, r.Interface)
		all = append(all, &expr.Meta{Key: key, Register: first}, compare(expr.CmpOpEq, name))
	}
	if r.Destination != Anywhere {
		op := map[Destination]expr.CmpOp{Local: expr.CmpOpEq, Remote: expr.CmpOpNeq}[r.Destination]
		all = append(all, &expr.Fib{Register: first, FlagDADDR: true, ResultADDRTYPE: true},
			compare(op, binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)))
	}
	if r.User != nil {
		all = append(all, &expr.Meta{Key: expr.MetaKeySKUID, Register: first}, compare(expr.CmpOpEq, binaryutil.NativeEndian.PutUint32(*r.User)))
	}
	if r.Group != nil {
		all = append(all, &expr.Meta{Key: expr.MetaKeySKGID, Register: first}, compare(expr.CmpOpEq, binaryutil.NativeEndian.PutUint32(*r.Group)))
	}
	if r.To.IsValid() {
		all = append(all, within(r.To)...)
	}
	switch {
	case r.Ports != Ports{}:
		all = append(all, ports(r.Ports)...)
	case r.Redirect != 0:
		all = append(all, protocol(expr.CmpOpEq)...)
	}
	switch {
	case r.Redirect != 0:
		port := binaryutil.BigEndian.PutUint16(r.Redirect)
		return append(all, &expr.Counter{}, &expr.Immediate{Register: first, Data: port},
			&expr.Redir{RegisterProtoMin: first, RegisterProtoMax: first, Flags: unix.NF_NAT_RANGE_PROTO_SPECIFIED})
	case r.Goto != "":
		return append(all, verdict(expr.VerdictGoto, r.Goto))
	}
	return append(all, verdict(expr.VerdictReturn, ""))
}

func compare(op expr.CmpOp, with []byte) expr.Any {
	return &expr.Cmp{Op: op, Register: first, Data: with}
}

func verdict(kind expr.VerdictKind, chain string) expr.Any {
	return &expr.Verdict{Kind: kind, Chain: chain}
}

func family(op expr.CmpOp, number byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: first}, compare(op, []byte{number})}
}

// protocol is TCP, or is not.
func protocol(op expr.CmpOp) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: first}, compare(op, []byte{unix.IPPROTO_TCP})}
}

// The flags of a TCP header. Source: RFC 9293, section 3.1.
const (
	fin, syn, rst, ack = 1, 2, 4, 16
	flagsAt            = 13
	destinationPortAt  = 2
)

// notFirst is any packet of a TCP connection but its first.
func notFirst() []expr.Any {
	return append(protocol(expr.CmpOpEq),
		&expr.Payload{DestRegister: first, Base: expr.PayloadBaseTransportHeader, Offset: flagsAt, Len: 1},
		&expr.Bitwise{SourceRegister: first, DestRegister: first, Len: 1, Mask: []byte{fin | syn | rst | ack}, Xor: []byte{0}},
		compare(expr.CmpOpNeq, []byte{syn}))
}

func ports(p Ports) []expr.Any {
	all := append(protocol(expr.CmpOpEq),
		&expr.Payload{DestRegister: first, Base: expr.PayloadBaseTransportHeader, Offset: destinationPortAt, Len: 2})
	from, to := binaryutil.BigEndian.PutUint16(p.From), binaryutil.BigEndian.PutUint16(p.To)
	if p.From == p.To {
		return append(all, compare(expr.CmpOpEq, from))
	}
	return append(all, compare(expr.CmpOpGte, from), compare(expr.CmpOpLte, to))
}

// within is a destination address in a network. Source: RFC 791, section 3.1; RFC 8200, section 3.
func within(p netip.Prefix) []expr.Any {
	number, offset := byte(unix.NFPROTO_IPV4), uint32(16)
	if p.Addr().Is6() {
		number, offset = unix.NFPROTO_IPV6, 24
	}
	address := p.Addr().AsSlice()
	whole := p.Bits() / 8 // an address that is compared by whole bytes needs no mask
	length := len(address)
	if p.Bits()%8 == 0 && whole > 0 {
		length = whole
	}
	all := append(family(expr.CmpOpEq, number),
		&expr.Payload{DestRegister: first, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(length)})
	if length == len(address) && p.Bits() < 8*len(address) {
		mask := make([]byte, len(address))
		for i := range p.Bits() {
			mask[i/8] |= 1 << (7 - i%8)
		}
		all = append(all, &expr.Bitwise{SourceRegister: first, DestRegister: first, Len: uint32(length), Mask: mask, Xor: make([]byte, length)})
	}
	return append(all, compare(expr.CmpOpEq, address[:length]))
}

// add queues the rule for the next transaction.
func (r nftRule) add(k *nftables.Conn, t *nftables.Table, c *nftables.Chain) {
	rule := &nftables.Rule{Table: t, Chain: c, Exprs: r.exprs}
	if r.why != "" {
		rule.UserData = userdata.AppendString(nil, userdata.TypeComment, r.why)
	}
	k.AddRule(rule)
}

// same reports whether the kernel's rule does what r does. How often it has done so is no matter.
func (r nftRule) same(kernels *nftables.Rule) bool {
	return bytes.Equal(encode(r.exprs), encode(kernels.Exprs))
}

func encode(exprs []expr.Any) (all []byte) {
	for _, e := range exprs {
		if _, ok := e.(*expr.Counter); ok {
			e = &expr.Counter{}
		}
		one, err := expr.Marshal(unix.NFPROTO_INET, e)
		if err != nil {
			one = []byte(err.Error()) // equal to nothing of ours
		}
		all = binary.BigEndian.AppendUint32(all, uint32(len(one)))
		all = append(all, one...)
	}
	return all
}
