package commands

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"ledgerline/domain"
)

// parseAddress reads an IP address as people and programs write it: brackets, a port, blanks, a zone and the IPv6 form
// of an IPv4 address do not matter; leading zeros are refused.
func parseAddress(text string) (netip.Addr, bool) {
	text = strings.TrimSpace(text)
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	return ip.Unmap().WithZone(""), err == nil
}

// icpsLife is how long a list of ICPs is believed.
const icpsLife = 10 * time.Minute

// icpOf is the ICP of a node, looked for by the node's internal address. A refusal concerns this node alone.
func (p *push) icpOf(ctx context.Context, client Border, g domain.Gateway, node string) (string, error) {
	n, ok := g.Node(node)
	if !ok {
		text := "the line names no node, and the gateway has several"
		if node != "" {
			text = "the gateway has no node " + node
		} else if len(g.Nodes) == 0 {
			text = "the gateway has no node: add one with its internal address"
		}
		return "", &BorderError{Class: ClassNode, Text: text}
	}
	now := p.s.now()
	m := g.ICP(n.NodeID)
	if p.icps == nil || now.Sub(p.icpsAt) >= icpsLife || m.Matched.ICPID == "" && m.Failed.Class == "" {
		if err := p.matchAll(ctx, client, g); err != nil {
			return "", err
		}
		fresh, _, err := load[domain.Gateway](ctx, p.s.Log, p.id.Stream())
		if err != nil {
			return "", err
		}
		m = fresh.ICP(n.NodeID)
	}
	if m.Matched.ICPID == "" {
		return "", &BorderError{Class: m.Failed.Class, Text: m.Failed.Explain()}
	}
	return m.Matched.ICPID, nil
}

// matchAll lists the ICPs and matches every node anew.
func (p *push) matchAll(ctx context.Context, client Border, g domain.Gateway) error {
	icps, err := client.ICPs(ctx)
	if err != nil {
		return err
	}
	p.icps, p.icpsAt = icps, p.s.now()
	var events []domain.Event
	for _, n := range g.Nodes {
		events = append(events, g.MatchICP(match(ctx, g, n, icps))...)
	}
	if len(events) == 0 {
		return nil
	}
	out, err := decide(ctx, p.s, p.id.Stream(), func(now domain.Gateway) ([]domain.Event, error) {
		events = nil
		for _, n := range now.Nodes {
			events = append(events, now.MatchICP(match(ctx, now, n, icps))...)
		}
		return events, nil
	})
	if p.client != nil && err == nil && p.revision == out.Revision-domain.Revision(len(out.Events)) {
		p.revision = out.Revision // our own facts do not make the client a stranger
	}
	return err
}

// match finds the ICP with a node's internal address among those of the gateway.
func match(ctx context.Context, g domain.Gateway, n domain.GatewayNode, icps []BorderICP) domain.Event {
	want, _ := parseAddress(n.InternalAddress)
	var exact, named []BorderICP
	for _, icp := range icps {
		if ip, ok := parseAddress(icp.Address); ok && ip == want {
			exact = append(exact, icp)
		} else if !ok && g.ResolveNames && slices.Contains(resolve(ctx, icp.Address), want) {
			named = append(named, icp)
		}
	}
	by, found := "address", exact
	if len(found) == 0 {
		by, found = "name", named
	}
	if n.ICP != "" {
		by = "pin"
		found = slices.DeleteFunc(slices.Concat(exact, named), func(icp BorderICP) bool { return icp.ID != n.ICP })
	}
	if len(found) == 1 {
		return domain.GatewayICPMatched{NodeID: n.NodeID, Address: n.InternalAddress, ICPID: found[0].ID, ICPName: found[0].Name, By: by}
	}
	failed := domain.GatewayICPMatchFailed{NodeID: n.NodeID, Address: n.InternalAddress, Class: ClassICPMissing}
	show := icps
	if len(found) > 1 {
		failed.Class, show = ClassICPUnclear, found
	}
	const most = 50
	for _, icp := range show[:min(len(show), most)] {
		failed.Candidates = append(failed.Candidates, domain.ICPCandidate{ID: icp.ID, Name: icp.Name, Address: icp.Address, Hint: hint(ctx, g, n, icp, want)})
	}
	return failed
}

// resolve looks a host name up, for a short time.
func resolve(ctx context.Context, host string) []netip.Addr {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", strings.TrimSpace(host))
	if err != nil {
		return nil // a name that cannot be looked up matches nothing
	}
	for i := range found {
		found[i] = found[i].Unmap().WithZone("")
	}
	return found
}

// hint says why an ICP that does not fit may be the one that was meant.
func hint(ctx context.Context, g domain.Gateway, n domain.GatewayNode, icp BorderICP, want netip.Addr) string {
	ip, ok := parseAddress(icp.Address)
	external, externalOK := parseAddress(n.ExternalAddress)
	switch {
	case ok && ip == want && n.ICP != "":
		return "has the address, but the node is pinned to " + n.ICP
	case ok && ip == want:
		return "has the address"
	case ok && externalOK && ip == external:
		return "this is the node's external address: the ICP must have the internal one"
	case !ok && slices.Contains(resolve(ctx, icp.Address), want):
		return "a host name of the node's address: give the ICP the address itself, or let names be resolved"
	case !ok:
		return "a host name, which does not lead to the node's address"
	case ip.Is4() != want.Is4():
		return fmt.Sprintf("an IPv%d address, the node's is IPv%d: the other interface?", version(ip), version(want))
	case ip.Is4() && sameNet(ip, want, 24) || ip.Is6() && sameNet(ip, want, 64):
		return "same network: another interface of the node?"
	case n.Name != "" && strings.EqualFold(icp.Name, n.Name):
		return "same name"
	}
	if own, ok := parseAddress(g.ExternalAddress); ok && own == want {
		return "the node's address is the gateway's own external address"
	}
	return ""
}

func version(ip netip.Addr) int {
	if ip.Is4() {
		return 4
	}
	return 6
}

func sameNet(a, b netip.Addr, bits int) bool {
	p, err := a.Prefix(bits)
	return err == nil && p.Contains(b)
}
