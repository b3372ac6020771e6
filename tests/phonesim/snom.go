package phonesim

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Snom: "Snom User Wiki – Setting files / mass deployment".
var snom = behaviour{
	Vendor: Vendor{
		Name: "snom",
		OUIs: []string{"000413", "00087b"},
		Models: []Model{
			{"D785", "10.1.33.33"}, {"D735", "10.1.33.33"}, {"D865", "10.1.175.16"}, {"D120", "10.1.54.13"},
			{"D715", "10.1.33.33"}, {"720", "8.9.3.80"}, {"370", "8.7.3.25"}, {"M900", "07.40.0001"},
		},
	},
	userAgent: snomUserAgent,
	order:     snomOrder,
	parse:     parseSnom,
	interpret: interpretSnom,
	expand: func(id identity, s string) string {
		return strings.ReplaceAll(s, "{mac}", id.mac.Upper())
	},
	page: snomPage,
}

// snomDECT bases have their own form of User-Agent.
func snomDECT(id identity) bool { return strings.HasPrefix(id.model, "M") && id.model != "MP" }

// snomUserAgent: the MAC is there from 8.7.5 on.
func snomUserAgent(id identity) string {
	if snomDECT(id) {
		return fmt.Sprintf("Snom %s %s %s", id.model, id.firmware, id.mac.Upper())
	}
	major, minor, patch := versionField(id.firmware, 0), versionField(id.firmware, 1), versionField(id.firmware, 2)
	switch {
	case major >= 10:
		return fmt.Sprintf("Mozilla/4.0 (compatible; snom%s-SIP %s 2010.12-00004 %s SXM:0 UXM:0)", id.model, id.firmware, id.mac.Upper())
	case major*10000+minor*100+patch >= 80705:
		return fmt.Sprintf("Mozilla/4.0 (compatible; snom%s-SIP %s 1.1.3-u %s)", id.model, id.firmware, id.mac.Upper())
	}
	return fmt.Sprintf("Mozilla/4.0 (compatible; snom%s-SIP %s 1.1.3-u)", id.model, id.firmware)
}

// snomOrder: the model's list, the phone's own list; where a server has neither, <MAC>.xml. A setting_server
// that names a file is asked for that file alone.
func snomOrder(ctx context.Context, b *boot) error {
	id := b.phone.id
	if b.direct() {
		_, err := b.load(ctx, b.base.String())
		return err
	}
	general, err := b.load(ctx, "snom"+id.model+".htm")
	if err != nil {
		return err
	}
	own, err := b.load(ctx, "snom"+id.model+"-"+id.mac.Upper()+".htm")
	if err != nil || general || own {
		return err
	}
	_, err = b.load(ctx, id.mac.Upper()+".xml")
	return err
}

// parseSnom reads any of the documents a setting list may name.
func parseSnom(_ identity, data []byte) (document, error) {
	var d document
	root, err := parseXML(data)
	if err != nil {
		return d, err
	}
	switch root.name {
	case "setting-files":
		err = d.snomList(root)
	case "settings":
		err = d.snomSettings(root)
	case "phone-settings", "functionKeys", "gui-languages", "web-languages", "tbook", "dialplan", "firmware-settings":
		err = d.snomSection(root)
	default:
		err = malformed(root.line, "<%.40s> is no document of a Snom phone", root.name)
	}
	if err != nil {
		return document{}, err
	}
	return d, nil
}

func (d *document) snomList(root *node) error {
	for _, n := range root.children {
		if n.name != "file" || n.attrs["url"] == "" || len(n.children) > 0 {
			return malformed(n.line, "a list has <file url=\"…\"/> only")
		}
		d.include = append(d.include, n.attrs["url"])
	}
	return root.bare()
}

func (d *document) snomSettings(root *node) error {
	for _, n := range root.children {
		if err := d.snomSection(n); err != nil {
			return err
		}
	}
	return root.bare()
}

func (d *document) snomSection(section *node) error {
	if err := section.bare(); err != nil {
		return err
	}
	switch section.name {
	case "phone-settings", "phone-book":
		for _, n := range section.children {
			if err := d.snomSetting(n); err != nil {
				return err
			}
		}
	case "functionKeys":
		for _, n := range section.children {
			if n.name != "fkey" && n.name != "context_key" {
				return malformed(n.line, "<%.40s> among the keys", n.name)
			}
			if err := d.snomKey(n); err != nil {
				return err
			}
		}
	case "gui-languages", "web-languages":
		for _, n := range section.children {
			if n.name != "language" || n.attrs["url"] == "" || n.attrs["name"] == "" {
				return malformed(n.line, "a language needs url and name")
			}
			d.put(strings.TrimSuffix(section.name, "s")+"["+n.attrs["name"]+"]", n.attrs["url"])
		}
	case "firmware-settings":
		for _, n := range section.children {
			text, err := n.leaf()
			if err != nil {
				return err
			}
			d.put(n.name, text)
		}
	case "tbook", "dialplan":
		d.put(section.name, strconv.Itoa(len(section.children)))
	default:
		return malformed(section.line, "<%.40s> is no part of the settings", section.name)
	}
	return nil
}

func (d *document) put(name, value string) { d.set = append(d.set, setting{name, value}) }

// snomSetting reads <name idx="N" perm="R">value</name>.
func (d *document) snomSetting(n *node) error {
	if n.name == "fkey" || n.name == "context_key" {
		return d.snomKey(n)
	}
	name, err := snomName(n)
	if err != nil {
		return err
	}
	value, err := n.leaf()
	if err != nil {
		return err
	}
	d.put(name, value)
	return nil
}

// snomName is the setting's name with its index, the attributes checked.
func snomName(n *node) (string, error) {
	switch perm, given := n.attrs["perm"]; {
	case given && perm != "R" && perm != "RW" && perm != "" && perm != "$" && perm != "!":
		return "", malformed(n.line, "perm %.20q of <%.40s> is not R, RW, $ or !", perm, n.name)
	}
	idx, given := n.attrs["idx"]
	if !given {
		return n.name, nil
	}
	if i, err := strconv.ParseUint(idx, 10, 12); err != nil || strconv.FormatUint(i, 10) != idx {
		return "", malformed(n.line, "idx %.20q of <%.40s> is not a number", idx, n.name)
	}
	return n.name + "[" + idx + "]", nil
}

// snomKey reads a key: "TYPE VALUE" as text, or a block of <initialization> and <action>.
func (d *document) snomKey(n *node) error {
	if n.attrs["idx"] == "" {
		return malformed(n.line, "<%.40s> without idx", n.name)
	}
	name, err := snomName(n)
	if err != nil {
		return err
	}
	value, label := n.trimmed(), n.attrs["label"]
	for _, part := range n.children {
		if part.name != "initialization" && part.name != "action" {
			return malformed(part.line, "<%.40s> inside <%.40s>", part.name, n.name)
		}
		for _, x := range part.children {
			switch {
			case x.name == "variable" && x.attrs["name"] == "label":
				label = x.attrs["value"]
			case x.name == "url" && value == "":
				value = "url " + x.attrs["target"]
			}
		}
	}
	d.put(name, value)
	d.put(name+"context", n.attrs["context"])
	d.put(name+"label", label)
	return nil
}

func interpretSnom(_ identity, v Values) Parsed {
	r := &reader{Values: v}
	p := Parsed{
		Raw:             v,
		ProvisioningURL: v["setting_server"],
		FirmwareURL:     v["firmware_status"],
		Timezone:        Timezone{Zone: v["timezone"]},
	}
	if p.FirmwareURL == "" {
		p.FirmwareURL = v["firmware"]
	}
	seen := map[int]bool{}
	for _, name := range []string{"user_active[", "user_name[", "user_host["} {
		for _, n := range v.indexes(name) {
			seen[n] = true
		}
	}
	for n := range 256 {
		if seen[n] {
			p.Accounts = append(p.Accounts, snomAccount(r, n))
		}
	}
	for _, bank := range []string{"fkey", "context_key"} {
		for _, n := range v.indexes(bank + "[") {
			at := fmt.Sprintf("%s[%d]", bank, n)
			kind, value, _ := strings.Cut(v[at], " ")
			if kind == "" || kind == "none" {
				continue
			}
			k := Key{Bank: bank, Index: n, Type: kind, Value: strings.TrimSpace(value), Line: v[at+"context"], Label: v[at+"label"]}
			if kind == "blf" {
				k.Value, k.Pickup, _ = strings.Cut(k.Value, "|")
			}
			p.Keys = append(p.Keys, k)
		}
	}
	sortKeys(p.Keys)
	p.Problems = r.problems
	return p
}

func snomAccount(r *reader, n int) Account {
	at := func(name string) string { return fmt.Sprintf("%s[%d]", name, n) }
	val := func(name string) string { return r.Values[at(name)] }
	a := Account{
		Index: n, UserName: val("user_name"), AuthName: val("user_pname"), Password: NewPassword(val("user_pass")),
		DisplayName: val("user_realname"), Label: val("user_idle_text"), Voicemail: val("user_mailbox"),
		Enabled: r.flag(at("user_active"), "on", "off", val("user_name") != ""),
	}
	a.Server, a.Port = r.hostPort(at("user_host"))
	a.OutboundProxy, a.Transport = snomOutbound(r, at("user_outbound"))
	// The signalling switch and the kind of media profile are two settings.
	switch savp := r.oneOf(at("user_savp"), map[string]string{"off": "optional", "optional": "optional", "mandatory": "required"}); {
	case val("user_srtp") == "":
	case !r.flag(at("user_srtp"), "on", "off", true):
		a.SRTP = "off"
	case savp == "":
		a.SRTP = "optional"
	default:
		a.SRTP = savp
	}
	return a
}

// snomOutbound reads host[:port][;transport=udp|tcp|tls].
func snomOutbound(r *reader, name string) (proxy, transport string) {
	v := r.Values[name]
	if v == "" {
		return "", ""
	}
	proxy, params, _ := strings.Cut(v, ";")
	if rest, ok := strings.CutPrefix(proxy, "sips:"); ok {
		proxy, transport = rest, "tls"
	}
	proxy = strings.TrimPrefix(proxy, "sip:")
	if _, _, ok := splitHostPort(proxy); !ok {
		r.problem(name, "is not host[:port]")
	}
	if params == "" {
		return proxy, transport
	}
	switch t := strings.TrimPrefix(params, "transport="); t {
	case "udp", "tcp", "tls":
		return proxy, t
	}
	r.problem(name, "has an unknown parameter")
	return proxy, transport
}
