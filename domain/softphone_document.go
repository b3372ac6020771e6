package domain

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// SoftphoneDocument is what apps of Cloud Softphone are told at one level: nodes of the account, quick dials, dial
// actions. The words are the vendor's ("Account XML", "Global External Provisioning").
type SoftphoneDocument struct {
	// Nodes are elements of the account, by name, letters' case as the vendor writes it.
	Nodes map[string]string `json:"nodes,omitempty"`
	// BLF are the extensions whose state the app shows (node group blf), each a uri. Rewriting are rules of the account,
	// for every number that is dialled. Where a level has any, they take the place of those below.
	BLF         []string     `json:"blf,omitempty"`
	Rewriting   []DialRule   `json:"rewriting,omitempty"`
	QuickDials  []QuickDial  `json:"quick_dials,omitempty"`
	DialActions []DialAction `json:"dial_actions,omitempty"`
	// QuickDialReplacePriority is maxQuickDialReplacePriority: the app drops its quick dials of a lower priority before it
	// takes the list. 0: it drops none, and what is gone is named. Nil: as below; at last DefaultReplacePriority.
	QuickDialReplacePriority *int `json:"quick_dial_replace_priority,omitempty"`
}

// IsZero tells whether the document says nothing.
func (d SoftphoneDocument) IsZero() bool {
	return len(d.Nodes)+len(d.BLF)+len(d.Rewriting)+len(d.QuickDials)+len(d.DialActions) == 0 && d.QuickDialReplacePriority == nil
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
	// DefaultReplacePriority drops the quick dials that came from here before, and keeps those the user has changed.
	DefaultReplacePriority = UsualPriority + 1
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
	maxBLF               = 200
)

// SoftphoneLogoutStatus is the HTTP status that signs an app out (node extProvLogoutStatusCode).
const SoftphoneLogoutStatus = 410

// ownNodes are written by the server, whatever a document says.
var ownNodes = []string{"cloud_username", "cloud_password", "extProvLogoutStatusCode"}

type vocabularyTerm struct {
	Type    string `json:"type"`
	Param   string `json:"param"` // text, integer, optional, none
	Min     int    `json:"min"`
	Known   bool   `json:"known"`   // documented, or seen in the field; else it is inferred
	Context string `json:"context"` // "incoming": for calls that come in only
	Note    string `json:"note"`
}

// vocabulary is the words of the vendor's rule language and account, as data: a spelling found on a real phone is a
// change of that file. Those whose spelling nobody has shown are not in it.
var vocabulary = func() (v struct {
	Conditions   []vocabularyTerm  `json:"conditions"`
	Actions      []vocabularyTerm  `json:"actions"`
	Basic        []string          `json:"basic_dial_actions"`
	Nodes        map[string]string `json:"nodes"` // name -> text, integer, boolean, numbers, use
	NodePrefixes []string          `json:"node_prefixes"`
	// Placeholders of a service's template that every service knows, functions in it, and what one service knows besides,
	// by the prefix of its nodes.
	Placeholders        []string            `json:"placeholders"`
	Functions           []string            `json:"functions"`
	ServicePlaceholders map[string][]string `json:"service_placeholders"`
	Emergency           map[string][]string `json:"emergency_numbers"` // by country, ISO 3166-1 alpha-2; "" where none is known
}) {
	if err := json.Unmarshal(vocabularyFile, &v); err != nil {
		panic("domain: vocabulary of Cloud Softphone: " + err.Error())
	}
	return v
}()

//go:embed cloudsoftphone.json
var vocabularyFile []byte

// SoftphoneLevel is what one level says: the cloud ID, a category, the softphone itself. Name is its stream.
type SoftphoneLevel struct {
	Name StreamID
	SoftphoneDocument
}

// Layered is levels laid over each other, the lowest first. from names the level that each thing comes from, by the path
// findings use: "account/host", "account/rewriting", "account/blf", "quickDial", "quickDial/<id>", "dialActions/<id>".
func Layered(levels ...SoftphoneLevel) (d SoftphoneDocument, from map[string]StreamID) {
	from = make(map[string]StreamID)
	for _, l := range levels {
		d = l.over(d, func(at string) { from[at] = l.Name })
	}
	return d, from
}

// Over is d laid over what the level below says: nodes one by one, entries by id, Remove taking one away. A locked entry
// of the level below stays as it is. The order is that of the level below, then of d.
func (d SoftphoneDocument) Over(below SoftphoneDocument) SoftphoneDocument {
	return d.over(below, func(string) {})
}

func (d SoftphoneDocument) over(below SoftphoneDocument, mine func(at string)) SoftphoneDocument {
	out := below
	out.Nodes = make(map[string]string, len(below.Nodes)+len(d.Nodes))
	maps.Copy(out.Nodes, below.Nodes)
	maps.Copy(out.Nodes, d.Nodes)
	for name := range d.Nodes {
		mine("account/" + name)
	}
	if len(d.BLF) > 0 {
		out.BLF = d.BLF
		mine("account/blf")
	}
	if len(d.Rewriting) > 0 {
		out.Rewriting = d.Rewriting
		mine("account/rewriting")
	}
	if d.QuickDialReplacePriority != nil {
		out.QuickDialReplacePriority = d.QuickDialReplacePriority
		mine("quickDial")
	}
	out.QuickDials = over(d.QuickDials, below.QuickDials, func(q QuickDial) (string, int, bool) { return q.ID, q.Priority, q.Remove }, "quickDial/", mine)
	out.DialActions = over(d.DialActions, below.DialActions, func(a DialAction) (string, int, bool) { return a.ID, a.Priority, a.Remove }, "dialActions/", mine)
	return out
}

func over[T any](upper, lower []T, of func(T) (id string, priority int, remove bool), path string, mine func(at string)) []T {
	out := slices.Clone(lower)
	at := make(map[string]int)
	for i, e := range lower {
		id, _, _ := of(e)
		at[id] = i
	}
	for _, e := range upper {
		id, _, _ := of(e)
		i, known := at[id]
		if !known {
			at[id] = len(out)
			out = append(out, e)
		} else if _, p, _ := of(out[i]); p <= UserPriority {
			out[i] = e
		} else {
			continue
		}
		mine(path + id)
	}
	return slices.DeleteFunc(out, func(e T) bool { _, _, remove := of(e); return remove })
}

// ReplacePriority is the priority below which the app drops its quick dials before it takes the list.
func (d SoftphoneDocument) ReplacePriority() int {
	if d.QuickDialReplacePriority != nil {
		return *d.QuickDialReplacePriority
	}
	return DefaultReplacePriority
}

// Removals is what apps have to be told to remove: entries they may have that the document does not have. What the app
// drops by itself when it gets the whole list (quick dials below ReplacePriority) is not named.
func (d SoftphoneDocument) Removals(held ...SoftphoneEntry) []SoftphoneEntry {
	present := make(map[SoftphoneEntry]bool)
	for _, e := range d.EntriesOf() {
		present[SoftphoneEntry{Kind: e.Kind, ID: e.ID}] = true
	}
	var out []SoftphoneEntry
	for _, e := range held {
		key := SoftphoneEntry{Kind: e.Kind, ID: e.ID}
		if present[key] || e.Kind == QuickDialKind && cmp.Or(e.Priority, UsualPriority) < d.ReplacePriority() {
			continue
		}
		present[key] = true
		out = append(out, e)
	}
	return out
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
