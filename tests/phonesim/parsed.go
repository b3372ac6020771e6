package phonesim

import (
	"cmp"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"ledgerline/domain"
)

// ErrMalformed: the phone refuses the file. The error around it names file, line and what is wrong.
var ErrMalformed = errors.New("malformed file")

// Parsed is what a phone understood, in neutral words.
type Parsed struct {
	// Accounts has every account the settings speak of, also disabled ones, by index.
	Accounts []Account `json:"accounts,omitempty"`
	// ProvisioningURL is where the phone shall fetch from now on; empty if the settings name none.
	// It may carry a device secret in its path.
	ProvisioningURL string `json:"-"`
	// FirmwareURL is where the phone finds its image (Snom: the description of it); empty for none.
	FirmwareURL string   `json:"firmware_url,omitempty"`
	Timezone    Timezone `json:"timezone"`
	Keys        []Key    `json:"keys,omitempty"`
	// Problems names each value this phone does not understand and would ignore.
	Problems []string `json:"problems,omitempty"`
	// Raw is every setting under the phone's own name. Snom: "user_name[1]", "fkey[0]".
	Raw Values `json:"-"`
}

// Account is one SIP identity. Empty fields were not set.
type Account struct {
	Index         int      `json:"index"` // from 1
	Enabled       bool     `json:"enabled"`
	UserName      string   `json:"user_name,omitempty"`
	AuthName      string   `json:"auth_name,omitempty"`
	Password      Password `json:"password"`
	DisplayName   string   `json:"display_name,omitempty"`
	Label         string   `json:"label,omitempty"`
	Server        string   `json:"server,omitempty"`         // host, without port
	Port          int      `json:"port,omitempty"`           // 1 to 65535; 0 when the default is used
	BackupServer  string   `json:"backup_server,omitempty"`  // as the phone writes it
	OutboundProxy string   `json:"outbound_proxy,omitempty"` // host[:port]
	Transport     string   `json:"transport,omitempty"`      // udp, tcp, tls, dns
	SRTP          string   `json:"srtp,omitempty"`           // off, optional, required
	Voicemail     string   `json:"voicemail,omitempty"`
}

// complete tells whether the account can register.
func (a Account) complete() bool { return a.Enabled && a.UserName != "" && a.Server != "" }

// Timezone is the zone as the vendor writes it.
type Timezone struct {
	Zone  string `json:"zone,omitempty"`  // Yealink "+1", Snom "GER+1", Grandstream P64
	Name  string `json:"name,omitempty"`  // Yealink time_zone_name; Grandstream's own rule (P246)
	DST   string `json:"dst,omitempty"`   // Yealink summer_time: 0, 1, 2
	Type  string `json:"type,omitempty"`  // Yealink dst_time_type: 0 by date, 1 by week
	Start string `json:"start,omitempty"` // Yealink start_time
	End   string `json:"end,omitempty"`   // Yealink end_time
	Shift string `json:"shift,omitempty"` // Yealink offset_time, minutes
}

// Key is a programmed function key; empty keys are left out.
type Key struct {
	// Bank is the vendor's name for the row of keys: linekey, memorykey, programablekey, expansion_module.1,
	// fkey, context_key, line, mpk, vpk.
	Bank   string `json:"bank"`
	Index  int    `json:"index"` // as the vendor counts: Snom from 0, others from 1
	Type   string `json:"type"`  // as the vendor writes it: "16", "blf", "BLF"
	Line   string `json:"line,omitempty"`
	Value  string `json:"value,omitempty"`
	Label  string `json:"label,omitempty"`
	Pickup string `json:"pickup,omitempty"`
}

// Password is a SIP password. Every text form of it is domain.Redacted, "" if it is empty.
type Password struct{ clear string }

// NewPassword holds clear text; tests compare with it.
func NewPassword(clear string) Password { return Password{clear} }

// Reveal is the clear text.
func (p Password) Reveal() string { return p.clear }

// IsZero tells whether there is none.
func (p Password) IsZero() bool { return p.clear == "" }

// Equal compares in constant time for equal lengths.
func (p Password) Equal(q Password) bool {
	return subtle.ConstantTimeCompare([]byte(p.clear), []byte(q.clear)) == 1
}

// String is domain.Redacted or "".
func (p Password) String() string {
	if p.IsZero() {
		return ""
	}
	return domain.Redacted
}

// Format keeps every verb of fmt from reaching the clear text.
func (p Password) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(p.String())) }

// MarshalJSON writes the redacted form.
func (p Password) MarshalJSON() ([]byte, error) { return json.Marshal(p.String()) }

// Values are settings by the phone's own name. Some are secrets, so the text forms show names only.
type Values map[string]string

// String lists the names, sorted.
func (v Values) String() string {
	return "[" + strings.Join(slices.Sorted(maps.Keys(v)), " ") + "]"
}

// Format keeps every verb of fmt from reaching the values.
func (v Values) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(v.String())) }

// MarshalJSON lists the names, sorted.
func (v Values) MarshalJSON() ([]byte, error) { return json.Marshal(slices.Sorted(maps.Keys(v))) }

// document is one file as read.
type document struct {
	set     []setting
	include []string // further files to ask for, in order
	// overwrite: settings not sent in this boot fall back to the factory's (Yealink overwrite_mode).
	overwrite bool
}

type setting struct{ name, value string }

// apply puts the settings of the documents over v, in order.
func (v Values) apply(docs []document) Values {
	next := maps.Clone(v)
	if next == nil || slices.ContainsFunc(docs, func(d document) bool { return d.overwrite }) {
		next = Values{}
	}
	for _, d := range docs {
		for _, s := range d.set {
			next[s.name] = s.value
		}
	}
	return next
}

// ParseFile reads one configuration file as the phone c describes would, starting from factory settings.
// Of c only Vendor, Model, Firmware and MAC count. Errors: ErrMalformed, ErrUnknownVendor, domain.ErrBadMAC.
func ParseFile(c Config, data []byte) (Parsed, error) {
	v, id, err := c.identify()
	if err != nil {
		return Parsed{}, err
	}
	d, err := v.parse(id, data)
	if err != nil {
		return Parsed{}, err
	}
	return v.interpret(id, Values{}.apply([]document{d})), nil
}

// malformed is an ErrMalformed at a line (from 1).
func malformed(line int, format string, args ...any) error {
	return fmt.Errorf("%w: line %d: %s", ErrMalformed, line, fmt.Sprintf(format, args...))
}

// reader reads values by name and notes what it cannot understand. Names come from the vendor's manual.
type reader struct {
	Values
	problems []string
}

func (r *reader) problem(name, rule string) {
	r.problems = append(r.problems, fmt.Sprintf("%s %.40q %s", name, r.Values[name], rule))
}

// oneOf translates a value; absent or empty is "".
func (r *reader) oneOf(name string, words map[string]string) string {
	v := r.Values[name]
	if v == "" {
		return ""
	}
	word, ok := words[v]
	if !ok {
		r.problem(name, "is not a known value")
	}
	return word
}

// flag reads a value that is yes or no; absent is def.
func (r *reader) flag(name, yes, no string, def bool) bool {
	switch r.Values[name] {
	case "":
		return def
	case yes:
		return true
	case no:
		return false
	}
	r.problem(name, "must be "+yes+" or "+no)
	return def
}

// port reads a port number; absent is 0.
func (r *reader) port(name string) int {
	v := r.Values[name]
	if v == "" || v == "0" {
		return 0
	}
	n, ok := portNumber(v)
	if !ok {
		r.problem(name, "is not a port")
	}
	return n
}

// hostPort reads "host" or "host:port".
func (r *reader) hostPort(name string) (host string, port int) {
	host, port, ok := splitHostPort(r.Values[name])
	if !ok {
		r.problem(name, "is not host[:port]")
	}
	return host, port
}

func portNumber(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, false
	}
	return int(n), true
}

func splitHostPort(s string) (host string, port int, ok bool) {
	bare := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	if !strings.Contains(s, ":") || net.ParseIP(bare) != nil {
		return bare, 0, !strings.ContainsAny(s, " \t/")
	}
	host, p, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return s, 0, false
	}
	port, ok = portNumber(p)
	return host, port, ok
}

// indexes lists the numbers N of all names "prefix" N "…", ascending.
func (v Values) indexes(prefix string) []int {
	seen := map[int]bool{}
	for name := range v {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		digits := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
		if n, err := strconv.Atoi(digits); err == nil && n <= 9999 {
			seen[n] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// sortKeys puts keys into the order of bank and index.
func sortKeys(keys []Key) []Key {
	slices.SortStableFunc(keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Bank, b.Bank), cmp.Compare(a.Index, b.Index))
	})
	return keys
}
