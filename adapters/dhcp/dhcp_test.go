package dhcp

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var (
	site     = Site{URL: "http://192.0.2.1:8667/", TFTP: "192.0.2.1"}
	families = []Family{
		{"snom", []Rule{{Classes: []string{"snom"}, OUIs: []string{"00087b", "000413"}, Options: map[string]string{"66": "<url>", "67": "snom{model}.htm"}}}},
		{"cisco", []Rule{
			{Classes: []string{"*-3PCC"}, Options: map[string]string{"160": "<url>$PSN.xml"}},
			{Classes: []string{"Cisco Systems, Inc. IP Phone CP-79"}, Options: map[string]string{"66": "<tftp>", "150": "<tftp>"}}}},
		{"aastra", []Rule{{Classes: []string{"AastraIPPhone", "MitelIPPhone"}, Options: map[string]string{"43.2": "<url>", "43.10": "1", "242": "HTTPSRVR=<host>,HTTPPORT=<port>"}}}},
		{"thomson", []Rule{{Classes: []string{"Thomson"}, Options: map[string]string{"43": "<url>ST2030S.inf"}}}},
	}
)

// The three texts, word for word: dnsmasq reads its own in tests/e2e; the others follow dhcpd.conf(5), dhcp-eval(5)
// and the Kea Administrator Reference Manual 2.2, chapters 8.2 and 14.
func TestConfig(t *testing.T) {
	for _, server := range Servers {
		got, err := Config(server, families, site, "/usr/local/bin/ledgerline-lease")
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", server+".conf")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s:\n%s", server, diff)
		}
		if strings.Count(got, "{") != strings.Count(got, "}") || strings.Count(got, `"`)%2 != 0 {
			t.Errorf("%s: brackets or quotes do not pair:\n%s", server, got)
		}
		if server == "kea" {
			_, body, _ := strings.Cut(got, "\n{")
			if !json.Valid([]byte("{" + body)) {
				t.Errorf("kea's is no JSON: %s", got)
			}
		}
	}
}

func TestConfigRefuses(t *testing.T) {
	for what, c := range map[string]struct {
		server string
		site   Site
	}{
		"a server of another kind": {"windows", site},
		"no URL":                   {"dnsmasq", Site{"", "192.0.2.1"}},
		"a URL that ends a quote":  {"isc", Site{"http://x/\"; evil \"/", "192.0.2.1"}},
		"a URL without its slash":  {"isc", Site{"http://192.0.2.1", "192.0.2.1"}},
		"another scheme":           {"kea", Site{"ftp://192.0.2.1/", "192.0.2.1"}},
		"a TFTP server by name":    {"kea", Site{"http://192.0.2.1/", "tftp.example"}},
	} {
		text, err := Config(c.server, families, c.site, "")
		if err == nil || text != "" || c.server != "windows" && !errors.Is(err, ErrSite) {
			t.Errorf("%s: %v %s", what, err, text)
		}
	}
}

func TestLeases(t *testing.T) {
	phone := Lease{MAC: "0015651a2b03", IP: "192.0.2.7", Class: "yealink"}
	silent := phone
	silent.Class = ""
	other := Lease{MAC: "000413aabbcc", IP: "192.0.2.8"}
	for what, c := range map[string]struct {
		args []string
		env  map[string]string
		want []Lease
		bad  bool
	}{
		"dnsmasq, new":        {args: []string{"add", "00:15:65:1a:2b:03", "192.0.2.7", "phone"}, env: map[string]string{"DNSMASQ_VENDOR_CLASS": "yealink"}, want: []Lease{phone}},
		"dnsmasq, at start":   {args: []string{"old", "00:15:65:1a:2b:03", "192.0.2.7"}, want: []Lease{silent}},
		"dnsmasq, gone":       {args: []string{"del", "00:15:65:1a:2b:03", "192.0.2.7"}},
		"dhcpd":               {args: []string{"commit", "192.0.2.7", "0:15:65:1a:2b:3", "yealink\x00"}, want: []Lease{phone}},
		"dhcpd, no class":     {args: []string{"commit", "192.0.2.7", "0:15:65:1a:2b:3"}, want: []Lease{silent}},
		"Kea":                 {args: []string{"leases4_committed"}, env: map[string]string{"LEASES4_SIZE": "2", "LEASES4_AT0_HWADDR": "00:15:65:1a:2b:03", "LEASES4_AT0_ADDRESS": "192.0.2.7", "LEASES4_AT1_HWADDR": "00:04:13:aa:bb:cc", "LEASES4_AT1_ADDRESS": "192.0.2.8"}, want: []Lease{silent, other}},
		"Kea, again":          {args: []string{"lease4_renew"}, env: map[string]string{"LEASE4_HWADDR": "00:15:65:1a:2b:03", "LEASE4_ADDRESS": "192.0.2.7"}, want: []Lease{silent}},
		"Kea, gone":           {args: []string{"lease4_expire"}},
		"nothing":             {bad: true},
		"something":           {args: []string{"--help"}, bad: true},
		"no MAC":              {args: []string{"add", "01-aa", "192.0.2.7"}, bad: true},
		"no address":          {args: []string{"add", "00:15:65:1a:2b:03", "here"}, bad: true},
		"too little":          {args: []string{"add", "00:15:65:1a:2b:03"}, bad: true},
		"Kea without a count": {args: []string{"leases4_committed"}, bad: true},
		"Kea with too many":   {args: []string{"leases4_committed"}, env: map[string]string{"LEASES4_SIZE": "1000000000"}, bad: true},
	} {
		got, err := Leases(c.args, func(k string) string { return c.env[k] })
		if diff := cmp.Diff(c.want, got); diff != "" || errors.Is(err, ErrHook) != c.bad {
			t.Errorf("%s: %v\n%s", what, err, diff)
		}
	}
}
