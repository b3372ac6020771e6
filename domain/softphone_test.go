package domain_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ledgerline/domain"
)

func terms(pairs ...string) (out []domain.DialTerm) {
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, domain.DialTerm{Type: pairs[i], Param: pairs[i+1]})
	}
	return out
}

// The vendor's own example: a voice call always, recorded for numbers with one leading zero and not two.
var zeroRules = []domain.DialRule{
	{Actions: terms("overrideDialAction", "voiceCall", "continue", "")},
	{Conditions: terms("startsWith", "0", "doesntStartWith", "00"), Actions: terms("recordCall", "")},
}

func TestDialling(t *testing.T) {
	e164 := []domain.DialRule{{Conditions: terms("doesntStartWith", "+", "lengthEquals", "10"), Actions: terms("prepend", "+1")}}
	swap := []domain.DialRule{{Conditions: terms("startsWith", "00"), Actions: terms("replace", "+", "continue", "")},
		{Conditions: terms("startsWith", "+"), Actions: terms("append", "#", "setHeader", "X-Far: 1")}, {Actions: terms("prepend", "9")}}
	for _, c := range []struct {
		rules  []domain.DialRule
		number string
		want   domain.Dialled
		rule   string // which applied
	}{
		{zeroRules, "0123", domain.Dialled{Number: "0123", DialAction: "voiceCall", Record: true}, "1 2"},
		{zeroRules, "00123", domain.Dialled{Number: "00123", DialAction: "voiceCall"}, "1"},
		{zeroRules, "123", domain.Dialled{Number: "123", DialAction: "voiceCall"}, "1"},
		{e164, "2025550143", domain.Dialled{Number: "+12025550143", DialAction: "autoCall"}, "1"},
		{e164, "+442071838750", domain.Dialled{Number: "+442071838750", DialAction: "autoCall"}, ""},
		{swap, "0049301", domain.Dialled{Number: "+49301#", DialAction: "autoCall", Headers: []string{"X-Far: 1"}}, "1 2"},
		{swap, "110", domain.Dialled{Number: "9110", DialAction: "autoCall"}, "3"},
	} {
		for of, d := range map[string]domain.SoftphoneDocument{"rewriting": {Rewriting: c.rules}, "own": {DialActions: []domain.DialAction{{ID: "own", Rules: c.rules}}}} {
			got := d.Dial(domain.Dialling{Number: c.number, DialAction: map[string]string{"own": "own"}[of]}, map[string]domain.StreamID{})
			var applied []string
			for _, s := range got.Steps {
				if s.Of != of || s.Why == "" {
					t.Errorf("%+v", s)
				}
				if s.Applied {
					applied = append(applied, fmt.Sprint(s.Rule))
				}
			}
			got.Steps = nil
			if diff := cmp.Diff(c.want, got); diff != "" || strings.Join(applied, " ") != c.rule {
				t.Errorf("%s, %s: rules %q\n%s", c.number, of, applied, diff)
			}
		}
	}
}

func TestCheckingADocument(t *testing.T) {
	action := func(id string, rules ...domain.DialRule) domain.DialAction {
		return domain.DialAction{ID: id, DisplayName: id, Rules: rules}
	}
	leads := func(to string) domain.DialRule { return domain.DialRule{Actions: terms("overrideDialAction", to)} }
	actions := func(a ...domain.DialAction) domain.SoftphoneDocument { return domain.SoftphoneDocument{DialActions: a} }
	rule := func(conditions []domain.DialTerm, a ...string) domain.SoftphoneDocument {
		return actions(action("a", domain.DialRule{Conditions: conditions, Actions: terms(a...)}))
	}
	dial := func(q ...domain.QuickDial) domain.SoftphoneDocument { return domain.SoftphoneDocument{QuickDials: q} }
	nodes := func(name, v string) domain.SoftphoneDocument {
		return domain.SoftphoneDocument{Nodes: map[string]string{name: v}}
	}
	for want, documents := range map[string][]domain.SoftphoneDocument{
		"CS-DA-14 warning": {actions(action("private", zeroRules...))},
		"": {{}, actions(action("private", leads("voiceCall"))), nodes("X-Own", "1"), nodes("transport", "tls+sip:"), nodes("host", "sip.acme.example:5061"),
			dial(domain.QuickDial{ID: "a", DisplayName: "Jo & Sam", URI: "sip:4711@acme.example", PortraitURL: "https://x.example/p"}, domain.QuickDial{ID: "b", DisplayName: "x", URI: "*98"}),
			dial(domain.QuickDial{ID: "a", Remove: true})},
		"CS-XML-1 error":   {nodes("a b", "x"), nodes("<x", "x")},
		"CS-XML-2 error":   {nodes("title", "a\x00b"), nodes("title", "\xff")},
		"CS-AC-1 error":    {nodes("title", " ")},
		"CS-AC-2 error":    {nodes("host", "a b"), nodes("host", "x:70000"), nodes("proxy", "")},
		"CS-AC-3 error":    {nodes("transport", "tls+sip"), nodes("transport", "TLS")},
		"CS-AC-4 error":    {nodes("expires", "29"), nodes("keepAlivePeriod", "x")},
		"CS-AC-5 error":    {nodes("wsContactsUrl", "ftp://x"), nodes("genericSmsSendUrl", "http://x/?p=%account[password]%")},
		"CS-AC-5 warning":  {nodes("wsContactsUrl", "http://x/")},
		"CS-AC-7 error":    {nodes("cloud_password", "x"), nodes("extProvLogoutStatusCode", "200")},
		"CS-AC-8 warning":  {nodes("nosuch", "x")},
		"CS-AC-9 warning":  {nodes("extProvInterval", "30")},
		"CS-QD-1 error":    {dial(domain.QuickDial{ID: "", DisplayName: "x", URI: "1"}), dial(domain.QuickDial{ID: "a", Remove: true}, domain.QuickDial{ID: "a", Remove: true})},
		"CS-QD-2 error":    {dial(domain.QuickDial{ID: "a", URI: "1"}), dial(domain.QuickDial{ID: "a", DisplayName: "x"})},
		"CS-QD-3 error":    {dial(domain.QuickDial{ID: "a", DisplayName: "x", URI: "javascript:1"}), dial(domain.QuickDial{ID: "a", DisplayName: "x", URI: "sip:"})},
		"CS-QD-5 error":    {dial(domain.QuickDial{ID: "a", DisplayName: "x", URI: "1", Priority: 1001})},
		"CS-QD-5 warning":  {dial(domain.QuickDial{ID: "a", DisplayName: "x", URI: "1", Priority: 50})},
		"CS-QD-8 warning":  {dial(domain.QuickDial{ID: "a", DisplayName: "x", URI: "1", PortraitURL: "http://x/"})},
		"CS-DA-1 error":    {actions(action("voiceCall", leads("autoCall"))), actions(action("a", leads("autoCall")), action("a", leads("autoCall")))},
		"CS-DA-2 error":    {actions(action("a"))},
		"CS-DA-3 error":    {rule(nil)},
		"CS-DA-4 error":    {rule(nil, "nosuch", ""), rule(terms("startswith", "0"), "prepend", "1"), rule(terms("numeric", ""), "prepend", "1")},
		"CS-DA-4 warning":  {rule(nil, "append", "1")},
		"CS-DA-5 error":    {rule(nil, "prepend", ""), rule(nil, "continue", "x")},
		"CS-DA-6 error":    {rule(terms("longerThan", "x"), "prepend", "1"), rule(terms("lengthEquals", "-1"), "prepend", "1")},
		"CS-DA-7 error":    {rule(nil, "overrideDialAction", "nosuch")},
		"CS-DA-8 error":    {actions(action("a", leads("b")), action("b", leads("a"))), actions(action("a", leads("a")))},
		"CS-DA-9 warning":  {actions(action("a", leads("autoCall"), leads("autoCall")))},
		"CS-DA-10 error":   {rule(terms("longerThan", "3"), "replace", "1")},
		"CS-DA-11 warning": {rule(terms("startsWith", "0", "doesntStartWith", "0"), "prepend", "1")},
		"CS-DA-12 error":   {rule(nil, "setHeader", "Via: x"), rule(nil, "setHeader", "X-A: b\r\nVia: c"), rule(nil, "setHeader", "no header")},
	} {
		for i, d := range documents {
			var got []string
			for _, f := range d.Check(domain.SoftphoneContext{}) {
				got = append(got, fmt.Sprintf("%s %s", f.Code, map[bool]string{true: "error", false: "warning"}[f.Error]))
			}
			if want == "" && len(got) > 0 || want != "" && !slices.Contains(got, want) {
				t.Errorf("document %d of %q: found %q", i, want, got)
			}
		}
	}
}

// A locked entry of the tenant cannot be changed or hidden below; any other can.
func TestLayersOfASoftphone(t *testing.T) {
	below := domain.SoftphoneDocument{Nodes: map[string]string{"host": "a", "title": "T"}, QuickDials: []domain.QuickDial{
		{ID: "locked", DisplayName: "Desk", URI: "1", Priority: 50}, {ID: "plain", DisplayName: "x", URI: "2"}, {ID: "hidden", DisplayName: "x", URI: "3"}}}
	own := domain.SoftphoneDocument{Nodes: map[string]string{"host": "b"}, QuickDials: []domain.QuickDial{
		{ID: "locked", Remove: true}, {ID: "plain", DisplayName: "y", URI: "4"}, {ID: "hidden", Remove: true}, {ID: "own", DisplayName: "z", URI: "5"}}}
	want := domain.SoftphoneDocument{Nodes: map[string]string{"host": "b", "title": "T"}, QuickDials: []domain.QuickDial{
		{ID: "locked", DisplayName: "Desk", URI: "1", Priority: 50}, {ID: "plain", DisplayName: "y", URI: "4"}, {ID: "own", DisplayName: "z", URI: "5"}}}
	if diff := cmp.Diff(want, own.Over(below)); diff != "" {
		t.Error(diff)
	}
}

// What was published once stays known, with the highest priority it ever had, and apps are told to remove what is gone.
func TestWhatWasPublishedIsRemembered(t *testing.T) {
	says := func(entries ...domain.SoftphoneEntry) domain.Event {
		return domain.CloudIDAmended{CloudIDSpec: domain.CloudIDSpec{SoftphoneLayer: domain.SoftphoneLayer{Entries: entries}}}
	}
	desk, call, plain := domain.SoftphoneEntry{Kind: "quick_dial", ID: "desk", Priority: 50}, domain.SoftphoneEntry{Kind: "dial_action", ID: "call"}, domain.SoftphoneEntry{Kind: "quick_dial", ID: "p"}
	lower := domain.SoftphoneEntry{Kind: "quick_dial", ID: "desk"}
	c := domain.Fold[domain.Cloud](past(domain.CloudIDDefined{CloudID: "x", TenantID: "acme"}, says(desk, call, plain), says(lower, call), says(call), says()))
	if diff := cmp.Diff([]domain.SoftphoneEntry{desk, call, plain}, c.Ever); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]domain.SoftphoneEntry{desk, call}, domain.SoftphoneDocument{}.Removals(c.Ever...)); diff != "" {
		t.Error(diff)
	}
	c = c.Apply(says(desk)).Apply(domain.CloudIDDefined{CloudID: "x", TenantID: "globex"})
	if len(c.Ever) > 0 {
		t.Errorf("another tenant is told of %v", c.Ever)
	}
}

func TestSigningIn(t *testing.T) {
	at := time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)
	in := func(id, install, via string, after time.Duration) domain.SoftphoneSignedIn {
		return domain.SoftphoneSignedIn{InstallID: id, InstallHash: install, TokenHash: "h" + id, Via: via, At: at.Add(after)}
	}
	coded := past(domain.SoftphoneDefined{SoftphoneID: "p"}, domain.SoftphoneCodeIssued{CodeHash: "c", ValidUntil: at.Add(time.Hour)})
	used := append(slices.Clone(coded), in("1", "phone", "code", 0))
	many := past(domain.SoftphoneDefined{SoftphoneID: "p"})
	for i := range domain.MaxInstalls {
		many = append(many, in(fmt.Sprint(i), "", "password", 0))
	}
	for what, c := range map[string]struct {
		given []domain.Event
		when  domain.SoftphoneSignedIn
		then  int // events; 0 is a refusal
	}{
		"a code":                        {coded, in("1", "phone", "code", 0), 1},
		"a code too late":               {coded, in("1", "phone", "code", time.Hour), 0},
		"a code again, same app":        {used, in("2", "phone", "code", domain.RepeatWindow-1), 1},
		"a code again, same app, later": {used, in("2", "phone", "code", domain.RepeatWindow), 0},
		"a code again, another app":     {used, in("2", "other", "code", 0), 0},
		"a code again, an app unknown":  {append(slices.Clone(coded), in("1", "", "code", 0)), in("2", "", "code", 0), 0},
		"no code":                       {past(domain.SoftphoneDefined{SoftphoneID: "p"}), in("1", "phone", "code", 0), 0},
		"a password":                    {coded, in("1", "phone", "password", 0), 1},
		"one app too many":              {many, in("new", "", "password", 0), 2},
		"removed":                       {append(slices.Clone(coded), domain.SoftphoneRemoved{}), in("1", "phone", "code", 0), 0},
	} {
		p := domain.Fold[domain.Softphone](c.given)
		events, err := p.SignIn(c.when)
		if len(events) != c.then || (err != nil) != (c.then == 0) {
			t.Errorf("%s: %v, %v", what, events, err)
		}
	}
	equal := func(a, b string) bool { return a == b }
	p := domain.Fold[domain.Softphone](append(used, in("2", "phone", "password", 0), in("3", "other", "password", 0)))
	for hash, want := range map[string]error{"h1": domain.ErrSoftphoneSignedOut, "h2": nil, "h3": nil, "h4": domain.ErrSoftphoneRefused} {
		if _, err := p.Token(hash, equal); err != want {
			t.Errorf("%s: %v, want %v", hash, err, want)
		}
	}
	if _, err := p.Apply(domain.SoftphoneRemoved{}).Token("h2", equal); err != domain.ErrSoftphoneSignedOut {
		t.Error(err)
	}
}

func TestCloudIDs(t *testing.T) {
	for text, want := range map[string]string{"ACME": "acme false true", " acme* ": "acme true true", "a.b_c-d": "a.b_c-d false true", "": " false false", "*": " true false", "a**": " true false", "a/b": " false false"} {
		id, editable, ok := domain.ParseCloudID(text)
		if got := fmt.Sprint(id, " ", editable, " ", ok); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
