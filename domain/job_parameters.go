package domain

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// JobType is one type of configuration and its parameters: reference "innovaphone provisioning" §2.2, the service
// interface of 13r2 and 13r3.
type JobType struct {
	Type       string
	Parameters []SettingDef
}

// JobTypes lists the types of configuration in the order they are carried out.
func JobTypes() []JobType { return slices.Clone(jobTypes) }

// Kinds of parameters beyond those of settings.
const (
	KindTOS     Kind = "tos"   // a byte as "0x00" to "0xff"
	KindPOSIXTZ Kind = "posix" // the rule of a time zone: "CET-1CEST-2,M3.5.0/2,M10.5.0/3"
)

// Types of configuration.
const (
	JobNTP         = "NTP"
	JobMedia       = "MEDIA"
	JobPhone       = "PHONE"
	JobFXSPhone    = "FXS_PHONE"
	JobTLSProfile  = "TLS_PROFILE"
	JobAlarmServer = "ALARM_SERVER"
	JobExpert      = "EXPERT"
)

// Names of the parameters that are kept as secrets, and of the script.
const (
	ParamTurnPassword = "turnPassword"
	ParamLogPassword  = "logPassword"
	ParamScript       = "script"
)

// jobOrder is the order in which a device's jobs are carried out: software first, the script last, so that what it says
// stands (the vendor's use of an update server depends on that).
var jobOrder = func() []string {
	order := []string{JobSoftware}
	for _, t := range jobTypes {
		order = append(order, t.Type)
	}
	return order
}()

var jobTypes = []JobType{
	{JobNTP, []SettingDef{host("ntp1", "time server"), host("ntp2", "second time server"),
		{Path: "tz", Kind: KindPOSIXTZ, Max: 128, Doc: "time zone as a POSIX rule"}}},
	{JobMedia, []SettingDef{text("stunServer", "STUN servers, as the vendor writes them"), text("turnServer", "TURN servers, as the vendor writes them"),
		text("turnUser", "user at the TURN servers"), secret(text(ParamTurnPassword, "password at the TURN servers")),
		tos("tosRtp", "TOS byte of media"), tos("tosSig", "TOS byte of signalling"),
		flag("setRtpPorts", "set the range of RTP ports"), number("rtpFirst", 2052, 65534, "first RTP port"), number("rtpNum", 128, 16384, "how many"),
		// The range of natNum is not documented; that of rtpNum is taken.
		flag("setNatPorts", "set the range of ports behind NAT"), number("natFirst", 2052, 65534, "first port"), number("natNum", 128, 16384, "how many")}},
	{JobPhone, slices.Concat(callParameters, []SettingDef{flag("audioOnly", "no video"), flag("noCtHookOn", "no transfer by hanging up"),
		flag("protectCfg", "protect the configuration by the administrator's password"), flag("allowUserCfg", "let users configure"),
		flag("hideCompleteCfg", "hide the whole configuration"), flag("hideAdminCfg", "hide the administrator's configuration")})},
	{JobFXSPhone, slices.Concat(callParameters, []SettingDef{flag("fax", "a fax machine is connected")})},
	{JobTLSProfile, []SettingDef{choice("profile", "normal fast secure strict", "what TLS is to accept")}},
	{JobAlarmServer, []SettingDef{link("url", "where alarms go"), link("logUrl", "where logs go"), text("logUser", "user there"),
		secret(text(ParamLogPassword, "password there")), flag("setLogUrl", "set where logs go")}},
	{JobExpert, []SettingDef{{Path: ParamScript, Kind: KindText, Max: MaxJobScript, Secret: true, Doc: "an update script, one command a line"}}},
}

var callParameters = []SettingDef{host("gk1", "gatekeeper"), host("gk2", "second gatekeeper"), text("gkId", "gatekeeper's id"),
	choice("coder", "G711A G711u G722 OPUS-NB OPUS-WB", "codec"), number("frameSize", 20, 80, "ms of a packet"), flag("exclusive", "no other codec"),
	flag("silenceComp", "send less in silence"), flag("noDtmfDetect", "detect no DTMF"), flag("noPhysicalLocation", "tell no location"),
	number("srtpKey", 0, 4, "key exchange: 0 SDES-DTLS, 1 DTLS-SDES, 2 SDES, 3 DTLS, 4 none"),
	number("srtpCipher", 0, 5, "0 AES128/32, 1 AES128/80, 2 AES192/32, 3 AES192/80, 4 AES256/32, 5 AES256/80"),
	flag("setRecordingUrl", "set where calls are recorded"), link("recordingUrl", "where calls are recorded"),
	number("dialTone", 0, 26, "0 Europe-PBX, 1 Europe-public, 2 US, 3 UK, 4 Italy-public, 5 Czech-PBX, 6 Czech-public, 7 Sweden, 8 France, 9 Swiss, 10 Italy-PBX, "+
		"11 Belgium, 12 Netherlands, 13 Norway, 14 Denmark, 15 Germany, 16 Spain, 17 Finland, 18 Austria, 19 Ireland, 20 Australia, 21 New Zealand, "+
		"22 Malaysia, 23 Turkey, 24 Russia, 25 South Africa, 26 Brazil")}

func tos(path, doc string) SettingDef { return SettingDef{Path: path, Kind: KindTOS, Max: 4, Doc: doc} }

// JobParameters are the parameters of a job of configuration by name: text, bool or int. They are a value: nothing
// here changes them.
type JobParameters map[string]any

// UnmarshalJSON reads an object; whole numbers become int.
func (p *JobParameters) UnmarshalJSON(b []byte) error {
	if bytes.Equal(bytes.TrimSpace(b), []byte("null")) {
		*p = nil
		return nil
	}
	tree, err := DecodeObject(b)
	if err == nil {
		*p = normalizeObject(nil, tree)
	}
	return err
}

func (p JobParameters) equal(q JobParameters) bool {
	return len(p) == 0 && len(q) == 0 || reflect.DeepEqual(p, q)
}

// Text is a parameter that is text; empty when it is not set.
func (p JobParameters) Text(name string) string { s, _ := p[name].(string); return s }

// Int is a parameter that is a number; ok is false when it is not set.
func (p JobParameters) Int(name string) (n int, ok bool) { n, ok = p[name].(int); return n, ok }

// Flag is a parameter that is true or false; false when it is not set.
func (p JobParameters) Flag(name string) bool { b, _ := p[name].(bool); return b }

// CleanJob checks the parameters of a job of that type and answers them in their normal form: digits given as text
// as numbers, TOS bytes in lower case with 0x, those that are empty left out. The errors name what breaks which rule.
func CleanJob(kind string, in JobParameters) (JobParameters, []*SettingsError) {
	var problems []*SettingsError
	bad := func(field, rule string) { problems = append(problems, &SettingsError{field, rule}) }
	i := slices.IndexFunc(jobTypes, func(t JobType) bool { return t.Type == kind })
	if i < 0 {
		return nil, []*SettingsError{{"type", "must be one of " + strings.Join(jobOrder, ", ")}}
	}
	out := JobParameters{}
	for _, name := range sortedKeys(in) {
		n := slices.IndexFunc(jobTypes[i].Parameters, func(d SettingDef) bool { return d.Path == name })
		if n < 0 {
			bad(fmt.Sprintf("%.40s", name), "is no parameter of "+kind)
			continue
		}
		d := jobTypes[i].Parameters[n]
		v, rule := d.cleanParameter(in[name])
		if rule != "" {
			bad(name, rule)
		} else if v != nil && v != "" {
			out[name] = v
		}
	}
	if len(problems) == 0 {
		out.together(kind, bad)
	}
	return out, problems
}

func (d SettingDef) cleanParameter(v any) (any, string) {
	if v == nil {
		return nil, ""
	}
	v = normalize(&node{def: &d}, v)
	s, isText := v.(string)
	switch {
	case d.Path == ParamScript:
		return v, checkScript(s, isText)
	case d.Kind == KindTOS && isText && s != "":
		n, err := strconv.ParseUint(strings.TrimPrefix(strings.ToLower(s), "0x"), 16, 8)
		if err != nil {
			return nil, "must be a hexadecimal byte from 0x00 to 0xff"
		}
		return fmt.Sprintf("0x%02x", n), ""
	case d.Kind == KindPOSIXTZ && isText && s != "" && (len(s) > d.Max || !posixTZ.MatchString(s)):
		return nil, "must be the POSIX rule of a time zone, such as CET-1CEST-2,M3.5.0/2,M10.5.0/3"
	}
	return v, d.check(v)
}

func checkScript(s string, isText bool) string {
	switch {
	case !isText:
		return "must be text"
	case len(s) > MaxJobScript:
		return fmt.Sprintf("must not be longer than %d bytes", MaxJobScript)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == 0x7f }):
		return "must be text without control characters"
	}
	return ""
}

// together checks what several parameters must keep between them.
func (p JobParameters) together(kind string, bad func(field, rule string)) {
	needs := func(name, by string) {
		if p[by] != nil && p[by] != false && p[name] == nil {
			bad(name, "is needed with "+by)
		}
	}
	for _, n := range [][2]string{{"ntp1", "ntp2"}, {"gk1", "gk2"}, {"turnServer", "turnUser"}, {"turnServer", ParamTurnPassword}, {"rtpFirst", "setRtpPorts"}, {"rtpNum", "setRtpPorts"},
		{"natFirst", "setNatPorts"}, {"natNum", "setNatPorts"}, {"recordingUrl", "setRecordingUrl"}, {"logUrl", "setLogUrl"}, {"logUrl", "logUser"}, {"logUrl", ParamLogPassword}} {
		needs(n[0], n[1])
	}
	switch kind {
	case JobTLSProfile:
		if p["profile"] == nil {
			bad("profile", "is needed")
		}
	case JobExpert:
		if len(ScriptLines(p.Text(ParamScript))) == 0 {
			bad(ParamScript, "must have at least one command")
		}
	default:
		if len(p) == 0 {
			bad("parameters", "must not be empty")
		}
	}
	rtpFirst, rtpLast, rtp := p.ports("rtp", bad)
	natFirst, natLast, nat := p.ports("nat", bad)
	if rtp && nat && rtpFirst <= natLast && natFirst <= rtpLast {
		bad("natFirst", "must not begin a range that overlaps the RTP ports")
	}
}

// ports is the range that <name>First and <name>Num make.
func (p JobParameters) ports(name string, bad func(field, rule string)) (first, last int, ok bool) {
	first, one := p.Int(name + "First")
	n, two := p.Int(name + "Num")
	if last = first + n - 1; one && two && last > 65535 {
		bad(name+"Num", "must not lead beyond port 65535")
	}
	return first, last, one && two
}

// ScriptLines are the commands of an update script: its lines but for empty ones and comments.
func ScriptLines(script string) []string {
	var out []string
	for line := range strings.SplitSeq(script, "\n") {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return out
}

// posixTZ is the rule of a time zone as POSIX.1-2017 §8.3 has it: std offset [dst [offset] [,start[/time],end[/time]]].
var posixTZ = func() *regexp.Regexp {
	const (
		name   = `(?:[A-Za-z]{3,10}|<[A-Za-z0-9+-]{3,10}>)`
		clock  = `(?:2[0-4]|[01]?[0-9])(?::[0-5][0-9](?::[0-5][0-9])?)?`
		offset = `[+-]?` + clock
		day    = `(?:M(?:1[0-2]|[1-9])\.[1-5]\.[0-6]|J(?:36[0-5]|3[0-5][0-9]|[12][0-9]{2}|[1-9][0-9]?)|36[0-5]|3[0-5][0-9]|[12][0-9]{2}|[1-9]?[0-9])`
		change = `,` + day + `(?:/` + clock + `)?`
	)
	return regexp.MustCompile(`^` + name + offset + `(?:` + name + `(?:` + offset + `)?(?:` + change + change + `)?)?$`)
}()

// Catalogue is the vendor's list of releases, firmware.json (reference "innovaphone provisioning" §2.1). Other members
// are passed over.
type Catalogue struct {
	Devices []struct {
		ID       string   `json:"id"`
		Versions []string `json:"versions"`
	} `json:"devices"`
	Versions []struct {
		ID    string `json:"id"`
		Build string `json:"build"`
	} `json:"versions"`
}

// maxCatalogue bounds the products and the releases of a catalogue.
const maxCatalogue = 2000

// ReadCatalogue takes a release out of a catalogue: its build, and the products that have it. The error names what is
// wrong with which field.
func ReadCatalogue(b []byte, release string) (build string, products []string, problem *SettingsError) {
	bad := func(field, rule string) (string, []string, *SettingsError) {
		return "", nil, &SettingsError{field, rule}
	}
	var c Catalogue
	if len(b) > MaxJobCatalogue {
		return bad("catalogue", fmt.Sprintf("must not exceed %d bytes", MaxJobCatalogue))
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return bad("catalogue", "must be a JSON object with devices and versions")
	}
	if len(c.Devices) > maxCatalogue || len(c.Versions) > maxCatalogue {
		return bad("catalogue", fmt.Sprintf("must have at most %d devices and versions", maxCatalogue))
	}
	known := map[string]string{}
	for i, v := range c.Versions {
		at := fmt.Sprintf("catalogue.versions.%d", i)
		switch {
		case v.ID == "" || len(v.ID) > 64 || !plainText(v.ID):
			return bad(at+".id", "must be text of 1 to 64 bytes")
		case v.Build == "" || len(v.Build) > 64 || strings.ContainsFunc(v.Build, func(r rune) bool { return r >= utf8.RuneSelf || !isAlnum(byte(r)) && !strings.ContainsRune("._-", r) }):
			return bad(at+".build", "must be 1 to 64 letters, digits, dots, dashes or underscores")
		case known[v.ID] != "":
			return bad(at+".id", "must not be given twice")
		}
		known[v.ID] = v.Build
	}
	build, ok := known[release]
	if !ok {
		return bad("release", "must be one of the catalogue's versions")
	}
	for i, d := range c.Devices {
		at := fmt.Sprintf("catalogue.devices.%d", i)
		if d.ID == "" || len(d.ID) > 64 || !plainText(d.ID) {
			return bad(at+".id", "must be text of 1 to 64 bytes")
		}
		if slices.Contains(d.Versions, release) && !slices.Contains(products, d.ID) {
			products = append(products, d.ID)
		}
	}
	if len(products) == 0 {
		return bad("release", "is offered for no device of the catalogue")
	}
	return build, products, nil
}
