package domain

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// portalService is a service that the portal calls here.
type portalService struct {
	prefix, path string
	initial      bool // called before there is an account
	// extra: the provider may leave it out, or have a server of its own for it.
	extra bool
}

var portalServices = []portalService{{prefix: "InitialProvisioning", path: SoftphoneAccountPath, initial: true}, {prefix: "initialGlobalProvisioning", path: SoftphoneGlobalPath, initial: true},
	{prefix: "globalExtProv", path: SoftphoneGlobalPath}, {prefix: "wsContacts", path: SoftphoneContactsPath, extra: true}, {prefix: "genericBalanceCheck", path: SoftphoneBalancePath, extra: true},
	{prefix: "pushTokenReporter", path: SoftphonePushPath, extra: true}}

// otherPortalNames are names of the portal that are no service called here.
var otherPortalNames = []string{"globalExtProvRefresh", "dialActionWsRefresh", "wsContactsRefresh", "wsContactsRefreshInterval", "extProvInterval", "extProvLogoutStatusCode"}

// CheckDefinitions says what is wrong with the definitions that stand in the portal for a cloud ID: misspelled and missing
// fields, addresses that lead nowhere here, placeholders that are not filled in at that moment, parameters the server needs.
// base and cloudID are as of PortalDefinitions. At names the field.
func CheckDefinitions(got []PortalValue, base, cloudID string) []SoftphoneFinding {
	var f findings
	known := slices.Clone(otherPortalNames)
	prefixes := []string{"extProv", "dialActionWs"}
	for _, s := range portalServices {
		prefixes = append(prefixes, s.prefix)
	}
	for _, p := range prefixes {
		for _, suffix := range serviceSuffixes {
			known = append(known, p+suffix)
		}
	}
	fields := make(map[string]string)
	for _, v := range got {
		if _, twice := fields[v.Name]; twice {
			f.refuse("CS-WS-3", v.Name, "is there twice")
		}
		fields[v.Name] = v.Value
		if slices.Contains(known, v.Name) {
			continue
		}
		if i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, v.Name) }); i >= 0 {
			f.refuse("CS-WS-3", v.Name, "is not how the portal spells it")
			f.mean(known[i])
		} else if !slices.ContainsFunc(vocabulary.NodePrefixes, func(p string) bool { return strings.HasPrefix(v.Name, p) }) {
			f.warn("CS-WS-3", v.Name, "is not a field that is known here")
		}
	}
	for _, s := range portalServices {
		s.check(&f, fields, base, cloudID)
	}
	if text, ok := fields["globalExtProvRefresh"]; ok {
		if n, err := strconv.Atoi(text); err != nil || n < 1 {
			f.refuse("CS-WS-6", "globalExtProvRefresh", "must be a number of seconds")
		} else if n < 60 {
			f.warn("CS-WS-6", "globalExtProvRefresh", "asks more often than once a minute")
		}
	}
	return f
}

// check checks one service.
func (s portalService) check(f *findings, fields map[string]string, base, cloudID string) {
	d := make(map[string]string)
	for _, suffix := range serviceSuffixes {
		d[suffix] = fields[s.prefix+suffix]
	}
	if s.extra && !leadsTo(d["Url"], base) {
		return
	}
	if d["Url"] == "" {
		switch {
		case s.path == SoftphoneAccountPath:
			f.refuse("CS-WS-4", s.prefix+"Url", "is missing: nobody can sign in")
		case s.initial:
			f.warn("CS-WS-4", s.prefix+"Url", "is missing: quick dials and dial actions do not come with the sign-in")
		default:
			f.warn("CS-WS-4", s.prefix+"Url", "is missing: quick dials and dial actions do not follow changes")
		}
		return
	}
	placeholders := slices.Concat(vocabulary.Placeholders, vocabulary.ServicePlaceholders[s.prefix])
	if s.initial {
		placeholders = append(slices.Clone(placeholders), "username", "password", "fullcode")
	}
	*f = append(*f, CheckService(s.prefix, d, placeholders)...)
	if s.initial && strings.Contains(d["Url"]+d["PostData"], "%account[") {
		f.refuse("CS-AC-6", s.prefix+"PostData", "uses %account[...]%, which is not there before the sign-in")
	}
	parameters := make(map[string]string)
	inPath := s.checkURL(f, d["Url"], base, parameters)
	if s.checkBody(f, d, parameters) {
		s.checkParameters(f, parameters, inPath, cloudID)
	}
}

// leadsTo tells whether an address is of the server that base is of.
func leadsTo(text, base string) bool {
	u, _, _ := strings.Cut(text, "?")
	there, err := url.Parse(strings.ReplaceAll(u, "%", "_"))
	here, hereErr := url.Parse(base)
	return err == nil && hereErr == nil && there.Host != "" && strings.EqualFold(there.Host, here.Host)
}

// checkURL answers whether the path carries the user's token.
func (s portalService) checkURL(f *findings, text, base string, parameters map[string]string) (token bool) {
	at := s.prefix + "Url"
	u, rest, found := strings.Cut(text, "?")
	parsed, err := url.Parse(strings.ReplaceAll(u, "%", "_")) // placeholders are no escapes
	here, _ := url.Parse(strings.TrimSuffix(base, "/"))
	switch {
	case err != nil || parsed.Host == "" || parsed.User != nil:
		f.refuse("CS-WS-4", at, "is not a URL")
		return false
	case parsed.Scheme == "http" && here != nil && here.Scheme == "https":
		f.refuse("CS-AC-5", at, "must be https: the app sends no password otherwise")
	case parsed.Scheme == "http":
		f.warn("CS-AC-5", at, "is not https: apps outside trusted networks are refused")
	case parsed.Scheme != "https":
		f.refuse("CS-AC-5", at, "must be an http or https URL")
	}
	if here != nil && !strings.EqualFold(parsed.Host, here.Host) {
		f.warn("CS-WS-4", at, "leads to "+parsed.Host+"; this server is told to apps as "+here.Host)
	}
	path, _, _ := strings.Cut(strings.TrimPrefix(u, parsed.Scheme+"://"), "#")
	_, path, _ = strings.Cut(path, "/")
	tail, ok := strings.CutPrefix("/"+path, s.path)
	switch {
	case ok && tail == "/%account[cloud_password]%" && !s.initial:
		token = true
	case !ok || tail != "":
		f.refuse("CS-WS-4", at, "does not lead to "+s.path)
	}
	if found {
		s.addForm(f, at, rest, parameters)
		for _, name := range []string{"cloud_password", "password"} {
			if parameters[name] != "" {
				f.warn("CS-WS-5", at, "carries the password, which ends up in others' logs; put it into "+s.prefix+"PostData")
			}
		}
	}
	return token
}

// checkBody answers whether the body can be read.
func (s portalService) checkBody(f *findings, d, parameters map[string]string) bool {
	body, at := d["PostData"], s.prefix+"PostData"
	kind, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(d["ContentType"])), ";")
	if body == "" {
		return true
	}
	if kind == "" {
		f.warn("CS-WS-6", s.prefix+"ContentType", "should be set: "+formType+" is what the app takes")
	}
	switch kind {
	case "", formType:
		s.addForm(f, at, body, parameters)
	case "application/json":
		var members map[string]any
		if err := json.Unmarshal([]byte(body), &members); err != nil {
			f.refuse("CS-WS-6", at, "is not the JSON that "+s.prefix+"ContentType says it is")
			return false
		}
		for name, v := range members {
			s.add(f, at, parameters, name, fmt.Sprint(v))
		}
	default:
		f.refuse("CS-WS-6", s.prefix+"ContentType", "must be "+formType+" or application/json")
		return false
	}
	return true
}

func (s portalService) addForm(f *findings, at, form string, parameters map[string]string) {
	if strings.Contains(form, "&amp;") {
		f.refuse("CS-WS-6", at, "is escaped as in XML: the portal wants & alone")
		form = strings.ReplaceAll(form, "&amp;", "&")
	}
	for pair := range strings.SplitSeq(form, "&") {
		name, v, _ := strings.Cut(pair, "=")
		s.add(f, at, parameters, name, v)
	}
}

func (s portalService) add(f *findings, at string, parameters map[string]string, name, v string) {
	switch old, twice := parameters[name]; {
	case twice && old != v:
		f.refuse("CS-WS-5", at, "sends "+name+" a second time, with another value")
	case !slices.Contains([]string{"cloud_id", "cloud_username", "username", "cloud_password", "password", "install", "installid", "initial", "initialScreen", ""}, name) && !(s.path == SoftphonePushPath && slices.Contains(SoftphonePushParameters, name)):
		f.warn("CS-WS-5", at, "sends "+name+", which is not asked for here")
	}
	parameters[name] = v
}

func (s portalService) checkParameters(f *findings, p map[string]string, token bool, cloudID string) {
	at := s.prefix + "PostData"
	of := func(names ...string) string {
		for _, n := range names {
			if p[n] != "" {
				return p[n]
			}
		}
		return ""
	}
	switch id := of("cloud_id"); {
	case id == "":
		f.refuse("CS-WS-5", at, "does not send cloud_id")
	case id == "%fullcode%" && s.initial:
	case strings.Contains(id, "%"):
		f.refuse("CS-WS-5", at, "sends a cloud_id that is not filled in at that moment")
		f.mean("cloud_id=" + cloudID)
	case !strings.EqualFold(strings.TrimSuffix(id, "*"), cloudID):
		f.refuse("CS-WS-5", at, "sends another cloud_id: "+id)
		f.mean("cloud_id=" + cloudID)
	}
	want := map[bool][2]string{true: {"%username%", "%password%"}, false: {"%account[cloud_username]%", "%account[cloud_password]%"}}[s.initial]
	password := of("cloud_password", "password")
	if password == "" && !token {
		f.refuse("CS-WS-5", at, "does not send cloud_password")
		f.mean("cloud_password=" + want[1])
	} else if password != "" && password != want[1] {
		text := "sends a cloud_password that is not what the user typed"
		if !s.initial {
			text = "sends a cloud_password that is not the token the app was given"
		}
		f.refuse("CS-WS-5", at, text)
		f.mean("cloud_password=" + want[1])
	}
	if name := of("cloud_username", "username"); name != want[0] && s.initial {
		f.refuse("CS-WS-5", at, "does not send what the user typed as cloud_username")
		f.mean("cloud_username=" + want[0])
	}
	if of("install", "installid") == "" {
		f.warn("CS-WS-5", at, "does not send install: the apps of one user are not told apart")
		f.mean("install=%installid%")
	}
}
