package domain

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// SoftphoneDocument is what apps of Cloud Softphone are told at one level: nodes of the account, quick dials, dial
// actions. The words are the vendor's ("Account XML", "Global External Provisioning").
type SoftphoneDocument struct {
	// Nodes are elements of the account, by name, letters' case as the vendor writes it.
	Nodes       map[string]string `json:"nodes,omitempty"`
	QuickDials  []QuickDial       `json:"quick_dials,omitempty"`
	DialActions []DialAction      `json:"dial_actions,omitempty"`
}

// QuickDial is one entry of the app's quick dials, merged by its id.
type QuickDial struct {
	ID          string `json:"id"`
	DisplayName string `json:"display_name,omitempty"`
	URI         string `json:"uri,omitempty"` // a number to dial, or a sip:, sips: or tel: URI
	PortraitURL string `json:"portrait_url,omitempty"`
	// Priority above 40 keeps the user from changing it; 0 means the app's own for what comes from here, 20.
	Priority int  `json:"priority,omitempty"`
	Remove   bool `json:"remove,omitempty"` // takes away what a level below says
}

// DialAction is a way to dial that users can choose, merged by its id.
type DialAction struct {
	ID          string     `json:"id"`
	DisplayName string     `json:"display_name,omitempty"`
	Rules       []DialRule `json:"rules,omitempty"`
	Priority    int        `json:"priority,omitempty"`
	Remove      bool       `json:"remove,omitempty"`
}

// DialRule applies its actions when all conditions hold. Without the action "continue" it is the last one.
type DialRule struct {
	Conditions []DialTerm `json:"conditions,omitempty"`
	Actions    []DialTerm `json:"actions"`
}

// DialTerm is one condition or action of the vocabulary.
type DialTerm struct {
	Type  string `json:"type"`
	Param string `json:"param,omitempty"`
}

// Kinds of a SoftphoneEntry.
const (
	QuickDialKind  = "quick_dial"
	DialActionKind = "dial_action"
)

// Priorities of an app: what comes from a provider without one has UsualPriority; what a user changed has 40, so that
// anything above is locked.
const (
	UsualPriority = 20
	UserPriority  = 40
)

// Limits of one level.
const (
	MaxSoftphoneDocument = 64 << 10 // bytes of JSON
	maxAccountNodes      = 200
	maxNodeValue         = 8 << 10
	maxQuickDials        = 500
	maxDialActions       = 50
	maxDialRules         = 50
	maxDialTerms         = 20
)

// SoftphoneLogoutStatus is the HTTP status that signs an app out (node extProvLogoutStatusCode).
const SoftphoneLogoutStatus = 410

// ownNodes are written by the server, whatever a document says.
var ownNodes = []string{"cloud_username", "cloud_password", "extProvLogoutStatusCode"}

type vocabularyTerm struct {
	Type  string `json:"type"`
	Param string `json:"param"` // text, integer, optional, none
	Min   int    `json:"min"`
	Known bool   `json:"known"` // documented, or seen in the field; else it is inferred
}

// vocabulary is the words of the vendor's rule language and account, as data: a spelling found on a real phone is a
// change of that file. Those whose spelling nobody has shown are not in it.
var vocabulary = func() (v struct {
	Conditions   []vocabularyTerm `json:"conditions"`
	Actions      []vocabularyTerm `json:"actions"`
	Basic        []string         `json:"basic_dial_actions"`
	Nodes        []string         `json:"nodes"`
	NodePrefixes []string         `json:"node_prefixes"`
}) {
	if err := json.Unmarshal(vocabularyFile, &v); err != nil {
		panic("domain: vocabulary of Cloud Softphone: " + err.Error())
	}
	return v
}()

//go:embed cloudsoftphone.json
var vocabularyFile []byte

// SoftphoneFinding is something wrong with a document. Code is one of our own, stable; an Error keeps the document from
// being taken, anything else is a warning. At is where, as a path; no value that may be secret is in Text.
type SoftphoneFinding struct {
	Code  string `json:"code"`
	Error bool   `json:"error"`
	At    string `json:"at"`
	Text  string `json:"text"`
}

// findings collects them.
type findings []SoftphoneFinding

func (f *findings) refuse(code, at, text string) {
	*f = append(*f, SoftphoneFinding{code, true, at, text})
}
func (f *findings) warn(code, at, text string) {
	*f = append(*f, SoftphoneFinding{code, false, at, text})
}

var (
	nodeName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,63}$`)
	entryID   = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,64}$`)
	dialText  = regexp.MustCompile(`^[0-9*#+,;]{1,64}$`)
	sipText   = regexp.MustCompile(`^sips?:([A-Za-z0-9\-_.!~*'()&=+$,;?/%]+@)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?(;[A-Za-z0-9\-_.=%]+)*$`)
	telText   = regexp.MustCompile(`^tel:\+?[0-9*#().-]{1,40}(;[A-Za-z0-9\-_.=+]+)*$`)
	hostText  = regexp.MustCompile(`^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)(:([0-9]{1,5}))?$`)
	headText  = regexp.MustCompile("^([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?(.*)$")
	ownHeader = []string{"from", "to", "via", "call-id", "cseq", "contact", "route", "max-forwards", "content-length"}
)

// Check tells what is wrong with a document. known are dial actions that another level defines.
func (d SoftphoneDocument) Check(known ...DialAction) []SoftphoneFinding {
	var f findings
	if b, err := json.Marshal(d); err != nil || len(b) > MaxSoftphoneDocument {
		f.refuse("CS-XML-1", "document", fmt.Sprintf("must not exceed %d bytes", MaxSoftphoneDocument))
		return f
	}
	d.checkNodes(&f)
	d.checkQuickDials(&f)
	d.checkDialActions(&f, known)
	return f
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
		}
		if strings.HasSuffix(name, "Url") || strings.HasSuffix(name, "_url") {
			f.serviceURL(at, v, d.Nodes)
		}
		if !slices.Contains(vocabulary.Nodes, name) && !slices.ContainsFunc(vocabulary.NodePrefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			f.warn("CS-AC-8", at, "is not a known node (own ones begin with X-)")
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
		data := nodes[strings.TrimSuffix(strings.TrimPrefix(at, "account/"), "Url")+"PostData"]
		if strings.Contains(v+data, "%account[password]%") {
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

func (d SoftphoneDocument) checkQuickDials(f *findings) {
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
			continue
		}
		if n := utf8.RuneCountInString(q.DisplayName); strings.TrimSpace(q.DisplayName) == "" || n > 64 || !legal(q.DisplayName) {
			f.refuse("CS-QD-2", at, "displayName must be 1 to 64 characters that XML can say")
		}
		if q.URI == "" {
			f.refuse("CS-QD-2", at, "uri is missing")
		} else if !dialText.MatchString(q.URI) && !sipText.MatchString(q.URI) && !telText.MatchString(q.URI) {
			f.refuse("CS-QD-3", at, "uri must be a number to dial, or a sip:, sips: or tel: URI")
		}
		if uris[q.URI] {
			f.warn("CS-QD-10", at, "uri is there twice")
		}
		uris[q.URI] = true
		if q.PortraitURL != "" {
			u, err := url.Parse(q.PortraitURL)
			if err != nil || len(q.PortraitURL) > 2048 || !legal(q.PortraitURL) {
				f.refuse("CS-QD-8", at, "portraitUrl must be a URL")
			} else if u.Scheme != "https" {
				f.warn("CS-QD-8", at, "portraitUrl is not https")
			}
		}
	}
}

func (d SoftphoneDocument) checkDialActions(f *findings, known []DialAction) {
	if len(d.DialActions) > maxDialActions {
		f.refuse("CS-XML-1", "dialActions", fmt.Sprintf("must not have more than %d", maxDialActions))
		return
	}
	all := make(map[string]DialAction)
	for _, a := range slices.Concat(known, d.DialActions) {
		all[a.ID] = a
	}
	seen := map[string]bool{}
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
			continue
		}
		if n := utf8.RuneCountInString(a.DisplayName); strings.TrimSpace(a.DisplayName) == "" || n > 64 || !legal(a.DisplayName) {
			f.refuse("CS-DA-2", at, "displayName must be 1 to 64 characters that XML can say")
		}
		if len(a.Rules) == 0 || len(a.Rules) > maxDialRules {
			f.refuse("CS-DA-2", at, fmt.Sprintf("must have 1 to %d rules", maxDialRules))
			continue
		}
		last := false
		for j, r := range a.Rules {
			where := fmt.Sprintf("%s/rewriting/rule[%d]", at, j+1)
			if last {
				f.warn("CS-DA-9", where, "is never reached")
			}
			r.check(f, where, all)
			last = last || len(r.Conditions) == 0 && !r.has("continue")
		}
		if loops(a.ID, all, map[string]bool{}) {
			f.refuse("CS-DA-8", at, "leads back to itself by overrideDialAction")
		}
	}
}

// loops tells whether the dial action id can lead to one that is already under way.
func loops(id string, all map[string]DialAction, under map[string]bool) bool {
	if under[id] {
		return true
	}
	a, ok := all[id]
	if !ok || a.Remove {
		return false
	}
	under[id] = true
	defer delete(under, id)
	for _, r := range a.Rules {
		for _, t := range r.Actions {
			if t.Type == "overrideDialAction" && loops(t.Param, all, under) {
				return true
			}
		}
	}
	return false
}

func (r DialRule) has(action string) bool {
	return slices.ContainsFunc(r.Actions, func(t DialTerm) bool { return t.Type == action })
}

func (r DialRule) check(f *findings, at string, all map[string]DialAction) {
	if len(r.Actions) == 0 || len(r.Actions) > maxDialTerms || len(r.Conditions) > maxDialTerms {
		f.refuse("CS-DA-3", at, fmt.Sprintf("must have 1 to %d actions, and not more conditions", maxDialTerms))
		return
	}
	for i, c := range r.Conditions {
		c.check(f, fmt.Sprintf("%s/conditions/condition[%d]", at, i+1), vocabulary.Conditions)
	}
	longer, hasLonger := r.number("longerThan")
	if shorter, ok := r.number("shorterThan"); ok && hasLonger && shorter <= longer+1 {
		f.warn("CS-DA-6", at, "can never apply")
	}
	for i, a := range r.Actions {
		where := fmt.Sprintf("%s/actions/action[%d]", at, i+1)
		a.check(f, where, vocabulary.Actions)
		switch a.Type {
		case "overrideDialAction":
			if target, ok := all[a.Param]; !slices.Contains(vocabulary.Basic, a.Param) && (!ok || target.Remove) {
				f.refuse("CS-DA-7", where, "names no dial action")
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

func (t DialTerm) check(f *findings, at string, words []vocabularyTerm) {
	i := slices.IndexFunc(words, func(w vocabularyTerm) bool { return w.Type == t.Type })
	if i < 0 {
		for _, w := range words {
			if strings.EqualFold(w.Type, t.Type) {
				f.refuse("CS-DA-4", at, "type is not known; did you mean "+w.Type)
				return
			}
		}
		f.refuse("CS-DA-4", at, "type is not known")
		return
	}
	w := words[i]
	if !w.Known {
		f.warn("CS-DA-4", at, "spelling of "+w.Type+" is inferred, not documented")
	}
	switch {
	case !legal(t.Param) || len(t.Param) > 256:
		f.refuse("CS-XML-2", at, "param must be at most 256 characters that XML can say")
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

// Over is d laid over what the level below says: nodes one by one, entries by id, Remove taking one away. A locked entry
// of the level below stays as it is. The order is that of the level below, then of d.
func (d SoftphoneDocument) Over(below SoftphoneDocument) SoftphoneDocument {
	out := SoftphoneDocument{Nodes: maps.Clone(below.Nodes)}
	if out.Nodes == nil {
		out.Nodes = make(map[string]string, len(d.Nodes))
	}
	maps.Copy(out.Nodes, d.Nodes)
	out.QuickDials = over(d.QuickDials, below.QuickDials, func(q QuickDial) (string, int, bool) { return q.ID, q.Priority, q.Remove })
	out.DialActions = over(d.DialActions, below.DialActions, func(a DialAction) (string, int, bool) { return a.ID, a.Priority, a.Remove })
	return out
}

func over[T any](upper, lower []T, of func(T) (id string, priority int, remove bool)) []T {
	var out []T
	at := make(map[string]int)
	for _, e := range slices.Concat(lower, upper) {
		id, _, _ := of(e)
		i, known := at[id]
		if !known {
			at[id] = len(out)
			out = append(out, e)
			continue
		}
		if _, p, _ := of(out[i]); p <= UserPriority {
			out[i] = e
		}
	}
	return slices.DeleteFunc(out, func(e T) bool { _, _, remove := of(e); return remove })
}

// Removals is what apps have to be told to remove: entries ever published that the document does not have. What the app drops by
// itself when it gets the whole list (quick dials of the usual priority or less) is not named.
func (d SoftphoneDocument) Removals(ever ...SoftphoneEntry) []SoftphoneEntry {
	present := make(map[SoftphoneEntry]bool)
	for _, e := range d.EntriesOf() {
		present[SoftphoneEntry{Kind: e.Kind, ID: e.ID}] = true
	}
	var out []SoftphoneEntry
	for _, e := range ever {
		key := SoftphoneEntry{Kind: e.Kind, ID: e.ID}
		if present[key] || e.Kind == QuickDialKind && e.Priority <= UsualPriority {
			continue
		}
		present[key] = true
		out = append(out, e)
	}
	return out
}

// Dialled is what becomes of a number that is dialled with a dial action.
type Dialled struct {
	Number     string   `json:"number"`
	DialAction string   `json:"dial_action"` // the one the call runs as; the first one where no rule says otherwise
	Record     bool     `json:"record"`
	Headers    []string `json:"headers,omitempty"`
	Rules      []int    `json:"rules"` // which applied, from 1
}

// Dial says what becomes of number under the rules. Later rules see the number as earlier ones made it: the vendor does
// not document it, its SDK keeps a running result.
func Dial(rules []DialRule, number string) Dialled {
	out := Dialled{Number: number, Rules: []int{}}
	for i, r := range rules {
		matched, ok := r.matches(out.Number)
		if !ok {
			continue
		}
		out.Rules = append(out.Rules, i+1)
		for _, a := range r.Actions {
			switch a.Type {
			case "replace":
				out.Number = strings.Replace(out.Number, matched, a.Param, 1)
			case "prepend":
				out.Number = a.Param + out.Number
			case "append":
				out.Number += a.Param
			case "recordCall":
				out.Record = true
			case "overrideDialAction":
				out.DialAction = a.Param
			case "setHeader":
				out.Headers = append(out.Headers, a.Param)
			}
		}
		if !r.has("continue") {
			break
		}
	}
	return out
}

// matches tells whether all conditions hold, and the text the last of those on text matched.
func (r DialRule) matches(number string) (matched string, ok bool) {
	for _, c := range r.Conditions {
		n, _ := strconv.Atoi(c.Param)
		length := utf8.RuneCountInString(number)
		switch c.Type {
		case "startsWith":
			matched, ok = c.Param, strings.HasPrefix(number, c.Param)
		case "doesntStartWith":
			ok = !strings.HasPrefix(number, c.Param)
		case "equals":
			matched, ok = c.Param, number == c.Param
		case "contains":
			matched, ok = c.Param, strings.Contains(number, c.Param)
		case "lengthEquals":
			ok = length == n
		case "longerThan":
			ok = length > n
		case "shorterThan":
			ok = length < n
		default:
			ok = false
		}
		if !ok {
			return "", false
		}
	}
	return matched, true
}

// SecretNode tells whether the value of an account's node is a secret.
func SecretNode(name string) bool { return strings.HasSuffix(strings.ToLower(name), "password") }

// Redacted is d as a reader may see it.
func (d SoftphoneDocument) Redacted() SoftphoneDocument {
	d.Nodes = maps.Clone(d.Nodes)
	for name := range d.Nodes {
		if SecretNode(name) {
			d.Nodes[name] = Redacted
		}
	}
	return d
}

// Unredacted is d with the secrets of before where it says "[redacted]"; false when there is none to keep.
func (d SoftphoneDocument) Unredacted(before SoftphoneDocument) (SoftphoneDocument, bool) {
	d.Nodes = maps.Clone(d.Nodes)
	for name, v := range d.Nodes {
		if v != Redacted {
			continue
		}
		old, ok := before.Nodes[name]
		if !ok {
			return d, false
		}
		d.Nodes[name] = old
	}
	return d, true
}

// ParseCloudID reads what an app sends as its cloud ID: 1 to 64 letters, digits, dots, dashes and underscores, whatever
// their case, and one "*" at the end that asks for the editable version. ok is false for anything else.
func ParseCloudID(s string) (id CloudID, editable, ok bool) {
	text, editable := strings.CutSuffix(strings.TrimSpace(s), "*")
	if CheckID(text) != nil {
		return "", editable, false
	}
	return CloudID(strings.ToLower(text)), editable, true
}
