package domain

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Dialling is a number that a user dials. DialAction is by what (empty: the app's own, autoCall); Network and SSID are
// where the phone is, for rules that ask.
type Dialling struct {
	Number     string
	DialAction string
	Network    string
	SSID       string
}

// Dialled is what becomes of it.
type Dialled struct {
	Number     string     `json:"number"`
	DialAction string     `json:"dial_action" doc:"basic dial action the call runs as"`
	Record     bool       `json:"record"`
	Headers    []string   `json:"headers,omitempty" doc:"SIP headers added to the call"`
	Steps      []DialStep `json:"steps" doc:"every rule that was looked at, in order"`
	// Loop: dial actions lead back to one that was under way, and the evaluation ended there.
	Loop bool `json:"loop,omitempty"`
}

// DialStep is one rule that was looked at.
type DialStep struct {
	// Level is the stream of the level the rule comes from; Of is "rewriting", or the id of the dial action.
	Level   StreamID `json:"level" doc:"the level the rule comes from: cloudid-, category- or softphone-"`
	Of      string   `json:"of" doc:"rewriting (of the account), or the id of the dial action"`
	Rule    int      `json:"rule" doc:"which rule there, from 1"`
	Applied bool     `json:"applied"`
	Why     string   `json:"why"`
	Number  string   `json:"number" doc:"as it is after the rule"`
}

// DialAutomatic is the dial action of an app whose user chose none.
const DialAutomatic = "autoCall"

// Dial says what becomes of a number: first the account's rewriting, then the dial action, and that which it turns the
// call into, until one is basic. The vendor documents neither this order nor whether later rules see the number as
// earlier ones made it, which is assumed here: its SDK keeps a running result. from is that of Layered.
func (d SoftphoneDocument) Dial(in Dialling, from map[string]StreamID) Dialled {
	out := Dialled{Number: in.Number, DialAction: cmp.Or(in.DialAction, DialAutomatic), Steps: []DialStep{}}
	d.dial(&out, in, from)
	return out
}

// dial is Dial; without from it keeps no steps.
func (d SoftphoneDocument) dial(out *Dialled, in Dialling, from map[string]StreamID) {
	out.apply(d.Rewriting, in, "rewriting", "account/rewriting", from)
	under := make(map[string]bool)
	for {
		i := slices.IndexFunc(d.DialActions, func(a DialAction) bool { return a.ID == out.DialAction })
		if i < 0 {
			return
		}
		a := d.DialActions[i]
		if under[a.ID] {
			out.Loop = true
			return
		}
		under[a.ID] = true
		out.DialAction = DialAutomatic // unless a rule says otherwise
		out.apply(a.Rules, in, a.ID, "dialActions/"+a.ID, from)
	}
}

// apply runs one list of rules.
func (out *Dialled) apply(rules []DialRule, in Dialling, of, at string, from map[string]StreamID) {
	for i, r := range rules {
		before := out.Number
		matched, failed := r.matches(before, in)
		ok := failed < 0
		if ok {
			for _, a := range r.Actions {
				out.do(a, matched)
			}
		}
		if from != nil {
			out.Steps = append(out.Steps, DialStep{Level: from[at], Of: of, Rule: i + 1, Applied: ok, Why: r.why(before, failed), Number: out.Number})
		}
		if ok && !r.has("continue") {
			return
		}
	}
}

// maxDialled is how long a number may become, in bytes; what would make it longer is left out.
const maxDialled = 1024

func (out *Dialled) do(a DialTerm, matched string) {
	if len(out.Number)+len(a.Param) > maxDialled && a.Type != "overrideDialAction" && a.Type != "setHeader" {
		return
	}
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

// matches is the text that the last condition on text matched, and which condition (from 0) does not hold; -1 when all do.
func (r DialRule) matches(number string, in Dialling) (matched string, failed int) {
	length := utf8.RuneCountInString(number)
	for i, c := range r.Conditions {
		n, _ := strconv.Atoi(c.Param)
		text, ok := false, false
		switch c.Type {
		case "startsWith":
			text, ok = true, strings.HasPrefix(number, c.Param)
		case "doesntStartWith":
			ok = !strings.HasPrefix(number, c.Param)
		case "equals":
			text, ok = true, number == c.Param
		case "contains":
			text, ok = true, strings.Contains(number, c.Param)
		case "lengthEquals":
			ok = length == n
		case "longerThan":
			ok = length > n
		case "shorterThan":
			ok = length < n
		case "networkType":
			ok = in.Network == c.Param
		case "ssid":
			ok = in.SSID == c.Param
		}
		if !ok {
			return "", i
		}
		if text {
			matched = c.Param
		}
	}
	return matched, -1
}

// why says why a rule did or did not apply.
func (r DialRule) why(number string, failed int) string {
	if len(r.Conditions) == 0 {
		return "it has no conditions"
	}
	if failed >= 0 {
		return fmt.Sprintf("%s: no for %s", r.Conditions[failed], number)
	}
	said := make([]string, len(r.Conditions))
	for i, c := range r.Conditions {
		said[i] = c.String()
	}
	return fmt.Sprintf("%s: yes for %s", strings.Join(said, ", "), number)
}

// String is the term as one would say it.
func (t DialTerm) String() string { return strings.TrimSpace(t.Type + " " + t.Param) }
