// Package dhcp writes what a DHCP server must tell phones so that they find this server, in the language of dnsmasq, ISC
// dhcpd or Kea, and reads what such a server tells a hook of a lease.
//
// One class of clients per rule of a plugin (dhcp in plugin.yaml): phones whose vendor class (option 60) begins, or ends,
// as the rule says, and where the rule says so those with one of the family's OUIs. The class gets the rule's options and
// nothing else, so the text can be included beside whatever else the DHCP server does. Sub-options of option 43 are
// encoded here, for each server has its own idea of them.
//
// Always holds: the text depends on its input only, families and classes in order; nothing in it can end a quoted text
// (plugins refuse quotes and backslashes, Config refuses them in URLs).
//
// Not here: subnets, pools, routers. And no DHCP server: phones of a site ask the site's.
package dhcp

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Rule is what some phones of a family are to be told; see plugins.DHCPRule.
type Rule struct {
	Classes []string
	// OUIs are the first six digits of the MACs that are meant too; none when the vendor class alone counts.
	OUIs    []string
	Options map[string]string
}

// Family is a plugin's rules.
type Family struct {
	Name  string
	Rules []Rule
}

// Site is where the phones find the server.
type Site struct {
	URL  string // "http://192.0.2.1:8667/"
	TFTP string // address of the TFTP server
}

// Servers are the languages Config writes.
var Servers = []string{"dnsmasq", "isc", "kea"}

// ErrSite: the URL or the address cannot be told to phones.
var ErrSite = errors.New("bad site")

// group is one class of clients with its options, ready to be written.
type group struct {
	name    string
	classes []string
	ouis    []string
	options []option
}

type option struct {
	code int
	text string       // as sent; empty for the others
	raw  []byte       // sub-options of 43
	ips  []netip.Addr // a list of addresses
}

// Config writes the classes and options of all families for one kind of server. hook, when not empty, is the program
// that is to be told of leases. Errors: ErrSite, or a server there is no language for.
func Config(server string, families []Family, site Site, hook string) (string, error) {
	groups, err := resolve(families, site)
	if err != nil {
		return "", err
	}
	switch server {
	case "dnsmasq":
		return dnsmasq(groups, hook), nil
	case "isc":
		return isc(groups, hook), nil
	case "kea":
		return kea(groups, hook)
	}
	return "", fmt.Errorf("server must be one of %s", strings.Join(Servers, ", "))
}

var safeURL = regexp.MustCompile(`^https?://[A-Za-z0-9._:\[\]-]+/[A-Za-z0-9._~/-]*$`)

func resolve(families []Family, site Site) (groups []group, err error) {
	u, err := url.Parse(site.URL)
	if err != nil || !safeURL.MatchString(site.URL) || !strings.HasSuffix(site.URL, "/") {
		return nil, fmt.Errorf("%w: url must be like http://192.0.2.1:8667/", ErrSite)
	}
	tftp, err := netip.ParseAddr(site.TFTP)
	if err != nil || !tftp.Is4() {
		return nil, fmt.Errorf("%w: tftp must be an IPv4 address", ErrSite)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	put := strings.NewReplacer("<url>", site.URL, "<host>", u.Hostname(), "<port>", port, "<tftp>", site.TFTP)
	for _, f := range families {
		for i, r := range f.Rules {
			g := group{name: "ledgerline-" + f.Name, classes: slices.Clone(r.Classes), ouis: slices.Sorted(slices.Values(r.OUIs))}
			if len(f.Rules) > 1 {
				g.name += "-" + strconv.Itoa(i+1)
			}
			sub := map[int]string{}
			for code, text := range r.Options {
				text = put.Replace(text)
				number, rest, nested := strings.Cut(code, ".")
				n, err := strconv.Atoi(number)
				if err != nil {
					return nil, fmt.Errorf("option %q of %s is no number", code, f.Name)
				}
				switch {
				case nested:
					m, err := strconv.Atoi(rest)
					if err != nil || len(text) > 255 {
						return nil, fmt.Errorf("option %q of %s is too long or no number", code, f.Name)
					}
					sub[m] = text
				case n == 150:
					g.options = append(g.options, option{code: n, ips: []netip.Addr{tftp}})
				default:
					g.options = append(g.options, option{code: n, text: text})
				}
			}
			if len(sub) > 0 {
				g.options = append(g.options, option{code: 43, raw: encode(sub)})
			}
			slices.SortFunc(g.options, func(a, b option) int { return a.code - b.code })
			groups = append(groups, g)
		}
	}
	slices.SortStableFunc(groups, func(a, b group) int { return strings.Compare(a.name, b.name) })
	return groups, nil
}

// encode writes sub-options as code, length, text (RFC 2132 §8.4).
func encode(sub map[int]string) (out []byte) {
	for code := range 255 {
		if text, ok := sub[code]; ok {
			out = append(append(out, byte(code), byte(len(text))), text...)
		}
	}
	return out
}

// colons is bytes as "0a:1b".
func colons(b []byte) string {
	parts := make([]string, len(b))
	for i := range b {
		parts[i] = hex.EncodeToString(b[i : i+1])
	}
	return strings.Join(parts, ":")
}

func bytesOf(oui string) []byte {
	b, _ := hex.DecodeString(oui)
	return b
}

// head says what the text is, in comments of the server's kind.
func head(comment, server string) string {
	return fmt.Sprintf("%[1]s What phones need to find Ledgerline, for %[2]s: include this file, do not edit it.\n%[1]s Made by: ledgerline dhcp config --server %[2]s\n", comment, server)
}

// dnsmasq: a vendor class matches where the text stands anywhere in what the client sent. An option is sent to these
// clients whether or not they ask for it, for some phones do not.
func dnsmasq(groups []group, hook string) string {
	var b strings.Builder
	b.WriteString(head("#", "dnsmasq"))
	for _, g := range groups {
		b.WriteByte('\n')
		for _, c := range g.classes {
			fmt.Fprintf(&b, "dhcp-vendorclass=set:%s,\"%s\"\n", g.name, strings.TrimPrefix(c, "*")) // in quotes, for some have commas
		}
		for _, o := range g.ouis {
			fmt.Fprintf(&b, "dhcp-mac=set:%s,%s:*:*:*\n", g.name, colons(bytesOf(o)))
		}
		for _, o := range g.options {
			fmt.Fprintf(&b, "dhcp-option-force=tag:%s,%d,%s\n", g.name, o.code, o.value())
		}
	}
	if hook != "" {
		fmt.Fprintf(&b, "\ndhcp-script=%s\n", hook)
	}
	return b.String()
}

// value is the option as dnsmasq and dhcpd write it.
func (o option) value() string {
	switch {
	case o.raw != nil:
		return colons(o.raw)
	case o.ips != nil:
		return join(o.ips)
	}
	return `"` + o.text + `"`
}

func join(ips []netip.Addr) string {
	parts := make([]string, len(ips))
	for i, ip := range ips {
		parts[i] = ip.String()
	}
	return strings.Join(parts, ",")
}

// iscNames are the options dhcpd knows by name; others are declared.
var iscNames = map[int]string{43: "vendor-encapsulated-options", 66: "tftp-server-name", 67: "bootfile-name"}

// isc is for ISC dhcpd 4.x.
func isc(groups []group, hook string) string {
	var b strings.Builder
	b.WriteString(head("#", "isc"))
	declared := map[int]bool{}
	for _, g := range groups {
		for _, o := range g.options {
			if iscNames[o.code] != "" || declared[o.code] {
				continue
			}
			declared[o.code] = true
			kind := "text"
			if o.ips != nil {
				kind = "array of ip-address"
			}
			fmt.Fprintf(&b, "option ledgerline-%d code %d = %s;\n", o.code, o.code, kind)
		}
	}
	for _, g := range groups {
		var tests []string
		for _, c := range g.classes {
			if end, suffix := strings.CutPrefix(c, "*"); suffix {
				tests = append(tests, fmt.Sprintf("suffix(option vendor-class-identifier, %d) = \"%s\"", len(end), end))
			} else {
				tests = append(tests, fmt.Sprintf("substring(option vendor-class-identifier, 0, %d) = \"%s\"", len(c), c))
			}
		}
		for _, o := range g.ouis {
			tests = append(tests, "substring(hardware, 1, 3) = "+colons(bytesOf(o)))
		}
		fmt.Fprintf(&b, "\nclass \"%s\" {\n  match if (%s);\n", g.name, strings.Join(tests, ")\n        or ("))
		for _, o := range g.options {
			name := iscNames[o.code]
			if name == "" {
				name = "ledgerline-" + strconv.Itoa(o.code)
			}
			fmt.Fprintf(&b, "  option %s %s;\n", name, o.value())
		}
		b.WriteString("}\n")
	}
	if hook != "" {
		fmt.Fprintf(&b, `
on commit {
  set ledgerline-ip = binary-to-ascii(10, 8, ".", leased-address);
  set ledgerline-mac = binary-to-ascii(16, 8, ":", substring(hardware, 1, 6));
  set ledgerline-class = pick-first-value(option vendor-class-identifier, "");
  execute("%s", "commit", ledgerline-ip, ledgerline-mac, ledgerline-class);
}
`, hook)
	}
	return b.String()
}

type (
	keaClass struct {
		Name       string      `json:"name"`
		Test       string      `json:"test"`
		OptionDef  []keaDef    `json:"option-def,omitempty"`
		OptionData []keaOption `json:"option-data"`
	}
	keaDef struct {
		Name  string `json:"name"`
		Code  int    `json:"code"`
		Type  string `json:"type"`
		Array bool   `json:"array,omitempty"`
	}
	keaOption struct {
		Code       int    `json:"code"`
		AlwaysSend bool   `json:"always-send"`
		CSV        bool   `json:"csv-format"`
		Data       string `json:"data"`
	}
	keaHook struct {
		Library    string         `json:"library"`
		Parameters map[string]any `json:"parameters"`
	}
)

// keaKnown are the options Kea has a definition of.
var keaKnown = []int{43, 66, 67, 114}

// kea is members of "Dhcp4" for Kea 2.x. Data are bytes in hex, so that no comma in a text divides it.
func kea(groups []group, hook string) (string, error) {
	var out struct {
		Classes []keaClass `json:"client-classes"`
		Defs    []keaDef   `json:"option-def,omitempty"`
		Hooks   []keaHook  `json:"hooks-libraries,omitempty"`
	}
	declared := map[int]bool{}
	for _, g := range groups {
		c := keaClass{Name: g.name}
		var tests []string
		for _, class := range g.classes {
			if end, suffix := strings.CutPrefix(class, "*"); suffix {
				tests = append(tests, fmt.Sprintf("substring(option[60].hex, -%d, %d) == '%s'", len(end), len(end), end))
			} else {
				tests = append(tests, fmt.Sprintf("substring(option[60].hex, 0, %d) == '%s'", len(class), class))
			}
		}
		for _, o := range g.ouis {
			tests = append(tests, "substring(pkt4.mac, 0, 3) == 0x"+o)
		}
		c.Test = "(" + strings.Join(tests, ") or (") + ")"
		for _, o := range g.options {
			data := keaOption{Code: o.code, AlwaysSend: true, Data: hex.EncodeToString([]byte(o.text))}
			switch {
			case o.code == 43:
				c.OptionDef = []keaDef{{Name: "vendor-encapsulated-options", Code: 43, Type: "binary"}}
				if o.raw != nil {
					data.Data = hex.EncodeToString(o.raw)
				}
			case o.ips != nil:
				data.CSV, data.Data = true, strings.ReplaceAll(join(o.ips), ",", ", ")
			}
			if !slices.Contains(keaKnown, o.code) && !declared[o.code] {
				declared[o.code] = true
				kind := keaDef{Name: "ledgerline-" + strconv.Itoa(o.code), Code: o.code, Type: "string"}
				if o.ips != nil {
					kind.Type, kind.Array = "ipv4-address", true
				}
				out.Defs = append(out.Defs, kind)
			}
			c.OptionData = append(c.OptionData, data)
		}
		out.Classes = append(out.Classes, c)
	}
	if hook != "" {
		out.Hooks = []keaHook{{"libdhcp_run_script.so", map[string]any{"name": hook, "sync": false}}}
	}
	b, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return "", err
	}
	return head("//", "kea") + string(b) + "\n", nil
}
