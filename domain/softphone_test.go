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

// What an app was told it may hold: it is told to remove what is gone for TombstoneDays, with the highest priority it was
// told it with, and one app's past is not another's.
func TestTombstones(t *testing.T) {
	at := time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)
	day := func(n int) time.Time { return at.AddDate(0, 0, n) }
	desk, low := domain.SoftphoneEntry{Kind: "quick_dial", ID: "desk", Priority: 50}, domain.SoftphoneEntry{Kind: "quick_dial", ID: "desk", Priority: 10}
	call, usual := domain.SoftphoneEntry{Kind: "dial_action", ID: "call"}, domain.SoftphoneEntry{Kind: "quick_dial", ID: "usual"}
	told := func(install string, n int, entries ...domain.SoftphoneEntry) domain.Event {
		return domain.SoftphoneServed{InstallHash: install, Service: "global", Digest: fmt.Sprint(n), Entries: entries, At: day(n)}
	}
	begin := past(domain.SoftphoneDefined{SoftphoneID: "p"}, told("i1", 0, desk, call, usual))
	then := func(events ...domain.Event) domain.Softphone {
		return domain.Fold[domain.Softphone](append(slices.Clone(begin), events...))
	}
	none := 0
	for what, c := range map[string]struct {
		p       domain.Softphone
		install string
		now     int
		says    domain.SoftphoneDocument
		want    []domain.SoftphoneEntry
	}{
		"gone at last call":                      {then(), "i1", 40, domain.SoftphoneDocument{}, []domain.SoftphoneEntry{desk, call}},
		"still there":                            {then(), "i1", 1, domain.SoftphoneDocument{DialActions: []domain.DialAction{{ID: "call"}}}, []domain.SoftphoneEntry{desk}},
		"nothing is replaced, so all is named":   {then(), "i1", 1, domain.SoftphoneDocument{QuickDialReplacePriority: &none}, []domain.SoftphoneEntry{desk, usual, call}},
		"another app":                            {then(), "i2", 1, domain.SoftphoneDocument{}, nil},
		"told once before":                       {then(told("i1", 1)), "i1", 2, domain.SoftphoneDocument{}, []domain.SoftphoneEntry{desk, call}},
		"told for a month":                       {then(told("i1", 1)), "i1", 30, domain.SoftphoneDocument{}, []domain.SoftphoneEntry{desk, call}},
		"told for longer":                        {then(told("i1", 1)), "i1", 31, domain.SoftphoneDocument{}, nil},
		"it came back and went again":            {then(told("i1", 1), told("i1", 2, desk), told("i1", 40)), "i1", 41, domain.SoftphoneDocument{}, []domain.SoftphoneEntry{desk}},
		"it was locked once":                     {then(told("i1", 1, low)), "i1", 2, domain.SoftphoneDocument{}, []domain.SoftphoneEntry{desk, call}},
		"what was told before it had a name":     {then(told("", 1, domain.SoftphoneEntry{Kind: "dial_action", ID: "early"})), "i2", 2, domain.SoftphoneDocument{}, []domain.SoftphoneEntry{{Kind: "dial_action", ID: "early"}}},
		"a lower priority than usual is no less": {then(told("i1", 1, domain.SoftphoneEntry{Kind: "dial_action", ID: "call", Priority: 5})), "i1", 2, domain.SoftphoneDocument{QuickDials: []domain.QuickDial{{ID: "desk"}}}, []domain.SoftphoneEntry{call}},
	} {
		got := c.says.Removals(c.p.Held("", c.install, day(c.now))...)
		slices.SortFunc(got, func(a, b domain.SoftphoneEntry) int { return strings.Compare(b.Kind+a.ID, a.Kind+b.ID) })
		slices.SortFunc(c.want, func(a, b domain.SoftphoneEntry) int { return strings.Compare(b.Kind+a.ID, a.Kind+b.ID) })
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s:\n%s", what, diff)
		}
	}
	p := then()
	same := domain.SoftphoneServed{InstallHash: "i1", Service: "global", Digest: "0", At: day(1)}
	if events, err := p.Serve(same); len(events) > 0 || err != nil {
		t.Errorf("the same again is news: %v %v", events, err)
	}
	for i := range 200 {
		p = p.Apply(told(fmt.Sprint("many", i), 1, desk))
	}
	if n := len(p.Served); n != 120 {
		t.Errorf("%d apps are remembered", n)
	}
}

// The levels, by name; a dial action of one that turns into that of another, and the rewriting before both.
func TestDiallingThroughLevels(t *testing.T) {
	action := func(id string, rules ...domain.DialRule) domain.DialAction {
		return domain.DialAction{ID: id, DisplayName: id, Rules: rules}
	}
	rule := func(conditions []domain.DialTerm, a ...string) domain.DialRule {
		return domain.DialRule{Conditions: conditions, Actions: terms(a...)}
	}
	cloud := domain.SoftphoneLevel{Name: "cloudid-acme", SoftphoneDocument: domain.SoftphoneDocument{Rewriting: []domain.DialRule{rule(terms("equals", "112"), "overrideDialAction", "gsmCall")},
		DialActions: []domain.DialAction{action("tenant", rule(nil, "prepend", "9"))}}}
	sales := domain.SoftphoneLevel{Name: "category-acme.sales", SoftphoneDocument: domain.SoftphoneDocument{
		DialActions: []domain.DialAction{action("sales", rule(terms("startsWith", "0"), "replace", "+49", "continue", ""), rule(nil, "overrideDialAction", "own"))}}}
	own := domain.SoftphoneLevel{Name: "softphone-ana", SoftphoneDocument: domain.SoftphoneDocument{
		DialActions: []domain.DialAction{action("own", rule(terms("networkType", "wifi"), "overrideDialAction", "tenant")), action("circle", rule(nil, "overrideDialAction", "circle"))}}}
	whole, from := domain.Layered(cloud, sales, own)
	steps := func(in domain.Dialling) (out []string) {
		d := whole.Dial(in, from)
		for _, s := range d.Steps {
			out = append(out, fmt.Sprintf("%s %s %d %v %s", s.Level, s.Of, s.Rule, s.Applied, s.Number))
		}
		return append(out, fmt.Sprintf("%s %s %v", d.Number, d.DialAction, d.Loop))
	}
	for _, c := range []struct {
		in   domain.Dialling
		want []string
	}{
		{domain.Dialling{Number: "112", DialAction: "sales"}, []string{"cloudid-acme rewriting 1 true 112", "112 gsmCall false"}},
		{domain.Dialling{Number: "030", DialAction: "sales", Network: "wifi"}, []string{"cloudid-acme rewriting 1 false 030", "category-acme.sales sales 1 true +4930", "category-acme.sales sales 2 true +4930",
			"softphone-ana own 1 true +4930", "cloudid-acme tenant 1 true 9+4930", "9+4930 autoCall false"}},
		{domain.Dialling{Number: "30", DialAction: "sales"}, []string{"cloudid-acme rewriting 1 false 30", "category-acme.sales sales 1 false 30", "category-acme.sales sales 2 true 30",
			"softphone-ana own 1 false 30", "30 autoCall false"}},
		{domain.Dialling{Number: "30", DialAction: "circle"}, []string{"cloudid-acme rewriting 1 false 30", "softphone-ana circle 1 true 30", "30 circle true"}},
		{domain.Dialling{Number: "30"}, []string{"cloudid-acme rewriting 1 false 30", "30 autoCall false"}},
	} {
		if diff := cmp.Diff(c.want, steps(c.in)); diff != "" {
			t.Errorf("%+v:\n%s", c.in, diff)
		}
	}
	// Rules that make a number grow without end stop where it is longer than any number.
	grow := domain.SoftphoneDocument{}
	for range 40 {
		grow.Rewriting = append(grow.Rewriting, rule(nil, "prepend", strings.Repeat("1", 256), "continue", ""))
	}
	if n := len(grow.Dial(domain.Dialling{Number: "1"}, nil).Number); n > 1024 {
		t.Errorf("a number of %d digits", n)
	}
}

// Thirty dial actions that each name all later ones are judged at once, not path by path.
func TestACircleIsFoundWithoutWalkingEveryPath(t *testing.T) {
	var d domain.SoftphoneDocument
	for i := range 30 {
		a := domain.DialAction{ID: fmt.Sprint("a", i), DisplayName: "x"}
		for j := i + 1; j < 30; j++ {
			a.Rules = append(a.Rules, domain.DialRule{Conditions: terms("equals", fmt.Sprint(j)), Actions: terms("overrideDialAction", fmt.Sprint("a", j))})
		}
		if i == 29 {
			a.Rules = []domain.DialRule{{Actions: terms("overrideDialAction", "voiceCall")}}
		}
		d.DialActions = append(d.DialActions, a)
	}
	for n, want := range []int{0, 30} {
		if n == 1 {
			d.DialActions[29].Rules[0].Actions = terms("overrideDialAction", "a0")
		}
		got := 0
		for _, f := range d.Check(domain.SoftphoneContext{}) {
			if f.Code == "CS-DA-8" {
				got++
			}
		}
		if got != want {
			t.Errorf("%d of the dial actions lead back, want %d", got, want)
		}
	}
}

func TestPoliciesOfSoftphones(t *testing.T) {
	for field, p := range map[string]domain.SoftphonePolicy{"": {Country: "DE", EmergencyNumbers: []string{"115"}, Words: []string{"dialOut"}}, "country": {Country: "de"},
		"emergency_numbers": {EmergencyNumbers: []string{"help"}}, "words": {Words: []string{"a b"}}} {
		if got, _ := p.Check(); got != field {
			t.Errorf("%+v: %q is wrong, want %q", p, got, field)
		}
	}
	if got := (domain.SoftphonePolicy{Country: "DE", EmergencyNumbers: []string{"115"}}).Emergency(); !slices.Equal(got, []string{"110", "112", "115"}) {
		t.Errorf("%q", got)
	}
}

// What levels say together, no level alone can know.
func TestTheWholeOfASoftphone(t *testing.T) {
	d := domain.SoftphoneDocument{Nodes: map[string]string{"title": "T", "username": "u"}, DialActions: []domain.DialAction{{ID: "a", DisplayName: "A", Rules: []domain.DialRule{{Actions: terms("overrideDialAction", "gone")}}}}}
	var got []string
	for _, f := range d.CheckWhole(domain.SoftphonePolicy{}) {
		got = append(got, f.Code+" "+f.At)
	}
	if diff := cmp.Diff([]string{"CS-DA-7 dialActions/dialAction[1]/rewriting/rule[1]/actions/action[1]", "CS-AC-1 account/host"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestPlaceholders(t *testing.T) {
	for template, want := range map[string]string{"": "", "100%": "", "%%": "", "a%20b%2Fc": "", "%installid%&x=%appid%": "installid appid", "%account[password]%": "", "%account[x": "",
		"%sha1(%account[password]%)%abc%installid%": "installid", "%md5(%nosuch%)%": "md5() nosuch", "%sha1(%nonce%%username%)%": "nonce username"} {
		if got := strings.Join(domain.Placeholders(template), " "); got != want {
			t.Errorf("%q: %q, want %q", template, got, want)
		}
	}
}
