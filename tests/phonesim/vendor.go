package phonesim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"ledgerline/domain"
)

// ErrUnknownVendor: no simulated vendor has that name.
var ErrUnknownVendor = errors.New("is not a simulated vendor")

// Vendor names a simulated vendor and what it makes.
type Vendor struct {
	Name   string   `json:"name"` // lower case: "yealink"
	OUIs   []string `json:"ouis"` // MAC prefixes, six lower-case hex digits
	Models []Model  `json:"models"`
}

// Model is a phone model with a firmware version it ships with. The first model of a vendor is its default.
type Model struct {
	Name     string `json:"name"`     // as the vendor prints it: "T54W"
	Firmware string `json:"firmware"` // "96.86.0.70"
}

// behaviour is a vendor with the ways of its firmware.
type behaviour struct {
	Vendor
	userAgent func(identity) string
	// order asks for the files of one boot.
	order func(context.Context, *boot) error
	// parse reads one file, whole or not at all.
	parse func(identity, []byte) (document, error)
	// interpret tells what settings mean to this phone.
	interpret func(identity, Values) Parsed
	// expand replaces the placeholders this vendor knows in URLs.
	expand func(identity, string) string
	// page is where the phone's browser asks for a code; nil for phones without one.
	page func(Values) string
}

// identity is what a phone knows about itself.
type identity struct {
	model, firmware string
	mac             domain.MAC
}

var vendors = []behaviour{yealink, snom, grandstream}

// Vendors lists the simulated vendors. The caller owns the result.
func Vendors() []Vendor {
	list := make([]Vendor, len(vendors))
	for i, v := range vendors {
		list[i] = Vendor{v.Name, slices.Clone(v.OUIs), slices.Clone(v.Models)}
	}
	return list
}

func vendorNamed(name string) (behaviour, error) {
	for _, v := range vendors {
		if strings.EqualFold(v.Name, name) {
			return v, nil
		}
	}
	return behaviour{}, fmt.Errorf("%.40q %w", name, ErrUnknownVendor)
}

// maxFleet is how many addresses one OUI has.
const maxFleet = 1 << 24

// Fleet makes n phones of a vendor: its models in turn, each with a MAC of its own from one of the
// vendor's prefixes. Equal arguments give equal fleets, and a longer fleet begins with the shorter one.
// n is 0 to 2^24. Server and the rest of each Config are the caller's to fill in. Errors: ErrUnknownVendor.
func Fleet(n int, vendor string, seed uint64) ([]Config, error) {
	v, err := vendorNamed(vendor)
	if err != nil {
		return nil, err
	}
	if n < 0 || n > maxFleet {
		return nil, fmt.Errorf("a fleet has 0 to %d phones, not %d", maxFleet, n)
	}
	r := rand.New(rand.NewPCG(seed, 0x6c65646765726c69))
	oui := v.OUIs[r.IntN(len(v.OUIs))]
	// An odd step through 2^24 places visits each once.
	step, at := r.Uint32()|1, r.Uint32()
	fleet := make([]Config, n)
	for i := range fleet {
		m := v.Models[i%len(v.Models)]
		fleet[i] = Config{
			Vendor: v.Name, Model: m.Name, Firmware: m.Firmware,
			MAC: domain.MAC(fmt.Sprintf("%s%06x", oui, (at+uint32(i)*step)%maxFleet)),
		}
	}
	return fleet, nil
}

// versionField is field i (from 0) of a dotted version, -1 if there is no such number.
func versionField(version string, i int) int {
	fields := strings.Split(version, ".")
	if i >= len(fields) {
		return -1
	}
	n, err := strconv.Atoi(fields[i])
	if err != nil {
		return -1
	}
	return n
}
