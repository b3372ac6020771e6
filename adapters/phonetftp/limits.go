package phonetftp

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// source is what one source is to limits: an IPv4 /24, an IPv6 /56.
func source(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 24
	if a.Is6() {
		bits = 56
	}
	p, _ := a.Prefix(bits) // the zero Prefix for the zero Addr
	return p
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

// PrivateNetworks are loopback, private, link-local and unique local addresses (RFC 1918, 3927, 4193, 4291).
func PrivateNetworks() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range []string{"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "::1/128", "fe80::/10", "fc00::/7"} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// limits bounds requests per second and transfers at once. Safe for concurrent use.
type limits struct {
	total, each     int
	trusted, others rate.Limit

	mu     sync.Mutex
	active map[key]bool
	per    map[netip.Prefix]int
	rates  map[netip.Prefix]*bucket
	all    *rate.Limiter // of all sources outside trusted networks together
}

// key is one request of one phone; while it is under way, its repetitions are dropped.
type key struct {
	peer netip.AddrPort
	name string
}

type bucket struct {
	*rate.Limiter
	used time.Time
}

const rateEntries = 20_000

// rated tells whether a request from a may be looked at now.
func (l *limits) rated(a netip.Addr, trusted bool, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	from, limit := source(a), l.others
	if trusted {
		limit = l.trusted
	} else if !l.all.AllowN(now, 1) { // forged sources are as many as the forger likes
		return false
	}
	b := l.rates[from]
	if b == nil {
		l.makeRoom(now)
		b = &bucket{Limiter: rate.NewLimiter(limit, 4*int(limit))}
		l.rates[from] = b
	}
	b.used = now
	return b.AllowN(now, 1)
}

func (l *limits) makeRoom(now time.Time) {
	if len(l.rates) < rateEntries {
		return
	}
	for p, b := range l.rates {
		if now.Sub(b.used) > 10*time.Second {
			delete(l.rates, p)
		}
	}
	for p := range l.rates {
		if len(l.rates) < rateEntries {
			return
		}
		delete(l.rates, p)
	}
}

// begin answers how to end the request, or why it cannot begin: "repeated", "total", "source".
func (l *limits) begin(k key) (end func(), reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := source(k.peer.Addr())
	switch {
	case l.active[k]:
		return nil, "repeated"
	case len(l.active) >= l.total:
		return nil, "total"
	case l.per[from] >= l.each:
		return nil, "source"
	}
	l.active[k] = true
	l.per[from]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.active, k)
		if l.per[from]--; l.per[from] == 0 {
			delete(l.per, from)
		}
	}, ""
}

func (l *limits) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.active)
}
