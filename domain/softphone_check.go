package domain

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// SoftphonePolicy is what the tenant of a cloud ID has decided of the documents below it. The zero value is a decision too.
type SoftphonePolicy struct {
	// Country (ISO 3166-1 alpha-2) tells which numbers are emergency numbers; EmergencyNumbers are further ones. A rule that
	// changes one is warned of, and with ProtectEmergency refused.
	Country          string   `json:"country,omitempty"`
	EmergencyNumbers []string `json:"emergency_numbers,omitempty"`
	ProtectEmergency bool     `json:"protect_emergency,omitempty"`
	// RecordingLawful: rules may record calls without a warning.
	RecordingLawful bool `json:"recording_lawful,omitempty"`
	// DialLetters: what is dialled may hold letters.
	DialLetters bool `json:"dial_letters,omitempty"`
	// Strict refuses words of the rule language whose spelling is inferred only. Words are further ones, conditions or
	// actions, that the tenant has found to work.
	Strict bool     `json:"strict,omitempty"`
	Words  []string `json:"words,omitempty"`
	// LiveOnly: the portal's editable version (cloud ID with a star) is not answered.
	LiveOnly bool `json:"live_only,omitempty"`
}

// Equal tells whether both decide the same.
func (p SoftphonePolicy) Equal(q SoftphonePolicy) bool {
	return p.Country == q.Country && slices.Equal(p.EmergencyNumbers, q.EmergencyNumbers) && p.ProtectEmergency == q.ProtectEmergency &&
		p.RecordingLawful == q.RecordingLawful && p.DialLetters == q.DialLetters && p.Strict == q.Strict && slices.Equal(p.Words, q.Words) && p.LiveOnly == q.LiveOnly
}

// IsZero tells whether nothing was decided.
func (p SoftphonePolicy) IsZero() bool { return p.Equal(SoftphonePolicy{}) }

// Check is nil for a policy that can be taken; else it says which field is wrong, and how.
func (p SoftphonePolicy) Check() (field, rule string) {
	if _, known := vocabulary.Emergency[p.Country]; !known {
		return "country", "must be one of " + strings.Join(slices.Sorted(maps.Keys(vocabulary.Emergency))[1:], " ") + ", or absent"
	}
	if len(p.EmergencyNumbers) > 50 || slices.ContainsFunc(p.EmergencyNumbers, func(n string) bool { return !dialText.MatchString(n) }) {
		return "emergency_numbers", "must be at most 50 numbers to dial"
	}
	if len(p.Words) > 50 || slices.ContainsFunc(p.Words, func(w string) bool { return !nodeName.MatchString(w) }) {
		return "words", "must be at most 50 names"
	}
	return "", ""
}

// Emergency are the numbers the policy wants untouched.
func (p SoftphonePolicy) Emergency() []string {
	return slices.Concat(vocabulary.Emergency[p.Country], p.EmergencyNumbers)
}

// SoftphoneContext is what a document is checked against: what the levels below it say, and the tenant's policy. Open
// tells that levels below are not known (a category may be below any cloud ID of its tenant).
type SoftphoneContext struct {
	Below  SoftphoneDocument
	Policy SoftphonePolicy
	Open   bool
}

// SoftphoneFinding is something wrong with a document. Code is one of our own, stable; an Error keeps the document from
// being taken, anything else is a warning. At is where, as a path; no value that may be secret is in Text.
type SoftphoneFinding struct {
	Code  string `json:"code"`
	Error bool   `json:"error"`
	At    string `json:"at"`
	Text  string `json:"text"`
	Hint  string `json:"hint,omitempty"` // what was probably meant
	// Line and Column are where it stands in XML that was read, from 1; 0 when nothing was.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
}

// findings collects them.
type findings []SoftphoneFinding

func (f *findings) refuse(code, at, text string) {
	*f = append(*f, SoftphoneFinding{Code: code, Error: true, At: at, Text: text})
}
func (f *findings) warn(code, at, text string) {
	*f = append(*f, SoftphoneFinding{Code: code, At: at, Text: text})
}

// report refuses if it is an error, else warns.
func (f *findings) report(refuse bool, code, at, text string) {
	*f = append(*f, SoftphoneFinding{Code: code, Error: refuse, At: at, Text: text})
}

// mean adds what was probably meant to the finding made last.
func (f *findings) mean(hint string) { (*f)[len(*f)-1].Hint = hint }

var (
	nodeName    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,63}$`)
	entryID     = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,64}$`)
	dialLetters = regexp.MustCompile(`^[0-9A-Za-z*#+,;]{1,64}$`)
	dialText    = regexp.MustCompile(`^[0-9*#+,;]{1,64}$`)
	sipText     = regexp.MustCompile(`^sips?:([A-Za-z0-9\-_.!~*'()&=+$,;?/%]+@)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?(;[A-Za-z0-9\-_.=%]+)*$`)
	telText     = regexp.MustCompile(`^tel:\+?[0-9*#().-]{1,40}(;[A-Za-z0-9\-_.=+]+)*$`)
	hostText    = regexp.MustCompile(`^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)(:([0-9]{1,5}))?$`)
	headText    = regexp.MustCompile("^([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?(.*)$")
	ownHeader   = []string{"from", "to", "via", "call-id", "cseq", "contact", "route", "max-forwards", "content-length"}
)

// Check tells what is wrong with a document at one level.
func (d SoftphoneDocument) Check(c SoftphoneContext) []SoftphoneFinding {
	var f findings
	if b, err := json.Marshal(d); err != nil || len(b) > MaxSoftphoneDocument {
		f.refuse("CS-XML-1", "document", fmt.Sprintf("must not exceed %d bytes", MaxSoftphoneDocument))
		return f
	}
	d.checkNodes(&f)
	d.checkServices(&f)
	if len(d.BLF) > maxBLF {
		f.refuse("CS-XML-1", "account/blf", fmt.Sprintf("must not have more than %d", maxBLF))
	}
	for i, uri := range d.BLF {
		if !c.dialable(uri) {
			f.refuse("CS-QD-3", fmt.Sprintf("account/blf/uri[%d]", i+1), "must be a number to dial, or a sip:, sips: or tel: URI")
		}
	}
	d.checkQuickDials(&f, c)
	d.checkDialActions(&f, c)
	d.checkEmergency(&f, c)
	return f
}

// CheckWhole tells what is wrong with what an app is told, all levels laid over each other: what no level alone can know.
func (d SoftphoneDocument) CheckWhole(p SoftphonePolicy) []SoftphoneFinding {
	f := findings(d.Check(SoftphoneContext{Policy: p}))
	for _, name := range []string{"title", "username", "host"} {
		if strings.TrimSpace(d.Nodes[name]) == "" {
			f.refuse("CS-AC-1", "account/"+name, "must not be missing or empty")
		}
	}
	return f
}

func (c SoftphoneContext) dialable(uri string) bool {
	return dialText.MatchString(uri) || sipText.MatchString(uri) || telText.MatchString(uri) || c.Policy.DialLetters && dialLetters.MatchString(uri)
}

// legal tells whether s holds only characters an XML 1.0 text may hold.
func legal(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff
	})
}

func (d SoftphoneDocument) checkNodes(f *findings) {
	if len(d.Nodes) > maxAccountNodes {
		f.refuse("CS-XML-1", "nodes", fmt.Sprintf("must not be more than %d", maxAccountNodes))
		return
	}
	for _, name := range slices.Sorted(maps.Keys(d.Nodes)) {
		v, at := d.Nodes[name], "account/"+name
		switch {
		case !nodeName.MatchString(name):
			f.refuse("CS-XML-1", "account", "holds a name that is no name of an element")
			continue
		case slices.Contains(ownNodes, name):
			f.refuse("CS-AC-7", at, "is written by the server")
			continue
		case len(v) > maxNodeValue:
			f.refuse("CS-XML-1", at, fmt.Sprintf("must not exceed %d bytes", maxNodeValue))
			continue
		case !legal(v):
			f.refuse("CS-XML-2", at, "holds characters that XML cannot say")
			continue
		}
		switch name {
		case "title", "username":
			if strings.TrimSpace(v) == "" {
				f.refuse("CS-AC-1", at, "must not be empty")
			}
		case "host", "proxy":
			if !isHostPort(v) {
				f.refuse("CS-AC-2", at, "must be a host, and a port from 1 to 65535 if any")
			}
		case "transport":
			if !slices.Contains([]string{"udp", "tcp", "tls", "tls+sip:"}, v) {
				f.refuse("CS-AC-3", at, "must be udp, tcp, tls or tls+sip:")
			}
		case "expires":
			f.atLeast("CS-AC-4", at, v, 30)
		case "keepAlivePeriod":
			f.atLeast("CS-AC-4", at, v, 5)
		case "extProvInterval":
			if n, ok := f.atLeast("CS-AC-4", at, v, 0); ok && n > 0 && n < 60 {
				f.warn("CS-AC-9", at, "asks more often than once a minute")
			}
		case "rewriting", "blf", "quickDial", "dialActions":
			f.refuse("CS-AC-7", at, "is no node with text: it has a place of its own in a document")
			continue
		}
		if form := vocabulary.Nodes[name]; form != "" && !formOf[form].MatchString(v) {
			f.warn("CS-AC-10", at, "is not what is known of this node: "+form)
		}
		if strings.HasSuffix(name, "Url") || strings.HasSuffix(name, "_url") {
			f.serviceURL(at, v, d.Nodes)
		}
		if vocabulary.Nodes[name] == "" && !slices.ContainsFunc(vocabulary.NodePrefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			f.warn("CS-AC-8", at, "is not a known node (own ones begin with X-)")
			for known := range vocabulary.Nodes {
				if strings.EqualFold(known, name) {
					f.mean(known)
				}
			}
		}
	}
}

func isHostPort(v string) bool {
	m := hostText.FindStringSubmatch(v)
	if m == nil {
		return false
	}
	if m[4] == "" {
		return true
	}
	n, err := strconv.Atoi(m[4])
	return err == nil && n >= 1 && n <= 65535
}

func (f *findings) atLeast(code, at, v string, least int) (int, bool) {
	n, err := strconv.Atoi(v)
	if err != nil || n < least {
		f.refuse(code, at, fmt.Sprintf("must be a number, at least %d", least))
		return 0, false
	}
	return n, true
}

func (f *findings) serviceURL(at, v string, nodes map[string]string) {
	if v == "" {
		return
	}
	switch plain := strings.HasPrefix(v, "http://"); {
	case !plain && !strings.HasPrefix(v, "https://"):
		f.refuse("CS-AC-5", at, "must be an http or https URL")
	case plain:
		sent := v
		if prefix, suffix, ok := serviceNode(strings.TrimPrefix(at, "account/")); ok && suffix == "Url" {
			for _, s := range []string{"PostData", "CustomHeaders"} {
				sent += nodes[prefix+s] + nodes[prefix+snake[s]]
			}
		}
		if strings.Contains(sent, "%account[password]%") {
			f.refuse("CS-AC-5", at, "must be https: the app sends no password otherwise")
		} else {
			f.warn("CS-AC-5", at, "is not https")
		}
	}
}

func (f *findings) priority(code, at string, p int) {
	switch {
	case p < 0 || p > 1000:
		f.refuse(code, at, "priority must be from 0 to 1000")
	case p > UserPriority:
		f.warn(code, at, "is locked: the user cannot change it")
	}
}

// portrait says what is wrong with the address of a picture: nothing, an error or a warning.
func (f *findings) portrait(at, v string) {
	u, err := url.Parse(v)
	if err != nil || len(v) > 2048 || !legal(v) || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		f.refuse("CS-QD-8", at, "portraitUrl must be an http or https URL")
		return
	}
	if u.Scheme != "https" {
		f.warn("CS-QD-8", at, "portraitUrl is not https")
	}
	host := strings.ToLower(u.Hostname())
	ip, err := netip.ParseAddr(host)
	inside := err == nil && (ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified())
	if inside || err != nil && (!strings.Contains(host, ".") || strings.HasSuffix(host, ".local") || strings.HasSuffix(host, ".internal")) {
		f.warn("CS-QD-8", at, "portraitUrl cannot be reached from everywhere")
	}
}

// lockedBelow is the priority of an entry that a level below has locked; 0 when it has not.
func lockedBelow[T any](id string, below []T, of func(T) (string, int)) int {
	for _, e := range below {
		if other, p := of(e); other == id && p > UserPriority {
			return p
		}
	}
	return 0
}

func (d SoftphoneDocument) checkReplace(f *findings) {
	if d.QuickDialReplacePriority == nil {
		return
	}
	const at = "quickDial"
	switch n := *d.QuickDialReplacePriority; {
	case n < 0 || n > 1000:
		f.refuse("CS-QD-7", at, "maxQuickDialReplacePriority must be from 0 to 1000")
	case n > UserPriority:
		f.warn("CS-QD-7", at, "maxQuickDialReplacePriority drops what users have entered themselves")
	}
	if *d.QuickDialReplacePriority > 0 && slices.ContainsFunc(d.QuickDials, func(q QuickDial) bool { return q.Remove }) {
		f.warn("CS-QD-7", at, "maxQuickDialReplacePriority is meant for a list that is complete, and this one takes away from another")
	}
}

func (d SoftphoneDocument) checkQuickDials(f *findings, c SoftphoneContext) {
	d.checkReplace(f)
	if len(d.QuickDials) > maxQuickDials {
		f.refuse("CS-XML-1", "quickDial", fmt.Sprintf("must not have more than %d items", maxQuickDials))
		return
	}
	if len(d.QuickDials) > 60 {
		f.warn("CS-QD-10", "quickDial", "has more than 60 items")
	}
	seen, uris := map[string]bool{}, map[string]bool{}
	for i, q := range d.QuickDials {
		at := fmt.Sprintf("quickDial/item[%d]", i+1)
		if !entryID.MatchString(q.ID) {
			f.refuse("CS-QD-1", at, "id must be 1 to 64 of A-Z a-z 0-9 . _ : -")
		} else if seen[q.ID] {
			f.refuse("CS-QD-1", at, "id is there twice")
		}
		seen[q.ID] = true
		f.priority("CS-QD-5", at, q.Priority)
		if q.Remove {
			if q.DisplayName+q.URI+q.PortraitURL != "" {
				f.warn("CS-QD-6", at, "is removed, and has content")
			}
			if p := lockedBelow(q.ID, c.Below.QuickDials, func(q QuickDial) (string, int) { return q.ID, q.Priority }); p > q.Priority {
				f.warn("CS-QD-6", at, fmt.Sprintf("is locked below, with priority %d, and stays", p))
			}
			continue
		}
		if n := utf8.RuneCountInString(q.DisplayName); strings.TrimSpace(q.DisplayName) == "" || n > 64 || !legal(q.DisplayName) {
			f.refuse("CS-QD-2", at, "displayName must be 1 to 64 characters that XML can say")
		}
		if q.URI == "" {
			f.refuse("CS-QD-2", at, "uri is missing")
		} else if !c.dialable(q.URI) {
			f.refuse("CS-QD-3", at, "uri must be a number to dial, or a sip:, sips: or tel: URI")
		}
		if uris[q.URI] {
			f.warn("CS-QD-10", at, "uri is there twice")
		}
		uris[q.URI] = true
		if q.PortraitURL != "" {
			f.portrait(at, q.PortraitURL)
		}
	}
}

// checkEmergency dials the emergency numbers by every way of the document.
func (d SoftphoneDocument) checkEmergency(f *findings, c SoftphoneContext) {
	whole := d.Over(c.Below)
	ways := map[string]string{DialAutomatic: "account/rewriting"}
	for i, a := range d.DialActions {
		if !a.Remove {
			ways[a.ID] = fmt.Sprintf("dialActions/dialAction[%d]", i+1)
		}
	}
	if len(d.Rewriting) == 0 {
		delete(ways, DialAutomatic)
	} else if len(d.Rewriting) > maxDialRules {
		return // refused already, and not worth the work
	}
	for _, way := range slices.Sorted(maps.Keys(ways)) {
		for _, number := range c.Policy.Emergency() {
			got := Dialled{Number: number, DialAction: way}
			if whole.dial(&got, Dialling{}, nil); got.Number != number {
				f.report(c.Policy.ProtectEmergency, "CS-DA-13", ways[way], fmt.Sprintf("turns the emergency number %s into %s", number, got.Number))
				break
			}
		}
	}
}

func (d SoftphoneDocument) checkDialActions(f *findings, c SoftphoneContext) {
	if len(d.DialActions) > maxDialActions {
		f.refuse("CS-XML-1", "dialActions", fmt.Sprintf("must not have more than %d", maxDialActions))
		return
	}
	all := make(map[string]DialAction)
	for _, a := range d.Over(c.Below).DialActions {
		all[a.ID] = a
	}
	if len(d.Rewriting) > maxDialRules {
		f.refuse("CS-DA-2", "account/rewriting", fmt.Sprintf("must have at most %d rules", maxDialRules))
	} else {
		checkRules(f, "account/rewriting", d.Rewriting, all, c)
	}
	seen, known := map[string]bool{}, map[string]bool{}
	for i, a := range d.DialActions {
		at := fmt.Sprintf("dialActions/dialAction[%d]", i+1)
		switch {
		case !entryID.MatchString(a.ID):
			f.refuse("CS-DA-1", at, "id must be 1 to 64 of A-Z a-z 0-9 . _ : -")
		case seen[a.ID]:
			f.refuse("CS-DA-1", at, "id is there twice")
		case slices.Contains(vocabulary.Basic, a.ID):
			f.refuse("CS-DA-1", at, "id is that of a basic dial action")
		}
		seen[a.ID] = true
		f.priority("CS-DA-1", at, a.Priority)
		if a.Remove {
			if p := lockedBelow(a.ID, c.Below.DialActions, func(a DialAction) (string, int) { return a.ID, a.Priority }); p > a.Priority {
				f.warn("CS-QD-6", at, fmt.Sprintf("is locked below, with priority %d, and stays", p))
			}
			continue
		}
		if n := utf8.RuneCountInString(a.DisplayName); strings.TrimSpace(a.DisplayName) == "" || n > 64 || !legal(a.DisplayName) {
			f.refuse("CS-DA-2", at, "displayName must be 1 to 64 characters that XML can say")
		}
		if len(a.Rules) == 0 || len(a.Rules) > maxDialRules {
			f.refuse("CS-DA-2", at, fmt.Sprintf("must have 1 to %d rules", maxDialRules))
			continue
		}
		checkRules(f, at+"/rewriting", a.Rules, all, c)
		if loops(a.ID, all, known) {
			f.refuse("CS-DA-8", at, "leads back to itself by overrideDialAction")
		}
	}
}

// loops tells whether the dial action id can lead to one that is already under way. known remembers those looked at.
func loops(id string, all map[string]DialAction, known map[string]bool) bool {
	if found, ok := known[id]; ok {
		return found
	}
	a, ok := all[id]
	if !ok || a.Remove {
		return false
	}
	known[id] = true // under way: who leads here leads in a circle
	found := false
	for _, r := range a.Rules {
		for _, t := range r.Actions {
			found = found || t.Type == "overrideDialAction" && loops(t.Param, all, known)
		}
	}
	known[id] = found
	return found
}

func (r DialRule) has(action string) bool {
	return slices.ContainsFunc(r.Actions, func(t DialTerm) bool { return t.Type == action })
}

func checkRules(f *findings, at string, rules []DialRule, all map[string]DialAction, c SoftphoneContext) {
	last := false
	for i, r := range rules {
		where := fmt.Sprintf("%s/rule[%d]", at, i+1)
		if last {
			f.warn("CS-DA-9", where, "is never reached")
		}
		r.check(f, where, all, c)
		last = last || len(r.Conditions) == 0 && !r.has("continue")
	}
}

func (r DialRule) check(f *findings, at string, all map[string]DialAction, c SoftphoneContext) {
	if len(r.Actions) == 0 || len(r.Actions) > maxDialTerms || len(r.Conditions) > maxDialTerms {
		f.refuse("CS-DA-3", at, fmt.Sprintf("must have 1 to %d actions, and not more conditions", maxDialTerms))
		return
	}
	for i, t := range r.Conditions {
		t.check(f, fmt.Sprintf("%s/conditions/condition[%d]", at, i+1), vocabulary.Conditions, c.Policy)
	}
	longer, hasLonger := r.number("longerThan")
	if shorter, ok := r.number("shorterThan"); ok && hasLonger && shorter <= longer+1 {
		f.warn("CS-DA-6", at, "can never apply")
	}
	for i, a := range r.Actions {
		where := fmt.Sprintf("%s/actions/action[%d]", at, i+1)
		a.check(f, where, vocabulary.Actions, c.Policy)
		switch a.Type {
		case "overrideDialAction":
			if target, ok := all[a.Param]; !slices.Contains(vocabulary.Basic, a.Param) && (!ok || target.Remove) {
				f.report(!c.Open, "CS-DA-7", where, "names no dial action that is known here")
			}
		case "recordCall":
			if !c.Policy.RecordingLawful {
				f.warn("CS-DA-14", where, "records calls, which the tenant has not declared lawful (policy recording_lawful)")
			}
		case "replace":
			if !slices.ContainsFunc(r.Conditions, func(t DialTerm) bool {
				return slices.Contains([]string{"startsWith", "equals", "contains", "doesntStartWith"}, t.Type)
			}) {
				f.refuse("CS-DA-10", where, "needs a condition on the text it replaces")
			}
		case "setHeader":
			m := headText.FindStringSubmatch(a.Param)
			if m == nil || strings.ContainsAny(a.Param, "\r\n") || slices.Contains(ownHeader, strings.ToLower(m[1])) {
				f.refuse("CS-DA-12", where, "must be a header of one's own: Name: value")
			}
		}
	}
	r.contradicts(f, at)
}

func (r DialRule) number(kind string) (int, bool) {
	for _, c := range r.Conditions {
		if n, err := strconv.Atoi(c.Param); c.Type == kind && err == nil {
			return n, true
		}
	}
	return 0, false
}

func (r DialRule) contradicts(f *findings, at string) {
	for i, a := range r.Conditions {
		for _, b := range r.Conditions[i+1:] {
			opposed := a.Type == "startsWith" && b.Type == "doesntStartWith" || a.Type == "doesntStartWith" && b.Type == "startsWith"
			if opposed && a.Param == b.Param || a.Type == "equals" && b.Type == "equals" && a.Param != b.Param {
				f.warn("CS-DA-11", at, "has conditions that contradict each other")
				return
			}
		}
	}
}

func (t DialTerm) check(f *findings, at string, words []vocabularyTerm, p SoftphonePolicy) {
	i := slices.IndexFunc(words, func(w vocabularyTerm) bool { return w.Type == t.Type })
	if !legal(t.Param) || len(t.Param) > 256 {
		f.refuse("CS-XML-2", at, "param must be at most 256 characters that XML can say")
		return
	}
	if i < 0 {
		if slices.Contains(p.Words, t.Type) {
			f.warn("CS-DA-4", at, "type is known to the tenant only, and is not evaluated here")
			return
		}
		f.refuse("CS-DA-4", at, "type is not known")
		for _, w := range words {
			if strings.EqualFold(w.Type, t.Type) {
				f.mean(w.Type)
			}
		}
		return
	}
	w := words[i]
	if w.Context != "" {
		f.refuse("CS-DA-4", at, "type is for "+w.Context+" calls only")
		return
	}
	if !w.Known && !slices.Contains(p.Words, t.Type) {
		f.report(p.Strict, "CS-DA-4", at, "spelling of "+w.Type+" is inferred, not documented")
	}
	if w.Note != "" {
		f.warn("CS-DA-4", at, w.Note)
	}
	switch {
	case w.Param == "none" && t.Param != "":
		f.refuse("CS-DA-5", at, "takes no param")
	case (w.Param == "text" || w.Param == "integer") && t.Param == "":
		f.refuse("CS-DA-5", at, "needs a param")
	case w.Param == "integer":
		if n, err := strconv.Atoi(t.Param); err != nil || n < w.Min || n > 1000 {
			f.refuse("CS-DA-6", at, fmt.Sprintf("param must be a number from %d to 1000", w.Min))
		}
	}
}
