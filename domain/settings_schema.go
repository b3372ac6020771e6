package domain

import (
	"slices"
	"strings"
)

// Kind is the type of a setting.
type Kind string

// The kinds of settings. Every kind also takes null, which means "not set".
const (
	KindText   Kind = "text"   // UTF-8 without control characters, at most Max (1024) bytes
	KindHost   Kind = "host"   // a host name or IP address, no port
	KindURL    Kind = "url"    // absolute, http https tftp ftp ftps ldap or ldaps; phones' own macros are fine
	KindBool   Kind = "bool"   //
	KindInt    Kind = "int"    // Min to Max; digits given as text are taken too
	KindEnum   Kind = "enum"   // one of Values
	KindList   Kind = "list"   // list of distinct Values (any text when there are none)
	KindPEM    Kind = "pem"    // PEM blocks, line breaks allowed
	KindPEMs   Kind = "pems"   // list of PEM blocks
	KindLocale Kind = "locale" // "fr_FR"
	KindZone   Kind = "zone"   // a name of the IANA database: "Europe/Paris"
	KindClock  Kind = "clock"  // "HH:MM"
	KindObject Kind = "object" // keys by the rows below it
)

// SettingDef is one row of the schema.
type SettingDef struct {
	// Path is the dotted name; "*" stands for a line, key or rank number.
	Path string
	Kind Kind
	// Min and Max bound a KindInt, Max the bytes of a KindText.
	Min, Max int
	Values   []string
	// Secret: a credential, never readable and never in clear text in the log.
	Secret bool
	// Personal: names and numbers of people; sealed in the log, readable by those who may.
	Personal bool
	Doc      string
}

// Schema lists every setting, in the order of documentation. Names beginning with X_ that are not in it
// are free, of any type, and treated as secret; all other names are refused.
func Schema() []SettingDef { return slices.Clone(schema) }

func text(path, doc string) SettingDef {
	return SettingDef{Path: path, Kind: KindText, Max: 1024, Doc: doc}
}
func host(path, doc string) SettingDef {
	return SettingDef{Path: path, Kind: KindHost, Max: 255, Doc: doc}
}
func link(path, doc string) SettingDef {
	return SettingDef{Path: path, Kind: KindURL, Max: 2048, Doc: doc}
}
func flag(path, doc string) SettingDef { return SettingDef{Path: path, Kind: KindBool, Doc: doc} }
func port(path, doc string) SettingDef { return number(path, 1, 65535, doc) }
func pems(path, doc string) SettingDef {
	return SettingDef{Path: path, Kind: KindPEMs, Max: 64 << 10, Doc: doc}
}
func number(path string, lo, hi int, doc string) SettingDef {
	return SettingDef{Path: path, Kind: KindInt, Min: lo, Max: hi, Doc: doc}
}
func choice(path, values, doc string) SettingDef {
	return SettingDef{Path: path, Kind: KindEnum, Values: strings.Fields(values), Doc: doc}
}
func list(path, values, doc string) SettingDef {
	return SettingDef{Path: path, Kind: KindList, Max: 64, Values: strings.Fields(values), Doc: doc}
}
func object(path, doc string) SettingDef { return SettingDef{Path: path, Kind: KindObject, Doc: doc} }

func secret(d SettingDef) SettingDef   { d.Secret = true; return d }
func personal(d SettingDef) SettingDef { d.Personal = true; return d }

const (
	dtmfModes  = "RTP-in-band RTP-out-of-band SIP-INFO"
	srtpModes  = "disabled preferred required"
	transports = "udp tcp tls naptr"
	codecNames = "opus g722 pcma pcmu g729 ilbc g726-16 g726-24 g726-32 g726-40 g723-53 g723-63"
	keyTypes   = "none line speeddial blf park dtmf voicemail pickup group_pickup intercom conference transfer hold " +
		"redial url xml paging multicast group_listen record dnd forward prefix directory history lock"
)

// schema is a superset of wazo-provd's raw_config (reference/wazo-provd.md §2.4).
var schema = []SettingDef{
	link("http_base_url", "URL phones come back to; the server fills it in"),
	host("ip", "old form of the server's address, follows from http_base_url"),
	port("http_port", "old form of the server's port, follows from http_base_url"),
	port("tftp_port", "port of the TFTP server"),
	number("config_version", 0, 1<<30, "kept for wazo-confd; unused"),
	choice("protocol", "SIP SCCP", "signalling protocol, SIP by default"),

	flag("dns_enabled", "set the name servers by hand"),
	host("dns_ip", "first name server; needed when dns_enabled"),
	host("dns_backup_ip", "second name server"),
	flag("ntp_enabled", "set the time server by hand"),
	host("ntp_ip", "time server; needed when ntp_enabled"),
	host("ntp_backup_ip", "second time server"),
	number("ntp_interval", 15, 604800, "seconds between time queries"),

	flag("vlan_enabled", "tag the phone's own traffic"),
	number("vlan_id", 0, 4094, "VLAN of the phone; needed when vlan_enabled"),
	number("vlan_priority", 0, 7, "802.1p priority of the phone"),
	number("vlan_pc_port_id", 0, 4094, "VLAN of the PC port, 0 for untagged"),
	number("vlan_pc_port_priority", 0, 7, "802.1p priority of the PC port"),
	flag("vlan_dhcp_enabled", "learn the VLAN by DHCP"),
	flag("lldp_enabled", "learn the VLAN by LLDP-MED"),
	flag("cdp_enabled", "learn the VLAN by CDP"),
	number("qos_sip_dscp", 0, 63, "DSCP of signalling"),
	number("qos_rtp_dscp", 0, 63, "DSCP of media"),
	choice("dot1x_mode", "disabled eap-md5 eap-tls peap-mschapv2 ttls-mschapv2 peap-gtc ttls-gtc eap-fast", "802.1X method"),
	text("dot1x_identity", "802.1X user name"),
	secret(text("dot1x_password", "802.1X password")),
	link("dot1x_root_certificate_url", "root certificate for 802.1X"),
	link("dot1x_client_certificate_url", "client certificate for 802.1X"),

	flag("syslog_enabled", "send the phone's log to a server"),
	host("syslog_ip", "log server; needed when syslog_enabled"),
	port("syslog_port", "514 by default"),
	choice("syslog_level", "critical error warning info debug", "warning by default"),
	choice("syslog_transport", "udp tcp tls", "udp by default"),

	text("admin_username", "the phone's administrator"),
	secret(text("admin_password", "password of the phone's administrator")),
	flag("admin_password_deployed", "give innovaphone devices the administrator's password when they connect"),
	text("user_username", "the phone's user"),
	secret(text("user_password", "password of the phone's user")),
	flag("web_ui_enabled", "the phone's own web pages, on by default"),
	flag("web_ui_http_enabled", "web pages over plain HTTP"),

	{Path: "timezone", Kind: KindZone, Doc: "IANA name; daylight saving follows the zone's rule"},
	flag("dst_enabled", "daylight saving, on by default where the zone has it"),
	number("dst_year", 2020, 2099, "the year whose days of the clock's changes are written for phones that take dates and no rule; set it each year"),
	choice("time_format", "12h 24h", "clock"),
	choice("date_format", "dmy mdy ymd", "order of day, month and year"),
	{Path: "locale", Kind: KindLocale, Doc: "language and country of the phone: fr_FR"},
	{Path: "tone_country", Kind: KindText, Max: 2, Doc: "ISO 3166 country of the call progress tones; that of locale by default"},
	text("ringtone", "ring as the vendor names it"),
	number("ring_volume", 0, 15, "ring volume"),
	number("backlight_timeout", 0, 86400, "seconds until the display darkens, 0 for never"),

	host("sip_proxy_ip", "SIP proxy of all lines"),
	port("sip_proxy_port", ""),
	host("sip_backup_proxy_ip", "second SIP proxy"),
	port("sip_backup_proxy_port", ""),
	host("sip_registrar_ip", "registrar, the proxy by default"),
	port("sip_registrar_port", ""),
	host("sip_backup_registrar_ip", "second registrar"),
	port("sip_backup_registrar_port", ""),
	host("sip_outbound_proxy_ip", "outbound proxy of all lines"),
	port("sip_outbound_proxy_port", ""),
	host("sip_backup_outbound_proxy_ip", "second outbound proxy"),
	port("sip_backup_outbound_proxy_port", ""),
	choice("sip_backup_mode", "successive concurrent", "register with the second server after the first failed, or with both"),
	choice("sip_transport", transports, "udp by default"),
	choice("sip_dtmf_mode", dtmfModes, "how digits are sent"),
	number("sip_dtmf_payload", 96, 127, "RTP payload type of digits"),
	choice("sip_srtp_mode", srtpModes, "media encryption, disabled by default, whatever the transport"),
	flag("sip_subscribe_mwi", "subscribe to the voicemail lamp"),
	number("sip_mwi_expires", 60, 86400, "seconds a voicemail subscription lasts"),
	number("sip_registration_expires", 30, 604800, "seconds a registration lasts"),
	port("sip_local_port", "the phone's own SIP port"),
	number("sip_keepalive_interval", 0, 3600, "seconds between NAT keep-alives, 0 for none"),
	flag("sip_rport", "symmetric response routing (RFC 3581)"),
	host("stun_ip", "STUN server"),
	port("stun_port", ""),
	choice("sip_caller_id_source", "from pai pai-from rpid-pai-from pai-rpid-from rpid-from", "header the caller's name is read from"),
	list("codecs", codecNames, "codecs in order of preference; others are switched off"),
	flag("tls_verify_server", "refuse servers whose certificate does not verify"),
	pems("sip_servers_root_and_intermediate_certificates", "roots that vouch for the SIP servers"),
	pems("sip_local_root_and_intermediate_certificates", "chain of the phone's own certificate"),
	{Path: "sip_local_certificate", Kind: KindPEM, Max: 64 << 10, Doc: "the phone's own certificate"},
	secret(SettingDef{Path: "sip_local_key", Kind: KindPEM, Max: 64 << 10, Doc: "key of the phone's own certificate"}),

	object("sip_lines", "SIP accounts by position, from 1"),
	flag("sip_lines.*.enabled", "on by default"),
	text("sip_lines.*.label", "text beside the line key"),
	host("sip_lines.*.proxy_ip", "sip_proxy_ip by default"),
	port("sip_lines.*.proxy_port", ""),
	host("sip_lines.*.backup_proxy_ip", ""),
	port("sip_lines.*.backup_proxy_port", ""),
	host("sip_lines.*.registrar_ip", "proxy_ip by default"),
	port("sip_lines.*.registrar_port", ""),
	host("sip_lines.*.backup_registrar_ip", ""),
	port("sip_lines.*.backup_registrar_port", ""),
	host("sip_lines.*.outbound_proxy_ip", ""),
	port("sip_lines.*.outbound_proxy_port", ""),
	host("sip_lines.*.backup_outbound_proxy_ip", ""),
	port("sip_lines.*.backup_outbound_proxy_port", ""),
	text("sip_lines.*.username", "SIP user; needed"),
	secret(text("sip_lines.*.password", "SIP password")),
	text("sip_lines.*.auth_username", "digest user, username by default"),
	personal(text("sip_lines.*.display_name", "name shown to others")),
	personal(text("sip_lines.*.number", "number shown on the phone")),
	choice("sip_lines.*.transport", transports, "sip_transport by default"),
	choice("sip_lines.*.dtmf_mode", dtmfModes, "sip_dtmf_mode by default"),
	choice("sip_lines.*.srtp_mode", srtpModes, "sip_srtp_mode by default"),
	number("sip_lines.*.registration_expires", 30, 604800, "sip_registration_expires by default"),
	text("sip_lines.*.voicemail", "number of the voicemail, exten_voicemail by default"),
	flag("sip_lines.*.subscribe_mwi", "sip_subscribe_mwi by default"),
	list("sip_lines.*.codecs", codecNames, "codecs by default"),
	text("sip_lines.*.dial_plan", "dial_plan by default"),
	text("sip_lines.*.ringtone", "ring of this line as the vendor names it"),
	choice("sip_lines.*.shared", "disabled sca bla", "shared line appearance"),
	number("sip_lines.*.handset", 1, 1000, "DECT handset this line rings, the line's position by default"),

	object("sccp_call_managers", "SCCP call managers by rank, 1 best"),
	host("sccp_call_managers.*.ip", "needed"),
	port("sccp_call_managers.*.port", "2000 by default"),

	object("funckeys", "function keys by number from 1 (beyond the phone's own: the expansion modules), or \"<module>-<key>\" for key <key> of expansion module <module>"),
	choice("funckeys.*.type", keyTypes, "needed"),
	text("funckeys.*.value", "number, URL or digits; needed for speeddial, blf, dtmf, intercom, url, xml, paging, multicast, prefix"),
	personal(text("funckeys.*.label", "text beside the key")),
	number("funckeys.*.line", 1, 9999, "line the key works on, 1 by default"),
	text("funckeys.*.pickup", "code that picks up a ringing blf, exten_pickup_call by default"),

	text("exten_dnd", "code that toggles, or switches on, do not disturb"),
	text("exten_dnd_off", "code that switches off do not disturb"),
	text("exten_fwd_unconditional", "prefix that forwards all calls"),
	text("exten_fwd_unconditional_off", ""),
	text("exten_fwd_no_answer", "prefix that forwards on no answer"),
	text("exten_fwd_no_answer_off", ""),
	text("exten_fwd_busy", "prefix that forwards on busy"),
	text("exten_fwd_busy_off", ""),
	text("exten_fwd_disable_all", "code that ends all forwards"),
	text("exten_park", "number that parks a call"),
	text("exten_park_retrieve", "prefix that fetches a parked call"),
	text("exten_pickup_group", "code that picks up a call of the group"),
	text("exten_pickup_call", "prefix that picks up one ringing number"),
	text("exten_voicemail", "number of the voicemail"),
	text("exten_intercom", "prefix of intercom calls"),
	text("exten_record", "code that records a call"),

	flag("call_waiting_enabled", "on by default"),
	flag("dnd_enabled", "do not disturb, at start"),
	flag("dnd_allowed", "let the user switch do not disturb"),
	flag("fwd_allowed", "let the user forward calls"),
	flag("fwd_unconditional_enabled", ""),
	personal(text("fwd_unconditional_target", "")),
	flag("fwd_busy_enabled", ""),
	personal(text("fwd_busy_target", "")),
	flag("fwd_no_answer_enabled", ""),
	personal(text("fwd_no_answer_target", "")),
	number("fwd_no_answer_delay", 0, 180, "seconds"),
	text("dial_plan", "digit map as the vendor writes it"),
	number("dial_timeout", 0, 60, "seconds after the last digit until the number is dialled"),
	flag("auto_answer_enabled", "answer calls that ask for it (Alert-Info, Call-Info)"),

	link("phonebook_url", "remote phonebook"),
	text("phonebook_name", "title of the remote phonebook"),
	flag("ldap_enabled", "directory by LDAP"),
	host("ldap_ip", "LDAP server; needed when ldap_enabled"),
	port("ldap_port", "389, or 636 with ldaps"),
	choice("ldap_tls", "none starttls ldaps", "none by default"),
	text("ldap_base", "search base"),
	text("ldap_username", "bind DN"),
	secret(text("ldap_password", "bind password")),
	text("ldap_name_filter", "(|(cn=%)(sn=%))"),
	text("ldap_number_filter", "(|(telephoneNumber=%)(mobile=%))"),
	text("ldap_name_attributes", "names separated by blanks"),
	text("ldap_number_attributes", "names separated by blanks"),
	text("ldap_display_name", "%cn"),
	number("ldap_max_hits", 1, 32000, ""),
	flag("ldap_lookup_incoming", "look up callers"),

	link("firmware_url", "firmware image"),
	text("firmware_release", "firmware release wanted, as the vendor writes it; makes firmware_url where that is not set"),
	number("provisioning_interval", 0, 43200, "minutes between fetches, 0 for none; 1440 by default"),
	{Path: "provisioning_time", Kind: KindClock, Doc: "time of day of the daily fetch, instead of an interval"},
	flag("provisioning_at_boot", "fetch at every start, on by default"),
	text("provisioning_username", "HTTP user of the phone"),
	secret(text("provisioning_password", "HTTP password of the phone")),
	flag("dhcp_provisioning_enabled", "take the server's address from DHCP, on by default"),
	flag("pnp_enabled", "look for a server by SIP multicast"),
	flag("zero_touch_enabled", "ask the vendor's redirect service"),

	text("autoprov_username", "SIP account of phones that nobody has configured, to dial a provisioning extension; {mac} or {id} in it stands for the phone's own"),
	secret(text("autoprov_password", "password of that account")),
	number("provisioning_extension_digits", 4, 12, "digits of provisioning extensions drawn from now on, 6 by default"),

	flag("resync_enabled", "tell phones to fetch when a change makes their files anew; off by default"),
	number("resync_per_minute", 1, 6000, "phones of a tenant told in a minute, 60 by default"),
	{Path: "resync_from", Kind: KindClock, Doc: "beginning of the hours in which phones are told so, in their time zone; all day by default"},
	{Path: "resync_until", Kind: KindClock, Doc: "end of those hours; before resync_from it is on the next day"},
	list("resync_days", "mon tue wed thu fri sat sun", "days on which those hours begin; all by default"),
	number("resync_stop_after", 1, 1000, "failures in a row after which no more phones of the tenant are told, 5 by default"),

	host("X_xivo_phonebook_ip", "directory host"),
	choice("X_xivo_phonebook_scheme", "http https", "http by default"),
	port("X_xivo_phonebook_port", "9498 by default"),
	text("X_xivo_phonebook_profile", ""),
	secret(text("X_xivo_user_uuid", "owner; the only credential of the directory's URLs")),
}

// node is the schema as a tree: def is nil where only children are known.
type node struct {
	def      *SettingDef
	children map[string]*node
}

var schemaTree = growTree()

func growTree() *node {
	root := &node{def: &SettingDef{Kind: KindObject}, children: map[string]*node{}}
	for i := range schema {
		at := root
		for name := range strings.SplitSeq(schema[i].Path, ".") {
			if at.children == nil {
				at.children = map[string]*node{}
			}
			next := at.children[name]
			if next == nil {
				next = &node{}
				at.children[name] = next
			}
			at = next
		}
		if at.def != nil {
			panic("domain: two settings named " + schema[i].Path)
		}
		at.def = &schema[i]
	}
	return root
}

// child is the node of one key: nil for a key the schema does not know.
func (n *node) child(key string) *node {
	if n == nil {
		return nil
	}
	if c := n.children[key]; c != nil && key != "*" {
		return c
	}
	return n.children["*"]
}

// numbered tells whether the keys below n are positions.
func (n *node) numbered() bool { return n != nil && n.children["*"] != nil }

func (n *node) isObject() bool { return n.def == nil || n.def.Kind == KindObject }
