package phonesim

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ledgerline/domain"
)

var (
	aYealink     = Config{Vendor: "yealink", MAC: "805ec0aabbcc"}
	aSnom        = Config{Vendor: "snom", MAC: "000413922d24"}
	aGrandstream = Config{Vendor: "grandstream", MAC: "000b82aabbcc"}
	aGXP2000     = Config{Vendor: "grandstream", Model: "GXP2000", MAC: "000b82aabbcc"}
)

// What each vendor's file means, in neutral words.
func TestParse(t *testing.T) {
	anna := Account{
		Index: 1, Enabled: true, UserName: "101", AuthName: "auth101", DisplayName: "Anna Müller", Label: "Anna",
		Server: "sip.example.com", Port: 5061, OutboundProxy: "proxy.example.com:5071", Transport: "tls", SRTP: "required", Voicemail: "*97",
	}
	with := func(change func(*Account)) Account { a := anna; change(&a); return a }
	tests := []struct {
		name, file string
		phone      Config
		want       Parsed
	}{
		{"yealink", "yealink.cfg", aYealink, Parsed{
			Accounts: []Account{
				with(func(a *Account) { a.Password, a.BackupServer = NewPassword("pa55 word"), "sip2.example.com" }),
				{Index: 2},
			},
			FirmwareURL: "http://fw.example.com/T54W.rom",
			Timezone:    Timezone{Zone: "+1", Name: "Germany(Berlin)", DST: "2", Type: "1", Start: "3/5/7/2", End: "10/5/7/3", Shift: "60"},
			Keys: []Key{
				{Bank: "expansion_module.1", Index: 4, Type: "13", Value: "103"},
				{Bank: "linekey", Index: 1, Type: "15", Line: "1"},
				{Bank: "linekey", Index: 2, Type: "16", Line: "1", Value: "102", Label: "Ben = boss", Pickup: "*8102"},
			},
		}},
		{"snom", "snom.xml", aSnom, Parsed{
			Accounts: []Account{
				with(func(a *Account) { a.Password, a.DisplayName = NewPassword("pa55&word"), "Anna <Müller>" }),
				{Index: 2},
			},
			FirmwareURL: "http://fw.example.com/snomD785-firmware.xml",
			Timezone:    Timezone{Zone: "GER+1"},
			Keys: []Key{
				{Bank: "context_key", Index: 0, Type: "url", Value: "http://book.example.com/", Label: "Book"},
				{Bank: "fkey", Index: 0, Type: "line", Line: "1"},
				{Bank: "fkey", Index: 1, Type: "blf", Line: "1", Value: "102", Label: "Ben", Pickup: "*8102"},
			},
		}},
		{"grandstream P-values", "grandstream-v1.xml", aGrandstream, Parsed{
			Accounts: []Account{
				with(func(a *Account) { a.Password, a.BackupServer = NewPassword("pa55<word"), "sip2.example.com" }),
				{Index: 2},
				{Index: 3, Enabled: true, UserName: "301", Server: "sip.example.com"},
			},
			FirmwareURL: "http://fw.example.com/gs/",
			Timezone:    Timezone{Zone: "customize", Name: "CET-1CEST-2,M3.5.0/02:00:00,M10.5.0/03:00:00"},
			Keys: []Key{
				{Bank: "line", Index: 1, Type: "11", Line: "0", Label: "Ben", Value: "102"},
				{Bank: "mpk", Index: 1, Type: "0", Line: "0", Label: "Carl", Value: "103"},
			},
		}},
		{"grandstream aliases", "grandstream-v2.xml", aGrandstream, Parsed{
			Accounts: []Account{{
				Index: 1, Enabled: true, UserName: "101", AuthName: "auth101", Password: NewPassword("pa55>word"), DisplayName: "Anna Müller",
				Server: "sip.example.com", Transport: "tls",
			}},
			Timezone: Timezone{Zone: "auto"},
			Keys:     []Key{{Bank: "vpk", Index: 2, Type: "BLF", Line: "Account1", Label: "Ben", Value: "102"}},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseFile(tt.phone, []byte(fixture(t, tt.file)))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(Parsed{}, "Raw")); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// The second port of an ATA has numbers of its own.
func TestParseATA(t *testing.T) {
	got, err := ParseFile(Config{Vendor: "grandstream", Model: "HT802", MAC: "000b82aabbcc"}, []byte(
		`<gs_provision version="1"><config version="1"><P35>101</P35><P47>a.example.com</P47><P401>1</P401><P735>102</P735><P736>auth102</P736>`+
			`<P734>s3cret</P734><P747>b.example.com:5070</P747><P987>c.example.com</P987><P830>1</P830></config></gs_provision>`))
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "accounts", got.Accounts, []Account{
		{Index: 1, Enabled: true, UserName: "101", Server: "a.example.com"},
		{Index: 2, Enabled: true, UserName: "102", AuthName: "auth102", Password: NewPassword("s3cret"), Server: "b.example.com", Port: 5070, BackupServer: "c.example.com", Transport: "tcp"},
	})
}

// A GXP2000 takes the binary form: URL-encoded, checksummed, with its own MAC.
func TestParseBinary(t *testing.T) {
	got, err := ParseFile(aGXP2000, []byte(gsBinary("000b82aabbcc", "P35=101&P34=pa55%20w%26rd&P47=sip.example.com&gnkey=0b82")))
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "accounts", got.Accounts, []Account{{Index: 1, Enabled: true, UserName: "101", Password: NewPassword("pa55 w&rd"), Server: "sip.example.com"}})
}

// DECT bases share servers through templates.
func TestParseYealinkTemplate(t *testing.T) {
	got, err := ParseFile(aYealink, []byte("#!version:1.0.0.1\r\ntemplate.1.sip_server.1.address = sip.example.com\r\ntemplate.1.sip_server.1.port = 5070\r\n"+
		"account.3.enable = 1\r\naccount.3.user_name = 303\r\naccount.3.sip_server.template = 1"))
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "accounts", got.Accounts, []Account{{Index: 3, Enabled: true, UserName: "303", Server: "sip.example.com", Port: 5070}})
}

// Firmware from v81 on wants the prefix "static.", older firmware does not know it.
func TestParseYealinkStatic(t *testing.T) {
	file := "#!version:1.0.0.1\nstatic.auto_provision.server.url = http://new/\nauto_provision.server.url = http://old/\n"
	for firmware, want := range map[string]string{"96.86.0.70": "http://new/", "44.81.0.10": "http://new/", "44.80.0.95": "http://old/", "2.73.0.50": "http://old/"} {
		c := aYealink
		c.Firmware = firmware
		got, err := ParseFile(c, []byte(file))
		if err != nil || got.ProvisioningURL != want {
			t.Errorf("firmware %s moves to %q, %v; want %q", firmware, got.ProvisioningURL, err, want)
		}
	}
}

// What a phone does not understand is named, not guessed.
func TestProblems(t *testing.T) {
	tests := []struct {
		phone      Config
		file, want string
	}{
		{aYealink, "#!version:1.0.0.1\naccount.1.sip_server.1.port = 99999", `account.1.sip_server.1.port "99999" is not a port`},
		{aYealink, "#!version:1.0.0.1\naccount.1.enable = yes", `account.1.enable "yes" must be 1 or 0`},
		{aYealink, "#!version:1.0.0.1\naccount.1.srtp_encryption = optional", `account.1.srtp_encryption "optional" is not a known value`},
		{aSnom, `<settings><phone-settings><user_name idx="1">1</user_name><user_outbound idx="1">proxy.example.com:</user_outbound></phone-settings></settings>`, `user_outbound[1] "proxy.example.com:" is not host[:port]`},
		{aSnom, `<settings><phone-settings><user_name idx="1">1</user_name><user_outbound idx="1">p;transport=sctp</user_outbound></phone-settings></settings>`, `user_outbound[1] "p;transport=sctp" has an unknown parameter`},
		{aGrandstream, `<gs_provision version="1"><config version="1"><P237>http://x/</P237></config></gs_provision>`, `P237 "http://x/" must have no scheme`},
		{aGrandstream, `<gs_provision version="1"><config version="1"><P35>1</P35><P47>a b</P47></config></gs_provision>`, `P47 "a b" is not host[:port]`},
	}
	for _, tt := range tests {
		got, err := ParseFile(tt.phone, []byte(tt.file))
		if err != nil {
			t.Errorf("%s: %v", tt.want, err)
		}
		diff(t, tt.phone.Vendor, got.Problems, []string{tt.want})
	}
}

type badFile struct {
	phone      Config
	file, want string
}

// badFiles are files that phones drop, and what must be said about each.
var badFiles = []badFile{
	{aYealink, "", "line 1: must be exactly #!version:1.0.0.1"},
	{aYealink, "#!version:1.0.0.2\n", "line 1: must be exactly #!version:1.0.0.1"},
	{aYealink, " #!version:1.0.0.1\n", "line 1: must be exactly #!version:1.0.0.1"},
	{aYealink, "\ufeff#!version:1.0.0.1\n", "line 1: must be exactly #!version:1.0.0.1"},
	{aYealink, "#!version:1.0.0.1\nlang.gui\n", "line 2: no = between name and value"},
	{aYealink, "#!version:1.0.0.1\n\n = 1\n", `line 3: "" is not a parameter name`},
	{aYealink, "#!version:1.0.0.1\na b = 1\n", `line 2: "a b" is not a parameter name`},
	{aYealink, "#!version:1.0.0.1\n #comment = 1\n", `line 2: "#comment" is not a parameter name`},
	{aYealink, "#!version:1.0.0.1\na = x\x00y\n", "line 2: control character"},
	{aYealink, "#!version:1.0.0.1\na = x\ry\n", "line 2: control character"},
	{aYealink, "#!version:1.0.0.1\n\na = \xff\n", "line 3: not UTF-8"},
	{aYealink, "#!version:1.0.0.1\ninclude:config \"\"\n", "line 2: include:config without a file name"},
	{aYealink, "<settings/>", "line 1: must be exactly #!version:1.0.0.1"},

	{aSnom, "", "line 1: no XML document"},
	{aSnom, "hello", "line 1: text outside the root"},
	{aSnom, "<settings>\n<phone-settings>\n</settings>", "line 3: </settings> at offset 39 closes nothing"},
	{aSnom, "<settings>\n<phone-settings>", "line 2: <phone-settings> of line 2 is not closed"},
	{aSnom, "<settings/><settings/>", "line 1: second root <settings>"},
	{aSnom, "<settings/>\ntext", "line 2: text outside the root"},
	{aSnom, "<settings>text</settings>", "line 1: text between the elements of <settings>"},
	{aSnom, "<settings><phone-settings><a>x & y</a></phone-settings></settings>", "line 1: offset 32: invalid character entity & (no semicolon)"},
	{aSnom, "<settings><phone-settings><a>&nbsp;</a></phone-settings></settings>", "line 1: offset 35: invalid character entity &nbsp;"},
	{aSnom, "<!DOCTYPE s [<!ENTITY x \"y\">]><settings/>", "line 1: directive refused"},
	{aSnom, "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><settings/>", "line 1: offset 43: xml: encoding \"ISO-8859-1\" declared but Decoder.CharsetReader is nil"},
	{aSnom, "<settings>\n<phone-settings><a><b/></a></phone-settings></settings>", "line 2: <b> inside <a>"},
	{aSnom, `<settings><phone-settings><a idx="x">1</a></phone-settings></settings>`, `line 1: idx "x" of <a> is not a number`},
	{aSnom, `<settings><phone-settings><a idx="01">1</a></phone-settings></settings>`, `line 1: idx "01" of <a> is not a number`},
	{aSnom, `<settings><phone-settings><a perm="X">1</a></phone-settings></settings>`, `line 1: perm "X" of <a> is not R, RW, $ or !`},
	{aSnom, `<settings><phone-settings><a idx="1" idx="2">1</a></phone-settings></settings>`, `line 1: attribute "idx" twice in <a>`},
	{aSnom, `<settings><functionKeys><fkey>line</fkey></functionKeys></settings>`, "line 1: <fkey> without idx"},
	{aSnom, `<settings><functionKeys><key idx="0">line</key></functionKeys></settings>`, "line 1: <key> among the keys"},
	{aSnom, `<settings><other/></settings>`, "line 1: <other> is no part of the settings"},
	{aSnom, `<html/>`, "line 1: <html> is no document of a Snom phone"},
	{aSnom, `<setting-files><file/></setting-files>`, `line 1: a list has <file url="…"/> only`},
	{aSnom, `<gui-languages><language name="English"/></gui-languages>`, "line 1: a language needs url and name"},
	{aSnom, `<x:settings/>`, "line 1: <x:settings> has a prefix"},
	{aSnom, strings.Repeat("<a>", 65), "line 1: elements nested more than 64 deep"},

	{aGrandstream, "", "line 1: offset 0: 0 bytes are no binary configuration"},
	{aGrandstream, "<settings/>", `line 1: root must be <gs_provision version="1">`},
	{aGrandstream, `<gs_provision version="1"/>`, "line 1: no <config>"},
	{aGrandstream, "<gs_provision version=\"1\">\n<mac>000b82aabbcd</mac><config version=\"1\"/></gs_provision>", `line 2: <mac> "000b82aabbcd" is another phone's`},
	{aGrandstream, `<gs_provision version="1"><mac>000B82AABBCC</mac><config version="1"/></gs_provision>`, `line 1: <mac> "000B82AABBCC" is another phone's`},
	{aGrandstream, `<gs_provision version="1">x<config version="1"><P1>1</P1></config></gs_provision>`, "line 1: text between the elements of <gs_provision>"},
	{aGrandstream, `<gs_provision version="1"><config version="3"/></gs_provision>`, `line 1: <config version="3"> in <gs_provision>`},
	{aGrandstream, `<gs_provision version="1"><config version="1"><Px>1</Px></config></gs_provision>`, "line 1: <Px> is not a P-value"},
	{aGrandstream, `<gs_provision version="1"><config version="1"><P1><P2/></P1></config></gs_provision>`, "line 1: <P2> inside <P1>"},
	{aGrandstream, `<gs_provision version="1"><config version="1">x<P1/></config></gs_provision>`, "line 1: text between the elements of <config>"},
	{aGrandstream, `<gs_provision version="1"><config version="2"><P1>1</P1></config></gs_provision>`, `line 1: <P1> where <item name="…"> belongs`},
	{aGXP2000, `<gs_provision version="1"><config version="1"/></gs_provision>`, "line 1: a GXP2000 reads binary files only"},
	{aGXP2000, gsBinary("000b82aabbcc", "gnkey=0b82") + "\x00\x00\x00\x00", "line 1: offset 0: length says 14 words, file has 16"},
	{aGXP2000, strings.Replace(gsBinary("000b82aabbcc", "P1=1&gnkey=0b82"), "P1", "P2", 1), "line 1: offset 4: checksum is wrong"},
	{aGXP2000, gsBinary("000b82aabbcd", "P1=1&gnkey=0b82"), "line 1: offset 6: another phone's MAC"},
	{aGXP2000, gsBinary("000b82aabbcc", "P1=1"), "line 1: gnkey is missing or another phone's"},
	{aGXP2000, gsBinary("000b82aabbcc", "P1=1&P2=%zz&gnkey=0b82"), "line 1: offset 21: not name=value"},
	{aGXP2000, gsBinary("000b82aabbcc", "P1=1&Q=1&gnkey=0b82"), `line 1: offset 21: "Q" is not a P-value`},
}

func TestParseRefuses(t *testing.T) {
	for i, tt := range badFiles {
		t.Run(fmt.Sprintf("%s/%d", tt.phone.Vendor, i), func(t *testing.T) {
			got, err := ParseFile(tt.phone, []byte(tt.file))
			if !errors.Is(err, ErrMalformed) || err.Error() != "malformed file: "+tt.want {
				t.Errorf("%.80q: error %v, want %s", tt.file, err, tt.want)
			}
			if d := cmp.Diff(Parsed{}, got); d != "" {
				t.Errorf("a refused file left something: %s", d)
			}
		})
	}
}

// fuzzParse holds every parser to this: any bytes are a document or an ErrMalformed, twice the same, and a
// name a file sets is one its format can hold.
func fuzzParse(f *testing.F, phone Config, good ...string) {
	for _, s := range good {
		f.Add([]byte(s))
	}
	for _, b := range badFiles {
		if b.phone.Vendor == phone.Vendor {
			f.Add([]byte(b.file))
		}
	}
	v, id, err := phone.identify()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := v.parse(id, data)
		if err != nil {
			if !errors.Is(err, ErrMalformed) || d.set != nil || d.include != nil {
				t.Fatalf("refused with %v, leaving %d settings", err, len(d.set))
			}
			return
		}
		for _, s := range d.set {
			if s.name == "" || strings.ContainsAny(s.name, "\r\n=<") && phone.Vendor != "snom" && !strings.HasPrefix(string(data), "<") {
				t.Fatalf("setting named %q", s.name)
			}
			if strings.Contains(s.value, "\n") && phone.Vendor == "yealink" {
				t.Fatalf("%q has a line break", s.name)
			}
		}
		p := v.interpret(id, Values{}.apply([]document{d}))
		if again := v.interpret(id, Values{}.apply([]document{d})); !cmp.Equal(p, again) {
			t.Fatal("the same file means two things")
		}
		for _, a := range p.Accounts {
			if a.Port < 0 || a.Port > 65535 {
				t.Fatalf("port %d", a.Port)
			}
		}
	})
}

func FuzzYealink(f *testing.F) {
	fuzzParse(f, aYealink, fixture(f, "yealink.cfg"), "#!version:1.0.0.1\ninclude:config <a.cfg>\noverwrite_mode = 1\n")
}

func FuzzSnom(f *testing.F) {
	fuzzParse(f, aSnom, fixture(f, "snom.xml"), `<setting-files><file url="a.xml"/></setting-files>`)
}

func FuzzGrandstream(f *testing.F) {
	fuzzParse(f, aGrandstream, fixture(f, "grandstream-v1.xml"), fixture(f, "grandstream-v2.xml"), gsBinary("000b82aabbcc", "P35=101&gnkey=0b82"))
}

func FuzzGrandstreamBinary(f *testing.F) {
	v, id, err := aGXP2000.identify()
	if err != nil {
		f.Fatal(err)
	}
	for _, body := range []string{"P35=101&P34=a%20b&gnkey=0b82", "gnkey=0b82", "P1=%zz", "&&=", ""} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		d, err := v.parse(id, []byte(gsBinary("000b82aabbcc", body)))
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatal(err)
		}
		for _, s := range d.set {
			if !isPValue(s.name) {
				t.Fatalf("setting named %q", s.name)
			}
		}
	})
}

// No text form shows a secret.
func TestRedaction(t *testing.T) {
	p, err := ParseFile(aYealink, []byte(fixture(t, "yealink.cfg")))
	if err != nil {
		t.Fatal(err)
	}
	_, url := serve(t, map[string]string{"/c/123456789012/805ec0aabbcc.cfg": fixture(t, "yealink.cfg")})
	phone := newPhone(t, Config{Vendor: "yealink", MAC: "805ec0aabbcc", Server: url, Code: "123456789012"})
	res, err := phone.Boot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{p, p.Accounts[0], p.Accounts[0].Password, p.Raw, phone, phone.cfg, res, res.Files} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			text := fmt.Sprintf(verb, v)
			for _, secret := range []string{"pa55 word", "123456789012", fmt.Sprintf("%x", "pa55 word"), fmt.Sprint([]byte("pa55"))[1:12]} {
				if strings.Contains(text, secret) {
					t.Errorf("%s of %T shows a secret", verb, v)
				}
			}
		}
		if text := mustJSON(t, v); strings.Contains(text, "pa55") || strings.Contains(text, "123456789012") {
			t.Errorf("JSON of %T shows a secret", v)
		}
	}
	diff(t, "password", p.Accounts[0].Password.String(), domain.Redacted)
	diff(t, "no password", p.Accounts[1].Password.String(), "")
	diff(t, "path", res.Files[3].Path, "/c/[code]/805ec0aabbcc.cfg")
	diff(t, "server", res.Server, url+"/c/[code]/")
}
