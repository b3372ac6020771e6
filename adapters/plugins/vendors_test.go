package plugins_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/plugins"
	"ledgerline/adapters/plugins/tz"
	"ledgerline/adapters/plugins/wire"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/tests/phonesim"
)

// desk is settings with two lines of different security and keys, in texts that a careless file would not survive.
func desk() domain.Settings {
	return domain.Settings{
		"timezone": "Europe/Paris", "locale": "fr_FR", "ntp_enabled": true, "ntp_ip": "ntp.example.net", "sip_proxy_ip": "sip.example.net", "sip_proxy_port": 5062,
		"firmware_url": "http://fw.example.net/gs/1.0/image.bin", "exten_voicemail": "*98", "exten_pickup_call": "*8",
		"sip_lines": map[string]any{
			"1": map[string]any{"username": "1001", "auth_username": "a<1001>", "password": `p&"w'<]]>é`, "display_name": "Zoë <Z> & Co", "label": "One",
				"transport": "tls", "srtp_mode": "disabled", "backup_registrar_ip": "two.example.net"},
			"2": map[string]any{"username": "1002", "password": "x", "transport": "udp", "srtp_mode": "required", "proxy_ip": "2001:db8::9",
				"outbound_proxy_ip": "edge.example.net", "outbound_proxy_port": 5080},
		},
		"funckeys": map[string]any{
			"3": map[string]any{"type": "blf", "value": "1005", "label": `Ann & "Bo"`},
			"4": map[string]any{"type": "speeddial", "value": "+33123456789", "line": 2},
		},
	}
}

// fleet serves what the packages render to whoever is recognised, as the phone plane does.
func fleet(t *testing.T, set *plugins.Set, settings domain.Settings, guest bool) *httptest.Server {
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, "/")
		who, ok := set.Recognize(commands.Asked{Path: path, Query: r.URL.RawQuery, UserAgent: r.UserAgent()})
		if !ok {
			http.NotFound(w, r)
			return
		}
		out, err := set.Render(r.Context(), commands.Render{Plugin: commands.PluginRef{Name: who.Plugin}, MAC: who.MAC, ID: domain.DeviceID(who.MAC),
			Model: who.Model, Fw: who.Fw, Settings: settings, BaseURL: server.URL + "/", Guest: guest || who.MAC == ""})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		for _, name := range []string{path, who.File} {
			for _, f := range out.Files {
				if f.Path == name || slices.Contains(f.Aliases, name) {
					_, _ = w.Write(f.Data)
					return
				}
			}
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(server.Close)
	return server
}

func phone(t *testing.T, vendor, model, firmware, mac, server string) *phonesim.Phone {
	t.Helper()
	p, err := phonesim.New(phonesim.Config{Vendor: vendor, Model: model, Firmware: firmware, MAC: domain.MAC(mac), Server: server})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// Real phones' order of files, User-Agents and parsers over what the packages render.
func TestPhonesBootWithWhatIsRendered(t *testing.T) {
	set := loadBuiltin(t)
	for _, v := range phonesim.Vendors() {
		if v.Name == "yealink" {
			continue
		}
		for _, m := range v.Models {
			t.Run(v.Name+"/"+m.Name, func(t *testing.T) {
				mac := v.OUIs[0] + "0a0b0c"
				server := fleet(t, set, desk(), false)
				res, err := phone(t, v.Name, m.Name, m.Firmware, mac, server.URL+"/").Boot(context.Background())
				if err != nil || res.State != phonesim.Configured || len(res.Parsed.Problems) > 0 {
					t.Fatalf("%s %v %v", res.State, err, res.Parsed.Problems)
				}
				checkAccounts(t, v.Name, m.Name, res.Parsed)
				if got := res.Parsed.ProvisioningURL; got != server.URL+"/" {
					t.Errorf("moves to %s", got)
				}
			})
		}
	}
}

func checkAccounts(t *testing.T, vendor, model string, p phonesim.Parsed) {
	t.Helper()
	one := p.Accounts[0]
	want := phonesim.Account{Index: 1, Enabled: true, UserName: "1001", AuthName: "a<1001>", Password: phonesim.NewPassword(`p&"w'<]]>é`),
		DisplayName: "Zoë <Z> & Co", Label: "One", Server: "sip.example.net", Port: 5062, Transport: "tls", SRTP: "off", Voicemail: "*98"}
	switch {
	case model == "M900": // server, label and transport stand in settings of the base's own
		want.Label, want.Transport = "", ""
	case vendor == "snom":
		want.OutboundProxy = "sip.example.net:5062"
	default:
		want.BackupServer = "two.example.net"
	}
	if strings.HasPrefix(model, "HT") {
		want.Label = ""
	}
	if diff := cmp.Diff(want, one, cmp.Comparer(phonesim.Password.Equal)); diff != "" {
		t.Errorf("account 1:\n%s", diff)
	}
	if model == "GXP1630" || len(p.Accounts) > 1 {
		two := p.Accounts[1]
		if !two.Enabled || two.AuthName != "1002" || two.Server != "2001:db8::9" || two.SRTP != "required" && model != "M900" || !strings.HasPrefix(two.OutboundProxy, "edge.example.net:5080") {
			t.Errorf("account 2 is %+v", two)
		}
	}
}

func TestKeysReachThePhone(t *testing.T) {
	set := loadBuiltin(t)
	for _, c := range []struct {
		plugin, model string
		want          []phonesim.Key
	}{
		{"snom", "D785", []phonesim.Key{
			{Bank: "context_key", Index: 0, Type: "keyevent", Value: "F_ADR_BOOK"}, {Bank: "fkey", Index: 0, Type: "line", Line: "1"}, {Bank: "fkey", Index: 1, Type: "line", Line: "2"},
			{Bank: "fkey", Index: 2, Type: "blf", Line: "1", Value: "1005", Label: `Ann & "Bo"`, Pickup: "*8"}, {Bank: "fkey", Index: 3, Type: "speed", Line: "2", Value: "+33123456789"}}},
		{"grandstream", "GXP2170", []phonesim.Key{
			{Bank: "line", Index: 1, Type: "line", Line: "0"}, {Bank: "line", Index: 2, Type: "line", Line: "1"},
			{Bank: "line", Index: 3, Type: "blf", Line: "0", Value: "1005", Label: `Ann & "Bo"`}, {Bank: "line", Index: 4, Type: "speeddial", Line: "1", Value: "+33123456789"}}},
		{"grandstream", "GXP2110", []phonesim.Key{
			{Bank: "line", Index: 1, Type: "0", Line: "0"}, {Bank: "line", Index: 2, Type: "0", Line: "1"},
			{Bank: "line", Index: 3, Type: "11", Line: "0", Value: "1005", Label: `Ann & "Bo"`}, {Bank: "line", Index: 4, Type: "10", Line: "1", Value: "+33123456789"}}},
	} {
		if diff := cmp.Diff(c.want, understood(t, set, c.plugin, c.model, desk(), false).Keys); diff != "" {
			t.Errorf("%s:\n%s", c.model, diff)
		}
	}
}

// understood is what the phone reads in its own file.
func understood(t *testing.T, set *plugins.Set, plugin, model string, s domain.Settings, guest bool) phonesim.Parsed {
	t.Helper()
	mac := map[string]domain.MAC{"snom": "000413922d24", "grandstream": "000b82aabbcc"}[plugin]
	out := render(t, set, commands.Render{Plugin: commands.PluginRef{Name: plugin}, MAC: mac, ID: domain.DeviceID(mac), Model: model, Settings: s,
		BaseURL: "https://prov.example.net/d/0a1b2c/", Guest: guest})
	for _, f := range out.Files {
		if strings.Contains(strings.ToLower(f.Path), string(mac)) {
			p, err := phonesim.ParseFile(phonesim.Config{Vendor: plugin, Model: model, MAC: mac}, f.Data)
			if err != nil || len(p.Problems) > 0 {
				t.Fatalf("%s %s: %v %v", model, f.Path, err, p.Problems)
			}
			return p
		}
	}
	t.Fatalf("%s has no file of its own", model)
	return phonesim.Parsed{}
}

// A phone keeps what it was told, so whatever is taken away must be said to be gone.
func TestWhatIsTakenAwayIsCleared(t *testing.T) {
	set := loadBuiltin(t)
	for plugin, models := range map[string][]string{"snom": {"370", "D785", "M300"}, "grandstream": {"GRP2614", "HT802", "GXP2000"}} {
		for _, model := range models {
			before := understood(t, set, plugin, model, full(harmless), false).Raw
			for _, guest := range []bool{false, true} {
				after := understood(t, set, plugin, model, domain.Settings{"locale": "de_DE"}, guest)
				for _, a := range after.Accounts {
					if a.Enabled || a.UserName != "" || a.AuthName != "" || !a.Password.IsZero() || a.DisplayName != "" {
						t.Errorf("%s: account %d is still %+v", model, a.Index, a)
					}
				}
				for name, old := range before {
					if now, said := after.Raw[name]; strings.HasPrefix(old, "v-sip_lines") && (!said || now == old) && !accountDetail(name, after.Raw) {
						t.Errorf("%s (guest %v): %s stays", model, guest, name)
					}
				}
			}
		}
	}
}

// accountDetail tells whether a setting belongs to an account that is switched off, and is no credential: ring, dial plan.
func accountDetail(name string, now phonesim.Values) bool {
	_, n, _ := strings.Cut(name, "[")
	for _, detail := range []string{"user_dp_str[", "user_ringer[", "user_mailnumber[", "subscr_sip_line_name["} {
		if strings.HasPrefix(name, detail) {
			return now["user_active["+n] == "off"
		}
	}
	return slices.Contains([]string{"P290", "P459", "P559", "P4200", "P4201", "P104", "P423", "P523", "P2333", "P2433", "P2533"}, name)
}

// A file that every phone of a model may fetch is the same for each of them, but for the server.
func TestSharedFilesNameNoPhone(t *testing.T) {
	set := loadBuiltin(t)
	for _, plugin := range []string{"snom", "grandstream"} {
		p, err := set.Package(commands.PluginRef{Name: plugin})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range p.Models {
			for _, guest := range []bool{false, true} {
				for _, f := range render(t, set, request(p, m.Name, "", full(harmless), guest)).Files {
					names := append([]string{f.Path}, f.Aliases...)
					shared := slices.ContainsFunc(names, func(n string) bool { return !strings.Contains(strings.ToLower(n), "001565aabbcc") })
					if shared && bytes.Contains(bytes.ToLower(f.Data), []byte("001565aabbcc")) {
						t.Errorf("%s: %v names a phone", m.Name, names)
					}
				}
			}
		}
	}
}

// zoneNames lists the zones of the database the tz package has in it.
func zoneNames(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile("tz/zones.txt")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(b)) {
		if name, _, ok := strings.Cut(line, "\t"); ok {
			names = append(names, name)
		}
	}
	return names
}

// Every zone has a code whose hours are right, or a warning and its offset in seconds.
func TestSnomZones(t *testing.T) {
	set := loadBuiltin(t)
	coded := 0
	for _, name := range zoneNames(t) {
		z, err := tz.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		r := commands.Render{Plugin: commands.PluginRef{Name: "snom"}, Model: "D120", MAC: "000413922d24", Settings: domain.Settings{"timezone": name}, Guest: true}
		raw := understood(t, set, "snom", "D120", r.Settings, true).Raw
		code := raw["timezone"]
		if code == "" {
			offset := strconv.Itoa(z.Rule.Normal().StdOffset)
			warned := slices.ContainsFunc(render(t, set, r).Warnings, func(w commands.Warning) bool { return w.Setting == "timezone" })
			if raw["utc_offset"] != offset || !warned || (raw["dst"] != "") != z.Rule.HasDST {
				t.Errorf("%s: utc_offset %q, dst %q, warned %v; want %s", name, raw["utc_offset"], raw["dst"], warned, offset)
			}
			continue
		}
		coded++
		hours, err := strconv.ParseFloat(strings.TrimPrefix(code[strings.IndexAny(code, "+-"):], "+"), 64)
		if err != nil || int(hours*3600) != z.Rule.Normal().StdOffset {
			t.Errorf("%s has the code %s, but is %d s east", name, code, z.Rule.Normal().StdOffset)
		}
	}
	if coded < 400 {
		t.Errorf("only %d zones have a code", coded)
	}
}

func TestSnomAndGrandstreamAreRecognised(t *testing.T) {
	set := loadBuiltin(t)
	snom := func(model, fw, mac, file string) commands.Recognition {
		return commands.Recognition{Plugin: "snom", Vendor: "Snom", Model: model, Fw: fw, MAC: domain.MAC(mac), File: file}
	}
	gs := func(model, fw, mac, file string) commands.Recognition {
		return commands.Recognition{Plugin: "grandstream", Vendor: "Grandstream", Model: model, Fw: fw, MAC: domain.MAC(mac), File: file}
	}
	for _, c := range []struct {
		asked commands.Asked
		want  commands.Recognition
	}{
		{commands.Asked{Path: "snomD785.htm", UserAgent: "Mozilla/4.0 (compatible; snomD785-SIP 10.1.33.33 2010.12-00004 000413922D24 SXM:0 UXM:0)"},
			snom("D785", "10.1.33.33", "000413922d24", "snomD785.htm")},
		{commands.Asked{Path: "snomD785-000413922D24.htm", UserAgent: "snomD785-SIP 10.1.33.33 2010.12-00004 000413922D24 SXM:0 UXM:0"},
			snom("D785", "10.1.33.33", "000413922d24", "000413922D24.xml")},
		{commands.Asked{Path: "snom720-00041340AABB.htm", UserAgent: "Mozilla/4.0 (compatible; snom720-SIP 8.9.3.80 1.1.3-u 00041340AABB)"},
			snom("720", "8.9.3.80", "00041340aabb", "00041340AABB.xml")},
		// before 8.7.5 the path alone tells the MAC
		{commands.Asked{Path: "snom370.htm", UserAgent: "Mozilla/4.0 (compatible; snom370-SIP 8.7.3.25 1.1.3-u)"}, snom("370", "8.7.3.25", "", "snom370.htm")},
		{commands.Asked{Path: "snom370-0004131A2B3C.htm", UserAgent: "Mozilla/4.0 (compatible; snom370-SIP 8.7.3.25 1.1.3-u)"},
			snom("370", "8.7.3.25", "0004131a2b3c", "0004131A2B3C.xml")},
		{commands.Asked{Path: "snom360.htm", UserAgent: "Mozilla/4.0 (compatible; snom360-SIP 7.3.30 snom360 linux 3.38)"}, snom("360", "7.3.30", "", "snom360.htm")},
		{commands.Asked{Path: "snomMP.htm"}, snom("MP", "", "", "snomMP.htm")},
		{commands.Asked{Path: "snomPA1-0004131A2B3C.htm"}, snom("PA1", "", "0004131a2b3c", "0004131A2B3C.xml")},
		{commands.Asked{Path: "snomM900.htm", UserAgent: "Snom M900 07.40.0001 00087B123456"}, snom("M900", "07.40.0001", "00087b123456", "snomM900.htm")},
		{commands.Asked{Path: "00087B123456.xml", UserAgent: "snomM300 05.20.0001 00087B123456"}, snom("M300", "05.20.0001", "00087b123456", "00087B123456.xml")},
		{commands.Asked{Path: "snomD735-firmware.xml", UserAgent: "Mozilla/4.0 (compatible; snomD735-SIP 10.1.33.33 2010.12-00004 000413922D24 SXM:0 UXM:0)"},
			snom("D735", "10.1.33.33", "000413922d24", "snomD735-firmware.xml")},
		{commands.Asked{Path: "prov", Query: "mac=000413922D24"}, snom("", "", "000413922d24", "000413922D24.xml")},
		{commands.Asked{Path: "prov", Query: "a=b&mac=000413922D24&c=d", UserAgent: "Mozilla/4.0 (compatible; snomD865-SIP 10.1.175.16 2010.12-00004 000413922D24 SXM:0 UXM:0)"},
			snom("D865", "10.1.175.16", "000413922d24", "000413922D24.xml")},
		{commands.Asked{Path: "000413922d24.htm"}, snom("", "", "000413922d24", "000413922D24.xml")},

		{commands.Asked{Path: "cfgc074ad112233.xml", UserAgent: "Grandstream Model HW GRP2614 V1.0 SW 1.0.9.26 DevId c074ad112233"},
			gs("GRP2614", "1.0.9.26", "c074ad112233", "cfgc074ad112233.xml")},
		{commands.Asked{Path: "cfggrp2612w.xml", UserAgent: "Grandstream Model HW GRP2612W SW 1.0.9.26 DevId c074ad112233"},
			gs("GRP2612", "1.0.9.26", "c074ad112233", "cfg.xml")},
		{commands.Asked{Path: "cfgec74d7112233", UserAgent: "Grandstream Model HW HT802V2 V1.0B SW 1.0.43.11 DevId ec74d7112233"},
			gs("HT802", "1.0.43.11", "ec74d7112233", "cfgec74d7112233")},
		{commands.Asked{Path: "cfg000b82112233", UserAgent: "Grandstream GXP2000 (gxp2000e.bin:1.2.5.3/boot55e.bin:1.1.6.9) DevId 000b82112233"},
			gs("GXP2000", "1.2.5.3", "000b82112233", "cfg000b82112233")},
		{commands.Asked{Path: "cfg.xml", UserAgent: "Grandstream Model HW GXP2170 V1.0 SW 1.0.11.64 DevId 000b82112233"},
			gs("GXP2170", "1.0.11.64", "000b82112233", "cfg.xml")},
		{commands.Asked{Path: "Grandstream/cfg000b82112233.xml"}, gs("", "", "000b82112233", "cfg000b82112233.xml")},
		{commands.Asked{Path: "cfg000b82112233.bin"}, gs("", "", "000b82112233", "cfg000b82112233")},
		{commands.Asked{Path: "cfgGXP2135.xml"}, gs("GXP2135", "", "", "cfg.xml")},
	} {
		got, ok := set.Recognize(c.asked)
		if diff := cmp.Diff(c.want, got); !ok || diff != "" {
			t.Errorf("%+v: %v\n%s", c.asked, ok, diff)
		}
	}
	for _, a := range []commands.Asked{
		{Path: "snom.htm"}, {Path: "snomD785-00041392.htm"}, {Path: "a/snomD785.htm"}, {Path: "001122334455.xml"}, {Path: "x", Query: "mac=001122334455"},
		{Path: "x", Query: "mac=000413922D2"}, {UserAgent: "Mozilla/4.0 (compatible; MSIE 6.0)"}, {UserAgent: "Mozilla/4.0 (compatible; snom-SIP 1.2)"},
		{Path: "cfg001122334455.xml"}, {Path: "cfg.xml"}, {Path: "cfg000b8211223.xml"}, {Path: "cfghello.xml"}, {UserAgent: "Grandstream"}, {UserAgent: "Htek UC926 2.0.4 001fc1000001"},
	} {
		if got, ok := set.Recognize(a); ok {
			t.Errorf("%+v recognised as %+v", a, got)
		}
	}
	for class, want := range map[string]string{"snomD735": "D735", "snom720": "720", "snomM300-05.20": "M300", "Grandstream GXP2170 dslforum.org": "GXP2170", "HT8XX": "", "GXW4200": "", "HT802V2": "HT802", "snom": ""} {
		if got, ok := set.RecognizeDHCP(class, "000413922d24"); !ok || got.Model != want {
			t.Errorf("class %q is %+v %v, want model %q", class, got, ok, want)
		}
	}
}

// The binary form names its phone, adds up to zero and gives back every value.
func TestGrandstreamBinary(t *testing.T) {
	text := []byte(`<gs_provision version="1"><mac>000b82aabbcc</mac><config version="1"><P47>sip.example.net:5060</P47><P34>a&amp;b=c ü%</P34><P3></P3></config></gs_provision>`)
	data, err := wire.Finish("grandstream-binary", text, "000b82aabbcc")
	if err != nil {
		t.Fatal(err)
	}
	want := []wire.Entry{{Key: "P47", Value: "sip.example.net:5060"}, {Key: "P34", Value: "a&b=c ü%"}, {Key: "P3"}}
	got, err := wire.Parse("grandstream-binary", data)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	p, err := phonesim.ParseFile(phonesim.Config{Vendor: "grandstream", Model: "GXP2000", MAC: "000b82aabbcc"}, data)
	if err != nil || p.Raw["P34"] != "a&b=c ü%" {
		t.Errorf("the phone reads %q: %v", p.Raw["P34"], err)
	}
	for i := range data {
		broken := bytes.Clone(data)
		broken[i] ^= 1
		if _, err := wire.Parse("grandstream-binary", broken); err == nil {
			t.Fatalf("byte %d may be changed unseen", i)
		}
	}
	if _, err := wire.Finish("grandstream-binary", text, ""); err == nil {
		t.Error("a file without MAC is made")
	}
}
