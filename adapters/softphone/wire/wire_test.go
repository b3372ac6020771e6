package wire_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ledgerline/adapters/softphone/wire"
	"ledgerline/domain"
)

// found is what reading and checking XML finds: code, severity and place.
func found(xml string, c domain.SoftphoneContext) (out []string) {
	i := wire.Read([]byte(xml))
	var checked []domain.SoftphoneFinding
	if !slices.ContainsFunc(i.Findings, func(f domain.SoftphoneFinding) bool { return f.Error }) {
		checked = i.Document.Check(c)
	}
	for _, f := range i.Locate(checked) {
		severity := "W"
		if f.Error {
			severity = "E"
		}
		text := fmt.Sprintf("%s %s %d:%d", f.Code, severity, f.Line, f.Column)
		if f.Hint != "" {
			text += " " + f.Hint
		}
		out = append(out, text)
	}
	return out
}

// Every check of the reference's catalogue (§11), on XML a provider may have, with the line and column it names.
func TestEveryCheckNamesItsPlace(t *testing.T) {
	quick := func(inside string) string { return "<x>\n<quickDial>\n" + inside + "\n</quickDial>\n</x>" }
	item := func(inside string) string { return quick(`<item id="a">` + inside + `</item>`) }
	acts := func(inside string) string { return "<x>\n<dialActions>\n" + inside + "\n</dialActions>\n</x>" }
	action := func(rules string) string {
		return acts(`<dialAction id="a"><displayName>A</displayName>` + "\n<rewriting>" + rules + `</rewriting></dialAction>`)
	}
	rule := func(conditions, actions string) string {
		if conditions != "" {
			conditions = "<conditions>" + conditions + "</conditions>"
		}
		return "\n<rule>" + conditions + "<actions>\n" + actions + "</actions></rule>"
	}
	does := func(kind, param string) string { return fmt.Sprintf(`<action type=%q param=%q/>`, kind, param) }
	when := func(kind, param string) string { return fmt.Sprintf(`<condition type=%q param=%q/>`, kind, param) }
	account := func(inside string) string { return "<account>\n" + inside + "\n</account>" }
	const named = "<displayName>A</displayName><uri>1</uri>"
	locked := domain.SoftphoneContext{Below: domain.SoftphoneDocument{QuickDials: []domain.QuickDial{{ID: "a", DisplayName: "A", URI: "1", Priority: 50}}}}
	german := domain.SoftphoneContext{Policy: domain.SoftphonePolicy{Country: "DE", ProtectEmergency: true}}
	for _, c := range []struct {
		want, xml string
		in        domain.SoftphoneContext
	}{
		{want: "CS-XML-1 E 2:8", xml: "<x>\n<a></x>"},
		{want: "CS-XML-2 E 2:4", xml: "<x>\na\x01b</x>"},
		{want: "CS-GEP-1 E 3:1", xml: "<x>\n<quickDial/>\n<quickDial/></x>"},
		{want: "CS-GEP-1 E 2:1", xml: "<x/>\n<y/>"},
		{want: "CS-GEP-1 E 1:1", xml: "<error><message>no</message></error>"},
		{want: "CS-GEP-2 W 2:1", xml: "<x>\n<extra/></x>"},
		{want: "CS-GEP-2 E 2:1 quickDial", xml: "<x>\n<quickdial/></x>"},
		{want: "CS-QD-1 E 3:1", xml: quick(`<item>` + named + `</item>`)},
		{want: "CS-QD-1 E 4:1", xml: quick(`<item id="a">` + named + "</item>\n" + `<item id="a">` + named + `</item>`)},
		{want: "CS-QD-2 E 3:1", xml: item("<uri>1</uri>")},
		{want: "CS-QD-2 E 3:42", xml: item("<displayName>A</displayName><displayName>B</displayName><uri>1</uri>")},
		{want: "CS-QD-3 E 3:1", xml: item("<displayName>A</displayName><uri>javascript:1</uri>")},
		{want: "CS-QD-4 E 3:1 remove", xml: quick(`<item id="a" action="delete"/>`)},
		{want: "CS-QD-5 E 3:1", xml: quick(`<item id="a" priority="x">` + named + `</item>`)},
		{want: "CS-QD-5 E 3:1", xml: quick(`<item id="a" priority="1001">` + named + `</item>`)},
		{want: "CS-QD-5 W 3:1", xml: quick(`<item id="a" priority="50">` + named + `</item>`)},
		{want: "CS-QD-5 W 3:1", xml: quick(`<item id="a" priority="0">` + named + `</item>`)},
		{want: "CS-QD-6 W 3:1", xml: quick(`<item id="a" action="remove">` + named + `</item>`)},
		{want: "CS-QD-6 W 3:1", xml: quick(`<item id="a" action="remove"/>`), in: locked},
		{want: "CS-QD-7 E 2:1", xml: "<x>\n<quickDial maxQuickDialReplacePriority=\"many\"/></x>"},
		{want: "CS-QD-7 E 2:1", xml: "<x>\n<quickDial maxQuickDialReplacePriority=\"1001\"/></x>"},
		{want: "CS-QD-7 W 2:1", xml: "<x>\n<quickDial maxQuickDialReplacePriority=\"51\"/></x>"},
		{want: "CS-QD-7 W 2:1", xml: "<x>\n<quickDial maxQuickDialReplacePriority=\"21\"><item id=\"a\" action=\"remove\"/></quickDial></x>"},
		{want: "CS-QD-8 W 3:1", xml: item(named + "<portraitUrl>http://x.example/p</portraitUrl>")},
		{want: "CS-QD-8 W 3:1", xml: item(named + "<portraitUrl>https://10.0.0.1/p</portraitUrl>")},
		{want: "CS-QD-8 W 3:1", xml: item(named + "<portraitUrl>https://pbx/p</portraitUrl>")},
		{want: "CS-QD-8 E 3:1", xml: item(named + "<portraitUrl>javascript:1</portraitUrl>")},
		{want: "CS-QD-9 E 3:14 displayName", xml: item("<displayname>A</displayname><uri>1</uri>")},
		{want: "CS-QD-9 W 3:14", xml: item("<colour/>" + named)},
		{want: "CS-QD-9 W 3:1", xml: quick(`<item id="a" source="x">` + named + `</item>`)},
		{want: "CS-QD-10 W 4:1", xml: quick(`<item id="a">` + named + "</item>\n" + `<item id="b">` + named + `</item>`)},
		{want: "CS-QD-10 W 2:1", xml: quick(func() (all string) {
			for i := range 61 {
				all += fmt.Sprintf(`<item id="a%d"><displayName>A</displayName><uri>%d</uri></item>`, i, i)
			}
			return all
		}())},
		{want: "CS-DA-1 E 3:1", xml: acts(`<dialAction id="voiceCall" action="remove"/>`)},
		{want: "CS-DA-2 E 3:1", xml: acts(`<dialAction id="a"><displayName>A</displayName></dialAction>`)},
		{want: "CS-DA-2 E 3:57", xml: acts(`<dialAction id="a"><displayName/><rewriting></rewriting><rewriting/></dialAction>`)},
		{want: "CS-DA-3 E 5:1", xml: action("\n<rule/>")},
		{want: "CS-DA-3 E 5:1", xml: action("\n<rule><conditions/><actions><action type=\"continue\"/></actions></rule>")},
		{want: "CS-DA-4 E 6:1", xml: action(rule("", does("nosuch", "")))},
		{want: "CS-DA-4 E 6:1 prepend", xml: action(rule("", does("Prepend", "1")))},
		{want: "CS-DA-4 E 6:1", xml: action(rule("", does("rejectCall", "")))},
		{want: "CS-DA-4 W 6:1", xml: action(rule("", does("append", "1")))},
		{want: "CS-DA-4 E 6:1", xml: action(rule("", does("append", "1"))), in: domain.SoftphoneContext{Policy: domain.SoftphonePolicy{Strict: true}}},
		{want: "CS-DA-4 W 6:1", xml: action(rule("", does("dialOut", "1"))), in: domain.SoftphoneContext{Policy: domain.SoftphonePolicy{Words: []string{"dialOut"}}}},
		{want: "CS-DA-5 E 6:1", xml: action(rule("", does("prepend", "")))},
		{want: "CS-DA-5 E 6:1", xml: action(rule("", does("continue", "x")))},
		{want: "CS-DA-6 E 5:19", xml: action(rule(when("longerThan", "x"), does("prepend", "1")))},
		{want: "CS-DA-6 W 5:1", xml: action(rule(when("longerThan", "5")+when("shorterThan", "6"), does("prepend", "1")))},
		{want: "CS-DA-7 E 6:1", xml: action(rule("", does("overrideDialAction", "b")))},
		{want: "CS-DA-7 W 6:1", xml: action(rule("", does("overrideDialAction", "b"))), in: domain.SoftphoneContext{Open: true}},
		{want: "CS-DA-8 E 3:1", xml: action(rule("", does("overrideDialAction", "a")))},
		{want: "CS-DA-9 W 7:1", xml: action(rule("", does("overrideDialAction", "text")) + rule("", does("overrideDialAction", "text")))},
		{want: "CS-DA-10 E 6:1", xml: action(rule(when("longerThan", "3"), does("replace", "1")))},
		{want: "CS-DA-11 W 5:1", xml: action(rule(when("startsWith", "0")+when("doesntStartWith", "0"), does("prepend", "1")))},
		{want: "CS-DA-12 E 6:1", xml: action(rule("", does("setHeader", "Via: x")))},
		{want: "CS-DA-13 W 3:1", xml: action(rule("", does("prepend", "9")))},
		{want: "CS-DA-13 E 3:1", xml: action(rule(when("equals", "110"), does("prepend", "9"))), in: german},
		{want: "CS-DA-13 E 2:1", xml: account("<rewriting>" + rule(when("equals", "110"), does("prepend", "9")) + "</rewriting>"), in: german},
		{want: "CS-DA-14 W 6:1", xml: action(rule("", `<action type="recordCall"/>`))},
		{want: "CS-DA-15 E 3:20 displayName", xml: acts(`<dialAction id="a"><displayname>A</displayname></dialAction>`)},
		{want: "CS-DA-15 W 3:1", xml: acts(`<dialAction id="a" icon="x" action="remove"/>`)},
		{want: "CS-AC-1 E 2:1", xml: account("<title> </title>")},
		{want: "CS-AC-2 E 2:1", xml: account("<host>x:70000</host>")},
		{want: "CS-AC-3 E 2:1", xml: account("<transport>tls+sip</transport>")},
		{want: "CS-AC-4 E 2:1", xml: account("<expires>29</expires>")},
		{want: "CS-AC-5 E 2:1", xml: account("<customActionUrl>ftp://x</customActionUrl>")},
		{want: "CS-AC-5 W 2:1", xml: account("<customActionUrl>http://x/</customActionUrl>")},
		{want: "CS-AC-5 E 3:1", xml: account("<genericSmsSendPostData>p=%account[password]%</genericSmsSendPostData>\n<genericSmsSendUrl>http://x/</genericSmsSendUrl>")},
		{want: "CS-AC-5 E 3:1", xml: account("<wcb_post_data>p=%account[password]%</wcb_post_data>\n<wcb_url>http://x/</wcb_url>")},
		{want: "CS-AC-6 W 2:1", xml: account("<genericSmsSendPostData>to=%username%</genericSmsSendPostData>")},
		{want: "CS-AC-6 W 2:1 sms_to", xml: account("<genericSmsSendPostData>to=%SMS_to%</genericSmsSendPostData>")},
		{want: "CS-AC-6 W 2:1", xml: account("<genericSmsSendPostData>%md5(%account[password]%)%</genericSmsSendPostData>")},
		{want: "CS-AC-7 E 3:1", xml: account("<host>a</host>\n<host>b</host>")},
		{want: "CS-AC-7 E 2:1", xml: "<account/>\n<account/>"},
		{want: "CS-AC-7 E 1:1", xml: "<accounts><account/></accounts>"},
		{want: "CS-AC-7 E 2:1", xml: account("<cloud_password>x</cloud_password>")},
		{want: "CS-AC-8 W 2:1 voiceMailNumber", xml: account("<voicemailNumber>1</voicemailNumber>")},
		{want: "CS-AC-8 E 2:1", xml: account(`<title><value lang="cs">x</value></title>`)},
		{want: "CS-AC-9 W 2:1", xml: account("<extProvInterval>30</extProvInterval>")},
		{want: "CS-AC-10 W 2:1", xml: account("<allowVideo>yes</allowVideo>")},
		{want: "CS-WS-1 E 3:1", xml: account("<genericSmsSendMethod>GET</genericSmsSendMethod>\n<genericSmsSendPostData>x</genericSmsSendPostData>")},
		{want: "CS-WS-1 E 3:1", xml: account("<wcb_method>DELETE</wcb_method>\n<wcb_post_data>x</wcb_post_data>")},
		{want: "CS-WS-1 E 2:1", xml: account("<genericSmsSendMethod>PATCH</genericSmsSendMethod>")},
		{want: "CS-WS-2 E 2:1", xml: account(`<genericSmsSendCustomHeaders>X-A: b\nno header</genericSmsSendCustomHeaders>`)},
		{want: "CS-WS-2 E 2:1", xml: account("<genericSmsSendCustomHeaders>X-A: b&#9;c</genericSmsSendCustomHeaders>")},
	} {
		if got := found(c.xml, c.in); !slices.Contains(got, c.want) {
			t.Errorf("%s\nfound %q, want %s", c.xml, got, c.want)
		}
	}
	for _, good := range []string{
		"\ufeff<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<!-- ours --><x><quickDial><item id=\"a\">" + named + "</item></quickDial></x>",
		"<root/>", "<provisioning>\n</provisioning>",
		account("<title>Jo &amp; <![CDATA[<Sam>]]></title><blf><uri>201</uri><uri>sip:202@acme.example</uri></blf><X-Own>1</X-Own>"),
		account("<genericSmsSendUrl>https://x/?p=%account[password]%&amp;h=%sha1(%account[password]%)%&amp;100%25</genericSmsSendUrl><genericSmsSendPostData>%sms_to% %installid%</genericSmsSendPostData>"),
		account("<genericSmsSendMethod>POST</genericSmsSendMethod><genericSmsSendCustomHeaders>X-A: b\\nX-C: d</genericSmsSendCustomHeaders>"),
		action(rule(when("equals", "112"), does("overrideDialAction", "gsmCall"))),
	} {
		if got := found(good, domain.SoftphoneContext{}); len(got) > 0 {
			t.Errorf("%s\nfound %q", good, got)
		}
	}
}

// XML that means harm is refused, and costs little.
func TestXMLAttacks(t *testing.T) {
	utf16 := "\xff\xfe<\x00x\x00/\x00>\x00"
	for what, xml := range map[string]string{
		"an external entity":          "<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><account><title>&e;</title></account>",
		"a billion laughs":            "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;&a;\">]><account><title>&b;</title></account>",
		"a DOCTYPE alone":             "<!DOCTYPE account><account/>",
		"an external DTD":             "<!DOCTYPE account SYSTEM \"http://evil.example/x.dtd\"><account/>",
		"an entity nobody defined":    "<account><title>&nosuch;</title></account>",
		"a stylesheet":                "<?xml version=\"1.0\"?><?xml-stylesheet href=\"http://evil.example\"?><account/>",
		"a declaration in the middle": "<account><?xml version=\"1.0\"?></account>",
		"depth":                       strings.Repeat("<a>", 13) + strings.Repeat("</a>", 13),
		"depth without end":           strings.Repeat("<a>", 100_000),
		"size":                        "<account><title>" + strings.Repeat("a", wire.MaxXML) + "</title></account>",
		"elements":                    "<x>" + strings.Repeat("<a/>", 20_001) + "</x>",
		"attributes":                  "<x" + strings.Repeat(" a=\"\"", 30) + "/>",
		"an attribute twice":          "<x a=\"1\" a=\"2\"/>",
		"UTF-16":                      utf16,
		"another encoding":            "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><account/>",
		"UTF-7":                       "<?xml version=\"1.0\" encoding=\"UTF-7\"?>+ADw-account/+AD4-",
		"broken UTF-8":                "<account><title>\xc3\x28</title></account>",
		"XML 1.1":                     "<?xml version=\"1.1\"?><account/>",
		"a control character":         "<account><title>&#1;</title></account>",
		"a namespace":                 "<account xmlns=\"http://evil.example\"/>",
		"a prefix":                    "<xi:include xmlns:xi=\"http://www.w3.org/2001/XInclude\" href=\"file:///etc/passwd\"/>",
		"a prefix without a name":     "<xi:include href=\"x\"/>",
		"text outside":                "x<account/>",
		"nothing":                     "",
		"no XML":                      "hello",
		"an end that fits not":        "<account></Account>",
	} {
		i := wire.Read([]byte(xml))
		if !slices.ContainsFunc(i.Findings, func(f domain.SoftphoneFinding) bool { return f.Error && f.Line > 0 && f.Column > 0 }) {
			t.Errorf("%s: %+v", what, i.Findings)
		}
		for _, f := range i.Findings {
			if strings.Contains(f.Text, "passwd") {
				t.Errorf("%s: %s", what, f.Text)
			}
		}
	}
}

// A text that comments cut into very many pieces costs no more than a few times its size.
func TestATextInPieces(t *testing.T) {
	const piece, pieces = "aaaaaaa", 36_000
	data := []byte("<account><title>" + strings.Repeat(piece+"<!---->", pieces) + "</title></account>")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	i := wire.Read(data)
	runtime.ReadMemStats(&after)
	if got := i.Document.Nodes["title"]; len(i.Findings) > 0 || got != strings.Repeat(piece, pieces) {
		t.Errorf("%d bytes, %+v", len(got), i.Findings)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 100*wire.MaxXML { // piece by piece it would be thousands of times
		t.Errorf("%d bytes took %d", len(data), took)
	}
}

// document draws a document that has no error.
func document(t *rapid.T) domain.SoftphoneDocument {
	text := rapid.StringMatching(`[a-zA-Z0-9&<>"' \t\n\räß🙂]{1,20}x`)
	id := rapid.StringMatching(`[A-Za-z0-9._:-]{1,12}`)
	number := rapid.StringMatching(`[0-9*#+]{1,12}`)
	rules := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) domain.DialRule {
		conditions := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) domain.DialTerm {
			return domain.DialTerm{Type: rapid.SampledFrom([]string{"startsWith", "equals", "contains"}).Draw(t, "condition"), Param: text.Draw(t, "text")}
		}), 0, 3).Draw(t, "conditions")
		if len(conditions) == 0 {
			conditions = nil
		}
		return domain.DialRule{Conditions: conditions, Actions: []domain.DialTerm{{Type: "append", Param: text.Draw(t, "param")}, {Type: "continue"}}}
	}), 1, 3)
	d := domain.SoftphoneDocument{Nodes: rapid.MapOfN(rapid.StringMatching(`X-[A-Za-z0-9_.]{1,10}`), rapid.OneOf(text, rapid.Just("")), 1, 5).Draw(t, "nodes"),
		BLF: rapid.SliceOfN(number, 1, 3).Draw(t, "blf"), Rewriting: rules.Draw(t, "rewriting")}
	for _, name := range rapid.SliceOfNDistinct(id, 1, 5, rapid.ID).Draw(t, "quick dials") {
		q := domain.QuickDial{ID: name, Priority: rapid.IntRange(0, 1000).Draw(t, "priority"), Remove: rapid.Bool().Draw(t, "remove")}
		if !q.Remove {
			q.DisplayName, q.URI, q.PortraitURL = text.Draw(t, "name"), number.Draw(t, "uri"), rapid.SampledFrom([]string{"", "https://x.example/?a=b&c=<d>"}).Draw(t, "portrait")
		}
		d.QuickDials = append(d.QuickDials, q)
	}
	for _, name := range rapid.SliceOfNDistinct(id, 1, 3, rapid.ID).Draw(t, "dial actions") {
		a := domain.DialAction{ID: "da-" + name[:min(len(name), 8)] + fmt.Sprint(len(d.DialActions)), Priority: rapid.IntRange(0, 1000).Draw(t, "priority"), Remove: rapid.Bool().Draw(t, "remove")}
		if !a.Remove {
			a.DisplayName, a.Rules = text.Draw(t, "name"), rules.Draw(t, "rules")
		}
		d.DialActions = append(d.DialActions, a)
	}
	if rapid.Bool().Draw(t, "replaces") {
		n := rapid.IntRange(0, 40).Draw(t, "replace priority")
		d.QuickDialReplacePriority = &n
	}
	return d
}

// What is exported comes back the same, byte for byte when it is exported again.
func TestExportAndImport(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := document(t)
		for _, f := range want.Check(domain.SoftphoneContext{}) {
			if f.Error {
				t.Fatalf("drew a document that is refused: %+v", f)
			}
		}
		var got domain.SoftphoneDocument
		account, level := wire.Account(want), wire.Level(want)
		for _, xml := range [][]byte{account, level} {
			i := wire.Read(xml)
			if len(i.Findings) > 0 {
				t.Fatalf("%s\n%+v", xml, i.Findings)
			}
			got = i.Onto(got)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		if string(wire.Account(got)) != string(account) || string(wire.Level(got)) != string(level) {
			t.Fatal("exported again it differs")
		}
	})
}

// FuzzRead wants a verdict on anything, and of what is taken that it survives being written and read again.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{"<account><title>x</title><blf><uri>1</uri></blf></account>", "<x><quickDial maxQuickDialReplacePriority=\"21\"><item id=\"a\" action=\"remove\"/></quickDial></x>",
		"<x><dialActions><dialAction id=\"a\"><displayName>A</displayName><rewriting><rule><conditions><condition type=\"equals\" param=\"1\"/></conditions><actions><action type=\"continue\"/></actions></rule></rewriting></dialAction></dialActions></x>",
		"<!DOCTYPE x><x/>", "\xff\xfe", "<a><![CDATA[]]></a>", "<account>&#x9;</account>"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		i := wire.Read(data)
		refused := func(f domain.SoftphoneFinding) bool { return f.Error }
		if slices.ContainsFunc(i.Findings, refused) || slices.ContainsFunc(i.Document.Check(domain.SoftphoneContext{}), refused) {
			return
		}
		var again domain.SoftphoneDocument
		for _, xml := range [][]byte{wire.Account(i.Document), wire.Level(i.Document)} {
			next := wire.Read(xml)
			if slices.ContainsFunc(next.Findings, refused) {
				t.Fatalf("%q is taken, and written as %s, which is not: %+v", data, xml, next.Findings)
			}
			again = next.Onto(again)
		}
		if diff := cmp.Diff(i.Document, again); diff != "" {
			t.Fatalf("%q changed:\n%s", data, diff)
		}
	})
}
