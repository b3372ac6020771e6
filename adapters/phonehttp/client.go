package phonehttp

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/pires/go-proxyproto"

	"ledgerline/domain"
)

// Client is where a request comes from.
type Client struct {
	IP netip.Addr // the phone's, as far as it is known; else the proxy's
	// Trusted: in a trusted network, and no proxy.
	Trusted bool
	// Secure: over TLS, up to us or up to a trusted proxy that says so.
	Secure bool
	// MAC is what a client certificate proved; empty otherwise. Name is its common name, whatever that is, if it leads to
	// the roots.
	MAC  domain.MAC
	Name string
}

// Transport is "https" or "http".
func (c Client) Transport() string {
	if c.Secure {
		return "https"
	}
	return "http"
}

type clientKey struct{}

// ClientOf is where the request of a mounted handler comes from; the zero Client outside of one.
func ClientOf(ctx context.Context) Client {
	c, _ := ctx.Value(clientKey{}).(Client)
	return c
}

// PrivateNetworks are loopback, private, link-local and unique local addresses: the default of
// Options.TrustedNetworks (RFC 1918, 3927, 4193, 4291).
func PrivateNetworks() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range []string{"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "::1/128", "fe80::/10", "fc00::/7"} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func within(networks []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, n := range networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// source is what one source is to limits and budgets: an IPv4 /24, an IPv6 /56.
func source(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 24
	if a.Is6() {
		bits = 56
	}
	p, _ := a.Prefix(bits) // the zero Prefix for the zero Addr
	return p
}

func addrOf(a net.Addr) netip.Addr {
	if a == nil {
		return netip.Addr{}
	}
	ap, _ := netip.ParseAddrPort(a.String())
	return ap.Addr().Unmap()
}

// clientOf finds where a request comes from.
func (s *Server) clientOf(r *http.Request) Client {
	conn := connOf(r.Context())
	peer, addr := conn.peer, addrOf(conn.proxied())
	known := true
	if within(s.opt.TrustedProxies, addr) { // a proxy without PROXY protocol, or behind another
		if h := r.Header[s.opt.ForwardedHeader]; len(h) > 0 {
			addr, known = forwarded(h, s.opt.ForwardedHeader == "Forwarded", s.opt.TrustedProxies)
		} else {
			known = false
		}
		if !addr.IsValid() {
			addr = peer
		}
	}
	c := Client{IP: addr, Secure: r.TLS != nil}
	c.Trusted = known && within(s.opt.TrustedNetworks, addr) && !within(s.opt.TrustedProxies, addr)
	if r.TLS == nil && within(s.opt.TrustedProxies, peer) {
		c.Secure = forwardedSecurely(r.Header, s.opt.ForwardedHeader)
	}
	if r.TLS != nil && s.opt.ClientRoots != nil {
		c.MAC, c.Name = conn.proved(r.TLS.PeerCertificates, s.opt.ClientRoots)
	}
	return c
}

// forwarded reads the values of an X-Forwarded-For or (RFC 7239) Forwarded header from the right, and
// answers the first hop that is no trusted proxy. ok is false when there is none, or when a hop that has to
// be believed is no address ("unknown", "_hidden", a name): nothing to its left is believed then.
func forwarded(values []string, rfc7239 bool, proxies []netip.Prefix) (client netip.Addr, ok bool) {
	hops := strings.Split(strings.Join(values, ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop := strings.TrimSpace(hops[i])
		if rfc7239 {
			hop, _ = parameter(hop, "for")
		}
		addr, err := parseHop(hop)
		if err != nil {
			return netip.Addr{}, false
		}
		if !within(proxies, addr) {
			return addr, true
		}
	}
	return netip.Addr{}, false
}

// parameter finds name=value in one element of a Forwarded header; quotes are removed.
func parameter(element, name string) (string, bool) {
	for pair := range strings.SplitSeq(element, ";") {
		k, v, found := strings.Cut(strings.TrimSpace(pair), "=")
		if found && strings.EqualFold(k, name) {
			return strings.Trim(v, `"`), true
		}
	}
	return "", false
}

// parseHop reads an address with or without port: 192.0.2.1, 192.0.2.1:4711, 2001:db8::1, [2001:db8::1]:4711.
func parseHop(hop string) (netip.Addr, error) {
	if ap, err := netip.ParseAddrPort(hop); err == nil {
		return ap.Addr().Unmap(), nil
	}
	if n := len(hop); n > 1 && hop[0] == '[' && hop[n-1] == ']' {
		hop = hop[1 : n-1]
	}
	a, err := netip.ParseAddr(hop)
	return a.Unmap(), err
}

// forwardedSecurely tells whether the nearest proxy says that it was asked over TLS. The proxy must set
// X-Forwarded-Proto itself, not pass on what a client wrote.
func forwardedSecurely(h http.Header, header string) bool {
	name := "X-Forwarded-Proto"
	if header == "Forwarded" {
		name = header
	}
	all := strings.Split(strings.Join(h[name], ","), ",")
	proto := strings.TrimSpace(all[len(all)-1])
	if header == "Forwarded" {
		proto, _ = parameter(proto, "proto")
	}
	return strings.EqualFold(proto, "https")
}

// proveMAC is the address that the first certificate names in its common name or a DNS name, if the chain
// leads to one of roots, and that common name. Factory certificates carry no usage for clients, or none at all, so any is
// taken.
func proveMAC(chain []*x509.Certificate, roots *x509.CertPool) (domain.MAC, string) {
	if len(chain) == 0 {
		return "", ""
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return "", ""
	}
	for _, name := range append([]string{chain[0].Subject.CommonName}, chain[0].DNSNames...) {
		if mac, err := domain.ParseMAC(name); err == nil {
			return mac, chain[0].Subject.CommonName
		}
	}
	return "", chain[0].Subject.CommonName
}

// proxyPolicy: only trusted proxies may open with a PROXY header.
func (s *Server) proxyPolicy(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
	if within(s.opt.TrustedProxies, addrOf(o.Upstream)) {
		return proxyproto.USE, nil
	}
	return proxyproto.SKIP, nil
}
