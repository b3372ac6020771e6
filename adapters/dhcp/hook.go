package dhcp

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"ledgerline/domain"
)

// Lease is an address a phone was given.
type Lease struct {
	MAC   domain.MAC `json:"mac"`
	IP    string     `json:"ip"`
	Class string     `json:"vendor_class,omitempty"` // option 60; empty when the server does not tell
}

// ErrHook: the hook was called in a way no server calls it.
var ErrHook = errors.New("hook wants the arguments dnsmasq, dhcpd or Kea give it")

// maxLeases bounds the leases Kea may tell of at once.
const maxLeases = 1000

// Leases reads what a DHCP server tells its hook: arguments and environment. Of an event that gives nobody an address
// (an expiry, a release) there is nothing to tell.
//
//   - dnsmasq (dhcp-script): add|old|del MAC IP [name]; the class in DNSMASQ_VENDOR_CLASS;
//   - dhcpd (execute): commit IP MAC CLASS, octets of the MAC without leading zeros;
//   - Kea (libdhcp_run_script): leases4_committed, or lease4_renew; the leases in the environment, without the class.
func Leases(args []string, getenv func(string) string) ([]Lease, error) {
	if len(args) == 0 {
		return nil, ErrHook
	}
	one := func(mac, ip, class string) ([]Lease, error) {
		l, err := lease(mac, ip, class)
		if err != nil {
			return nil, err
		}
		return []Lease{l}, nil
	}
	switch {
	case (args[0] == "add" || args[0] == "old") && len(args) >= 3:
		return one(args[1], args[2], getenv("DNSMASQ_VENDOR_CLASS"))
	case args[0] == "commit" && (len(args) == 3 || len(args) == 4):
		return one(args[2], args[1], strings.Join(args[3:], ""))
	case args[0] == "leases4_committed":
		n, err := strconv.Atoi(getenv("LEASES4_SIZE"))
		if err != nil || n < 0 || n > maxLeases {
			return nil, fmt.Errorf("%w: LEASES4_SIZE is %.20q", ErrHook, getenv("LEASES4_SIZE"))
		}
		var out []Lease
		for i := range n {
			at := "LEASES4_AT" + strconv.Itoa(i) + "_"
			l, err := lease(getenv(at+"HWADDR"), getenv(at+"ADDRESS"), "")
			if err != nil {
				return nil, err
			}
			out = append(out, l)
		}
		return out, nil
	case args[0] == "lease4_renew":
		return one(getenv("LEASE4_HWADDR"), getenv("LEASE4_ADDRESS"), "")
	case args[0] == "del", args[0] == "init", args[0] == "tftp", strings.HasPrefix(args[0], "arp-"), strings.HasPrefix(args[0], "lease"):
		return nil, nil
	}
	return nil, fmt.Errorf("%w, not %.40q", ErrHook, args[0])
}

func lease(mac, ip, class string) (Lease, error) {
	octets := strings.Split(mac, ":")
	for i, o := range octets {
		if len(o) == 1 {
			octets[i] = "0" + o
		}
	}
	m, err := domain.ParseMAC(strings.Join(octets, ":"))
	if err != nil {
		return Lease{}, fmt.Errorf("%w: %w", ErrHook, err)
	}
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return Lease{}, fmt.Errorf("%w: %.60q is no address", ErrHook, ip)
	}
	class = strings.Map(func(r rune) rune { // some phones end it with a zero byte
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return -1
		}
		return r
	}, class)
	return Lease{m, a.String(), class}, nil
}
