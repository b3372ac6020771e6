package phonesim

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Grandstream: "SIP Device Provisioning Guide" (November 2023), HT801/802 manual.
var grandstream = behaviour{
	Vendor: Vendor{
		Name: "grandstream",
		OUIs: []string{"000b82", "c074ad", "ec74d7"},
		Models: []Model{
			{"GRP2614", "1.0.9.26"}, {"GXP2170", "1.0.11.64"}, {"GXP2135", "1.0.11.64"}, {"GRP2612W", "1.0.9.26"},
			{"GXP1630", "1.0.7.64"}, {"HT802", "1.0.43.11"}, {"GXP2000", "1.2.5.3"},
		},
	},
	userAgent: func(id identity) string {
		if id.model == "GXP2000" {
			return fmt.Sprintf("Grandstream GXP2000 (gxp2000e.bin:%s/boot55e.bin:1.1.6.9) DevId %s", id.firmware, id.mac)
		}
		return fmt.Sprintf("Grandstream Model HW %s V1.0 SW %s DevId %s", id.model, id.firmware, id.mac)
	},
	order:     grandstreamOrder,
	parse:     parseGrandstream,
	interpret: interpretGrandstream,
	expand:    func(_ identity, s string) string { return s },
}

// grandstreamOrder: the binary file, which applies first, then the first of the phone's, the model's and the
// common XML file. A GXP2000 reads binary only.
func grandstreamOrder(ctx context.Context, b *boot) error {
	id := b.phone.id
	if b.direct() {
		_, err := b.load(ctx, b.base.String())
		return err
	}
	if _, err := b.load(ctx, "cfg"+string(id.mac)); err != nil || id.model == "GXP2000" {
		return err
	}
	_, err := b.first(ctx, "cfg"+string(id.mac)+".xml", "cfg"+strings.ToLower(id.model)+".xml", "cfg.xml")
	return err
}

func parseGrandstream(id identity, data []byte) (document, error) {
	if bytes.HasPrefix(bytes.TrimLeft(data, "\ufeff \t\r\n"), []byte("<")) {
		if id.model == "GXP2000" {
			return document{}, malformed(1, "a GXP2000 reads binary files only")
		}
		return parseProvision(id, data)
	}
	return parseGrandstreamBinary(id, data)
}

// parseProvision reads <gs_provision version="1"> with P-values (config version 1) or aliases (version 2).
func parseProvision(id identity, data []byte) (document, error) {
	root, err := parseXML(data)
	if err != nil {
		return document{}, err
	}
	if root.name != "gs_provision" || root.attrs["version"] != "1" {
		return document{}, malformed(root.line, "root must be <gs_provision version=\"1\">")
	}
	var d document
	configs := 0
	for _, n := range root.children {
		switch {
		case n.name == "mac":
			err = checkMAC(id, n)
		case n.name == "config" && n.attrs["version"] == "1":
			configs++
			err = d.pValues(n)
		case n.name == "config" && n.attrs["version"] == "2":
			configs++
			err = d.aliases(n, "item", "")
		default:
			err = malformed(n.line, "<%.40s version=%.10q> in <gs_provision>", n.name, n.attrs["version"])
		}
		if err != nil {
			return document{}, err
		}
	}
	if configs == 0 {
		return document{}, malformed(root.line, "no <config>")
	}
	if err := root.bare(); err != nil {
		return document{}, err
	}
	return d, nil
}

func checkMAC(id identity, n *node) error {
	text, err := n.leaf()
	if err == nil && text != string(id.mac) {
		err = malformed(n.line, "<mac> %.20q is another phone's", text)
	}
	return err
}

func (d *document) pValues(config *node) error {
	for _, n := range config.children {
		if !isPValue(n.name) {
			return malformed(n.line, "<%.40s> is not a P-value", n.name)
		}
		value, err := n.leaf()
		if err != nil {
			return err
		}
		d.put(n.name, value)
	}
	return config.bare()
}

func isPValue(name string) bool {
	digits, ok := strings.CutPrefix(name, "P")
	return ok && digits != "" && len(digits) <= 8 && strings.Trim(digits, "0123456789") == ""
}

// aliases reads <item name="a.b">v</item>, or parts of a name: <item name="a"><part name="b">v</part></item>.
func (d *document) aliases(parent *node, kind, prefix string) error {
	if err := parent.bare(); err != nil {
		return err
	}
	for _, n := range parent.children {
		name := n.attrs["name"]
		if n.name != kind || name == "" {
			return malformed(n.line, "<%.40s> where <%s name=\"…\"> belongs", n.name, kind)
		}
		if len(n.children) > 0 {
			if err := d.aliases(n, "part", prefix+name+"."); err != nil {
				return err
			}
			continue
		}
		d.put(prefix+name, n.trimmed())
	}
	return nil
}

// binaryHeader is the length of the header: 4 bytes length in 16-bit words, 2 bytes checksum, 6 bytes MAC, CRLFCRLF.
const binaryHeader = 16

// parseGrandstreamBinary reads the binary form: header, then P-values as a URL-encoded query with gnkey.
func parseGrandstreamBinary(id identity, data []byte) (document, error) {
	var d document
	if len(data) < binaryHeader || len(data)%4 != 0 {
		return d, malformed(1, "offset 0: %d bytes are no binary configuration", len(data))
	}
	if words := binary.BigEndian.Uint32(data); uint64(words)*2 != uint64(len(data)) {
		return d, malformed(1, "offset 0: length says %d words, file has %d", words, len(data)/2)
	}
	var sum uint16
	for i := 0; i < len(data); i += 2 {
		sum += binary.BigEndian.Uint16(data[i:])
	}
	if sum != 0 {
		return d, malformed(1, "offset 4: checksum is wrong")
	}
	if hex.EncodeToString(data[6:12]) != string(id.mac) {
		return d, malformed(1, "offset 6: another phone's MAC")
	}
	if string(data[12:16]) != "\r\n\r\n" {
		return d, malformed(1, "offset 12: header does not end in CRLF CRLF")
	}
	return grandstreamQuery(id, string(bytes.TrimRight(data[binaryHeader:], "\x00")))
}

func grandstreamQuery(id identity, body string) (document, error) {
	var d document
	offset, key := binaryHeader, ""
	for pair := range strings.SplitSeq(body, "&") {
		name, value, ok := strings.Cut(pair, "=")
		value, err := url.QueryUnescape(value)
		switch {
		case !ok || err != nil || !utf8.ValidString(value):
			return document{}, malformed(1, "offset %d: not name=value", offset)
		case name == "gnkey":
			key = value
		case isPValue(name):
			d.put(name, value)
		default:
			return document{}, malformed(1, "offset %d: %.40q is not a P-value", offset, name)
		}
		offset += len(pair) + 1
	}
	if key != string(id.mac[2:6]) {
		return document{}, malformed(1, "gnkey is missing or another phone's")
	}
	return d, nil
}

// gsAccount is where one account's settings stand.
type gsAccount struct {
	active, name, server, backup, proxy, user, auth, password, display, voicemail, transport, srtp string
}

// gsAccounts: account 1 has numbers of its own, the others count in hundreds; port 2 of an ATA has its own too.
func gsAccounts(id identity) []gsAccount {
	all := []gsAccount{{"P271", "P270", "P47", "P2312", "P48", "P35", "P36", "P34", "P3", "P33", "P130", "P183"}}
	if strings.HasPrefix(id.model, "HT") {
		all[0].backup = "P967"
		return append(all, gsAccount{"P401", "", "P747", "P987", "P748", "P735", "P736", "P734", "P703", "P733", "P830", "P443"})
	}
	for n := 2; n <= 6; n++ {
		p := func(number int) string { return "P" + strconv.Itoa(number+(n-2)*100) }
		all = append(all, gsAccount{p(401), p(417), p(402), p(2412), p(403), p(404), p(405), p(406), p(407), p(426), p(448), p(443)})
	}
	return all
}

func gsAlias(n int) gsAccount {
	at := func(name string) string { return fmt.Sprintf("account.%d.%s", n, name) }
	return gsAccount{
		at("enable"), at("name"), at("sip.server.1.address"), at("sip.server.2.address"), at("sip.outboundProxy.1.address"), at("sip.userid"),
		at("sip.subscriber.userid"), at("sip.subscriber.password"), at("sip.subscriber.name"), at("sip.voicemail.number"), at("sip.transport"), at("srtp.mode"),
	}
}

var (
	gsTransports = map[string]string{"0": "udp", "1": "tcp", "2": "tls", "UDP": "udp", "TCP": "tcp", "TlsOrTcp": "tls"}
	gsSRTP       = map[string]string{"0": "off", "1": "optional", "2": "required", "3": "optional"}
	gsSchemes    = map[string]string{"0": "tftp", "1": "http", "2": "https"}
)

func interpretGrandstream(id identity, v Values) Parsed {
	r := &reader{Values: v}
	p := Parsed{
		Raw:             v,
		ProvisioningURL: gsURL(r, "P237", "P212"),
		FirmwareURL:     gsURL(r, "P192", "P6767"),
		Timezone:        Timezone{Zone: v["P64"]},
	}
	if p.Timezone.Zone == "" {
		p.Timezone.Zone = v["dateTime.timezone"]
	}
	if p.Timezone.Zone == "customize" {
		p.Timezone.Name = v["P246"]
	}
	for i, at := range gsAccounts(id) {
		p.Accounts = appendGsAccount(p.Accounts, r, i+1, at, "1", "0")
	}
	for _, n := range v.indexes("account.") {
		p.Accounts = appendGsAccount(p.Accounts, r, n, gsAlias(n), "Yes", "No")
	}
	p.Keys = gsKeys(v)
	p.Problems = r.problems
	return p
}

// appendGsAccount adds the account unless nothing speaks of it. Account 1 is active by default.
func appendGsAccount(list []Account, r *reader, n int, at gsAccount, yes, no string) []Account {
	if r.Values[at.user] == "" && r.Values[at.server] == "" && r.Values[at.active] == "" {
		return list
	}
	a := Account{
		Index: n, Enabled: r.flag(at.active, yes, no, n == 1),
		UserName: r.Values[at.user], AuthName: r.Values[at.auth], Password: NewPassword(r.Values[at.password]),
		DisplayName: r.Values[at.display], Label: r.Values[at.name], BackupServer: r.Values[at.backup],
		OutboundProxy: r.Values[at.proxy], Voicemail: r.Values[at.voicemail],
		Transport: r.oneOf(at.transport, gsTransports), SRTP: r.oneOf(at.srtp, gsSRTP),
	}
	a.Server, a.Port = r.hostPort(at.server)
	return append(list, a)
}

// gsURL puts together a path, which has no scheme, and its protocol. The factory's protocol is HTTPS.
func gsURL(r *reader, path, protocol string) string {
	place := r.Values[path]
	if place == "" {
		return ""
	}
	if strings.Contains(place, "://") {
		r.problem(path, "must have no scheme")
		return ""
	}
	scheme := r.oneOf(protocol, gsSchemes)
	if scheme == "" {
		scheme = "https"
	}
	return scheme + "://" + strings.TrimSuffix(place, "/") + "/"
}

// gsKeys reads the line keys (P1363…), the multi-purpose keys (P323… or P23000…) and their aliases.
func gsKeys(v Values) (keys []Key) {
	p := func(n int) string { return v["P"+strconv.Itoa(n)] }
	add := func(bank string, n int, mode, account, label, value string) {
		if mode != "" && mode != "-1" && mode != "None" {
			keys = append(keys, Key{Bank: bank, Index: n, Type: mode, Line: account, Label: label, Value: value})
		}
	}
	for n := 1; n <= 6; n++ {
		i := 2 * (n - 1)
		add("line", n, p(1363+i), p(1364+i), p(1465+i), p(1466+i))
	}
	for n := 1; n <= 7; n++ {
		i := 3 * (n - 1)
		if p(303+i) != "" {
			add("mpk", n, p(323+n-1), p(301+i), p(302+i), p(303+i))
		}
	}
	for n := 1; n <= 160; n++ {
		i := 23000 + 5*(n-1)
		if p(i+3) != "" {
			add("mpk", n, p(i), p(i+1), p(i+2), p(i+3))
		}
	}
	for _, bank := range []string{"vpk", "mpk"} {
		for _, n := range v.indexes("pks." + bank + ".") {
			at := fmt.Sprintf("pks.%s.%d.", bank, n)
			add(bank, n, v[at+"keyMode"], v[at+"account"], v[at+"description"], v[at+"value"])
		}
	}
	return sortKeys(keys)
}
