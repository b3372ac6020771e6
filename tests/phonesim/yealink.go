package phonesim

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Yealink: "Administrator's Guide SIP-T2/T19/T4/T5/CP" and "Auto Provisioning Guide V81+".
var yealink = behaviour{
	Vendor: Vendor{
		Name: "yealink",
		OUIs: []string{"001565", "805ec0", "805e0c", "249ad8", "3497d7", "44dbd2", "644f56", "b061a9", "c4fc22", "e434d7", "ec1da9", "f01653"},
		Models: []Model{
			{"T54W", "96.86.0.70"}, {"T46S", "66.86.0.15"}, {"T31P", "124.86.0.75"}, {"T46U", "108.86.0.90"},
			{"T23G", "44.84.0.15"}, {"T28P", "2.73.0.50"}, {"CP920", "78.86.0.15"}, {"W70B", "146.86.0.37"},
		},
	},
	userAgent: yealinkUserAgent,
	order:     yealinkOrder,
	parse:     parseYealink,
	interpret: interpretYealink,
	expand: func(id identity, s string) string {
		return strings.NewReplacer("$MAC", string(id.mac), "$mac", string(id.mac), "$PN", id.model).Replace(s)
	},
	page: yealinkPage,
}

// yealinkRelease is the software release, the second field of the version: 86 for 96.86.0.70.
func yealinkRelease(id identity) int { return versionField(id.firmware, 1) }

// yealinkBare models leave "SIP-" out of their User-Agent.
var yealinkBare = map[string]bool{
	"CP860": true, "W52P": true, "W60B": true, "W70B": true, "W75B": true, "W75DM": true, "W80B": true,
	"W80DM": true, "W90B": true, "W90DM": true, "AX83H": true, "AX86R": true,
}

func yealinkUserAgent(id identity) string {
	model := strings.ToUpper(id.model)
	switch {
	case yealinkRelease(id) < 73:
		return fmt.Sprintf("Yealink-%s %s 28.1.0.128.0.0.0", model, id.firmware)
	case strings.HasPrefix(model, "VP530"):
		return fmt.Sprintf("%s %s %s", model, id.firmware, id.mac.Colons())
	case yealinkBare[model]:
		return fmt.Sprintf("Yealink %s %s %s", model, id.firmware, id.mac.Colons())
	case model == "T49G":
		model = "VP-T49G"
		return fmt.Sprintf("Yealink SIP %s %s %s", model, id.firmware, id.mac.Colons())
	}
	return fmt.Sprintf("Yealink SIP-%s %s %s", model, id.firmware, id.mac.Colons())
}

// yealinkCommon is the number of the common file where it is not the firmware's family.
var yealinkCommon = map[string]int{
	"T19P_E2": 53, "T20P": 7, "T21P_E2": 52, "T22P": 5, "T23P": 44, "T23G": 44, "T26P": 4, "T27P": 45, "T27G": 69,
	"T28P": 0, "T29G": 46, "T32G": 32, "T38G": 38, "T40P": 54, "T40G": 76, "T41P": 36, "T41S": 68, "T42G": 29,
	"T42S": 67, "T46G": 28, "T46S": 66, "T48G": 35, "T48S": 65, "T49G": 51, "T52S": 74, "T53": 95, "T53W": 95,
	"T54S": 70, "T54W": 96, "T57W": 97, "T56A": 56, "T58": 58, "CP860": 37, "CP920": 78, "CP960": 73, "VP530": 23,
	"VP59": 91, "W52P": 25, "W56P": 25, "W60B": 77,
}

// yealinkCommonFile is y0000000000NN.cfg.
func yealinkCommonFile(id identity) string {
	n, ok := yealinkCommon[strings.ToUpper(id.model)]
	if !ok {
		n = max(versionField(id.firmware, 0), 0)
	}
	return fmt.Sprintf("y%012d.cfg", n)
}

// yealinkOrder: a boot file, the phone's own before the common one, stands for all (firmware from v81); without
// one the common file, then the phone's own.
func yealinkOrder(ctx context.Context, b *boot) error {
	id := b.phone.id
	if b.direct() {
		_, err := b.load(ctx, b.base.String())
		return err
	}
	if yealinkRelease(id) >= 81 {
		if found, err := b.first(ctx, string(id.mac)+".boot", "y000000000000.boot"); found || err != nil {
			return err
		}
	}
	if _, err := b.load(ctx, yealinkCommonFile(id)); err != nil {
		return err
	}
	_, err := b.load(ctx, string(id.mac)+".cfg")
	return err
}

const yealinkVersion = "#!version:1.0.0.1"

// parseYealink reads a .cfg or .boot file. An empty value means "leave as it is" and is not in the document;
// %NULL% clears. Of a name given twice the last value that is not empty counts.
func parseYealink(_ identity, data []byte) (document, error) {
	var d document
	if !utf8.Valid(data) {
		line := 1 + bytes.Count(data[:invalidUTF8(data)], []byte("\n"))
		return d, malformed(line, "not UTF-8")
	}
	n := 0
	for text := range strings.Lines(string(data)) {
		n++
		text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
		if n == 1 {
			if text != yealinkVersion {
				return d, malformed(1, "must be exactly %s", yealinkVersion)
			}
			continue
		}
		if err := d.yealinkLine(n, text); err != nil {
			return document{}, err
		}
	}
	if n == 0 {
		return d, malformed(1, "must be exactly %s", yealinkVersion)
	}
	return d, nil
}

func invalidUTF8(data []byte) int {
	at := 0
	for at < len(data) {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		at += size
	}
	return at
}

func (d *document) yealinkLine(n int, text string) error {
	if strings.TrimSpace(text) == "" || text[0] == '#' {
		return nil
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return malformed(n, "control character")
	}
	if ref, ok := strings.CutPrefix(text, "include:config"); ok {
		ref = strings.TrimSpace(ref)
		if len(ref) >= 2 && (ref[0] == '"' && ref[len(ref)-1] == '"' || ref[0] == '<' && ref[len(ref)-1] == '>') {
			ref = ref[1 : len(ref)-1]
		}
		if ref == "" || strings.ContainsAny(ref, `"<> `) {
			return malformed(n, "include:config without a file name")
		}
		d.include = append(d.include, ref)
		return nil
	}
	name, value, ok := strings.Cut(text, "=")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if !ok {
		return malformed(n, "no = between name and value")
	}
	if name == "" || strings.ContainsFunc(name, notYealinkName) {
		return malformed(n, "%.60q is not a parameter name", name)
	}
	switch {
	case name == "overwrite_mode":
		d.overwrite = value == "1"
	case value == "":
	case value == "%NULL%":
		d.set = append(d.set, setting{name, ""})
	default:
		d.set = append(d.set, setting{name, value})
	}
	return nil
}

func notYealinkName(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-')
}

var (
	yealinkTransports = map[string]string{"0": "udp", "1": "tcp", "2": "tls", "3": "dns"}
	yealinkSRTP       = map[string]string{"0": "off", "1": "optional", "2": "required"}
)

func interpretYealink(id identity, v Values) Parsed {
	r := &reader{Values: v}
	static := "static."
	if yealinkRelease(id) < 81 {
		static = ""
	}
	p := Parsed{
		Raw:             v,
		ProvisioningURL: v[static+"auto_provision.server.url"],
		FirmwareURL:     v[static+"firmware.url"],
		Timezone: Timezone{
			Zone: v["local_time.time_zone"], Name: v["local_time.time_zone_name"], DST: v["local_time.summer_time"],
			Type: v["local_time.dst_time_type"], Start: v["local_time.start_time"], End: v["local_time.end_time"],
			Shift: v["local_time.offset_time"],
		},
	}
	for _, n := range v.indexes("account.") {
		p.Accounts = append(p.Accounts, yealinkAccount(r, n))
	}
	for _, bank := range []string{"linekey", "memorykey", "programablekey"} {
		p.Keys = append(p.Keys, yealinkKeys(v, bank, bank)...)
	}
	for m := 1; m <= 6; m++ { // as many as any model takes
		bank := "expansion_module." + strconv.Itoa(m)
		p.Keys = append(p.Keys, yealinkKeys(v, bank, bank+".key")...)
	}
	sortKeys(p.Keys)
	p.Problems = r.problems
	return p
}

func yealinkAccount(r *reader, n int) Account {
	at := fmt.Sprintf("account.%d.", n)
	server := at + "sip_server.1."
	if t := r.Values[at+"sip_server.template"]; t != "" { // DECT bases share servers
		server = "template." + t + ".sip_server.1."
	}
	a := Account{
		Index: n, Enabled: r.flag(at+"enable", "1", "0", false),
		UserName: r.Values[at+"user_name"], AuthName: r.Values[at+"auth_name"], Password: NewPassword(r.Values[at+"password"]),
		DisplayName: r.Values[at+"display_name"], Label: r.Values[at+"label"],
		Server: r.Values[server+"address"], Port: r.port(server + "port"),
		Transport:    r.oneOf(server+"transport_type", yealinkTransports),
		SRTP:         r.oneOf(at+"srtp_encryption", yealinkSRTP),
		BackupServer: r.Values[at+"sip_server.2.address"],
		Voicemail:    r.Values["voice_mail.number."+strconv.Itoa(n)],
	}
	if r.flag(at+"outbound_proxy_enable", "1", "0", false) {
		a.OutboundProxy = r.Values[at+"outbound_proxy.1.address"]
		if port := r.port(at + "outbound_proxy.1.port"); port != 0 && a.OutboundProxy != "" {
			a.OutboundProxy += ":" + strconv.Itoa(port)
		}
	}
	return a
}

func yealinkKeys(v Values, bank, prefix string) (keys []Key) {
	for _, n := range v.indexes(prefix + ".") {
		at := fmt.Sprintf("%s.%d.", prefix, n)
		pickup := v[at+"extension"] // from v81; older firmware reads pickup_value
		if pickup == "" {
			pickup = v[at+"pickup_value"]
		}
		k := Key{Bank: bank, Index: n, Type: v[at+"type"], Line: v[at+"line"], Value: v[at+"value"], Label: v[at+"label"], Pickup: pickup}
		if k.Type != "" && k.Type != "0" {
			keys = append(keys, k)
		}
	}
	return keys
}
