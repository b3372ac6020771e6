package script

import (
	"bytes"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const base = "wss://apps.example.com/example.com/devices/sysclients"

// Both examples of the reference, §1.5.1.
var encoded = []struct{ token, category, url, arg string }{
	{"abcdef#XYZ", "acme IP Phone", base + "?domain=example.com&token=abcdef%23XYZ&category=acme%20IP%20Phone",
		"wss%3A%2F%2Fapps.example.com%2Fexample.com%2Fdevices%2Fsysclients%3Fdomain%3Dexample.com%26token%3Dabcdef%2523XYZ%26category%3Dacme%2520IP%2520Phone"},
	{"pä&ss=50%+1", "Büro/Phones & Fax", base + "?domain=example.com&token=p%C3%A4%26ss%3D50%25%2B1&category=B%C3%BCro%2FPhones%20%26%20Fax",
		"wss%3A%2F%2Fapps.example.com%2Fexample.com%2Fdevices%2Fsysclients%3Fdomain%3Dexample.com%26token%3Dp%25C3%25A4%2526ss%253D50%2525%252B1%26category%3DB%25C3%25BCro%252FPhones%2520%2526%2520Fax"},
}

func TestTheSysadminLineIsEncodedTwice(t *testing.T) {
	for _, c := range encoded {
		auto := AutoURL(base, "example.com", c.token, c.category)
		if auto != c.url {
			t.Errorf("step 2\n%s want\n%s", auto, c.url)
		}
		if got, want := SysadminLine(auto), "config change SYSCLIENT /sysadmin "+c.arg; got != want {
			t.Errorf("step 3\n%s want\n%s", got, want)
		}
		if back, err := Unescape(c.arg); back != c.url || err != nil {
			t.Errorf("the phone stores %s, %v", back, err)
		}
		u, err := url.Parse(auto)
		if err != nil || u.Query().Get("token") != c.token || u.Query().Get("category") != c.category {
			t.Errorf("the server reads %v, %v", u, err)
		}
		if l := Lint(SysadminLine(auto)); !l.OK() || len(l.Findings) != 0 || l.URL != c.url || l.Line != SysadminLine(c.url) {
			t.Errorf("%+v", l)
		}
	}
}

func TestLint(t *testing.T) {
	line := "config change SYSCLIENT /sysadmin "
	good := SysadminLine(encoded[0].url)
	for _, c := range []struct {
		text, codes string
		line        string
	}{
		{encoded[0].url, "", good},
		{encoded[0].arg, "", good},
		{line + encoded[0].url, "not-encoded", good},
		{"!" + good, "browser", good},
		{line + Escape(encoded[0].arg), "encoded-twice", good},
		// Half-encoded: the values were not encoded before the whole.
		{line + Escape(base+"?domain=example.com&token=abcdef#XYZ&category=acme IP Phone"), "fragment blank", good},
		{line + Escape(base+"?domain=example.com&token=a&b&category=c"), "ampersand", SysadminLine(AutoURL(base, "example.com", "a&b", "c"))},
		{base + "?domain=example.com&token=50%+1&category=c", "escape plus", SysadminLine(AutoURL(base, "example.com", "50%+1", "c"))},
		{base + "?domain=example.com&token=x", "missing", ""},
		{base + "?domain=example.com&token=x&token=y&category=c", "twice", SysadminLine(AutoURL(base, "example.com", "x", "c"))},
		{base + "?category=c&token=x&domain=example.com", "order", SysadminLine(AutoURL(base, "example.com", "x", "c"))},
		{base, "", SysadminLine(base)},
		{"ws://apps.example.com/x", "clear path", SysadminLine("ws://apps.example.com/x")},
		{"https://apps.example.com/", "no-url", ""},
		{"wss%3A%2", "escape", ""},
		{"", "no-url", ""},
		{strings.Repeat("x", 5000), "long", ""},
	} {
		l := Lint(c.text)
		var codes []string
		for _, f := range l.Findings {
			codes = append(codes, f.Code)
		}
		if got := strings.Join(codes, " "); got != c.codes || l.Line != c.line {
			t.Errorf("%.90q: %s, want %s\n%s want\n%s", c.text, got, c.codes, l.Line, c.line)
		}
	}
}

func TestCommandFile(t *testing.T) {
	var s Script
	s.Comment("of\r\nconfig rem PBX0")
	s.Add("mod", "cmd", "UP0", "prot", "http://192.0.2.1/fw/134250/ip222.bin", "nop", "134250")
	s.Config("change", "UP1", "/url", "http://192.0.2.1/update/?sn=#m&type=#t", "/no-dhcp")
	s.Keep()
	got, err := s.Bytes()
	want := "# of  config rem PBX0\r\nmod cmd UP0 prot http://192.0.2.1/fw/134250/ip222.bin nop 134250\r\n" +
		"config change UP1 /url http%3A%2F%2F192.0.2.1%2Fupdate%2F%3Fsn%3D%23m%26type%3D%23t /no-dhcp\r\nconfig write\r\nconfig activate"
	if diff := cmp.Diff(want, string(got)); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, bad := range []string{"", "a b", "a\r\nreset", "a\x00"} {
		var s Script
		s.Add("config", bad)
		s.Add("config", "write")
		if _, err := s.Bytes(); !errors.Is(err, ErrArgument) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestParse(t *testing.T) {
	got, err := Parse([]byte("\xef\xbb\xbf# a comment\r\n\r\n  config  change\tUP1 /poll 15\nconfig write\rconfig activate"))
	if diff := cmp.Diff([]string{"config change UP1 /poll 15", "config write", "config activate"}, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	for want, file := range map[error]string{ErrTooBig: strings.Repeat("x", MaxLine+1), ErrNoText: "config \x01 write"} {
		if _, err := Parse([]byte(file)); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	if _, err := Parse(make([]byte, MaxSize+1)); !errors.Is(err, ErrTooBig) {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("mod cmd UP1 check ser 1\r\n# x\r\nconfig write"))
	f.Add([]byte("\xff\xfe\r\r\n\t "))
	f.Fuzz(func(t *testing.T, file []byte) {
		commands, err := Parse(file)
		if err != nil {
			return
		}
		var s Script
		s.Append(commands)
		written, err := s.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(written)
		if err != nil || !slices.Equal(again, commands) {
			t.Fatalf("%q becomes %q, %v", commands, again, err)
		}
	})
}

func FuzzEscape(f *testing.F) {
	f.Add("pä&ss=50%+1")
	f.Fuzz(func(t *testing.T, text string) {
		once := Escape(text)
		if back, err := Unescape(once); back != text || err != nil {
			t.Fatalf("%q comes back as %q, %v", text, back, err)
		}
		if want := strings.ReplaceAll(url.QueryEscape(text), "+", "%20"); once != want {
			t.Fatalf("%q, want %q", once, want)
		}
		Lint(text)
		ParseVersion(text)
		NewMasker().Mask([]byte(text))
		if l := Lint(SysadminLine(AutoURL(base, "d"+text, "t"+text, "c"+text))); len(text) < 300 && len(l.Findings) != 0 {
			t.Fatalf("%+v", l)
		}
	})
}

func TestVersions(t *testing.T) {
	for text, want := range map[string]Version{
		"13r2 dvl [13.4250/131286/1300]":                      {"13r2 dvl", "134250", "131286", "1300"},
		"13r3 sr1 [13.5421/135421/1300]":                      {"13r3 sr1", "135421", "135421", "1300"},
		"13r1 dvl [13.A110/131286/1300]":                      {"13r1 dvl", "13A110", "131286", "1300"},
		"6.00 sr2 IP200[07-60600.03], Bootcode[145], HW[302]": {"6.00 sr2 IP200", "07-6060003", "145", "302"},
	} {
		if got, ok := ParseVersion(text); got != want || !ok {
			t.Errorf("%q: %+v, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "13r2", "x []", "x [<>/1/2]", strings.Repeat("[", 300)} {
		if v, ok := ParseVersion(text); ok {
			t.Errorf("%q: %+v", text, v)
		}
	}
}

func TestFileNames(t *testing.T) {
	for model, want := range map[string][2]string{
		"IP222": {"ip222.bin", "boot222.bin"}, "ip101": {"ip101.bin", "boot101.bin"}, "IP110-A": {"ip110.bin", "boot110.bin"},
		"mypbxa": {"mypbx.apk", ""}, "swphone": {"ipswphone.bin", ""}, "": {}, "../etc": {}, "IP222/x": {},
	} {
		if got := [2]string{FirmwareFile(model), BootFile(model)}; got != want {
			t.Errorf("%q: %q, want %q", model, got, want)
		}
	}
}

func TestOption43(t *testing.T) {
	got, err := Option43(Suboption{OptionUpdateURL, []byte("http://10.0.0.5/u/")})
	if want := "d7 12 68 74 74 70 3a 2f 2f 31 30 2e 30 2e 30 2e 35 2f 75 2f"; Hex(got) != want || err != nil {
		t.Errorf("%s, %v", Hex(got), err)
	}
	for _, value := range [][]byte{make([]byte, 254), make([]byte, 300)} {
		if _, err := Option43(Suboption{OptionUpdateURL, value}); !errors.Is(err, ErrOption43) {
			t.Errorf("%d bytes: %v", len(value), err)
		}
	}
	if _, err := Option43(Suboption{200, make([]byte, 200)}, Suboption{201, make([]byte, 100)}); !errors.Is(err, ErrOption43) {
		t.Error(err)
	}
}

func TestBackupsThatDifferInNothingThatStays(t *testing.T) {
	one := "config change IP0 /dns 192.0.2.1\r\nvars create UPDATE/CHECK p 17\r\nconfig change UP1 /url x\r\nvars create TLS0/TICKET/1 pb 00ff\r\nmod cmd FLASHDIR0 add-item 1 <x>\r\nconfig change SIP0 /on\r\n"
	two := "config change IP0 /dns 192.0.2.1\nvars create UPDATE/CHECK p 18\nconfig change SIP0 /on"
	if !bytes.Equal(Stable([]byte(one)), Stable([]byte(two))) {
		t.Errorf("%q, %q", Stable([]byte(one)), Stable([]byte(two)))
	}
	if bytes.Equal(Stable([]byte(two)), Stable([]byte(two+"\nconfig change DNS0 x"))) {
		t.Error("a change is not seen")
	}
}

func TestMaskedBackups(t *testing.T) {
	const secret = "s3cr3t"
	config := strings.Join([]string{"config change CMD0 /user admin,s3cr3t /name desk", "config change HTTP0 /http-pwd s3cr3t", "config change SYSCLIENT /sysadmin wss%3A%2F%2Fx%3Ftoken%3Ds3cr3t",
		`config add USER <user name="a" pwd="s3cr3t" cn="b"/>`, "config change X /url http%3A%2F%2Fh%2F%3Fkey%3Ds3cr3t%26y%3D1", "vars create X/KEY pb s3cr3t", "vars create X/NAME  s3cr3t two", "config change IP0 /dns 192.0.2.1"}, "\n")
	m := NewMasker()
	got := m.Mask([]byte(config))
	if strings.Contains(got, secret) || !strings.Contains(got, "/dns 192.0.2.1") || !strings.Contains(got, "/name desk") || !strings.Contains(got, `cn="b"`) {
		t.Errorf("%s", got)
	}
	again := m.Mask([]byte("/pwd a"))
	if m.Mask([]byte("/pwd a")) == m.Mask([]byte("/pwd b")) || m.Mask([]byte("/pwd a")) != again || m.Mask([]byte("/pwd a")) == NewMasker().Mask([]byte("/pwd a")) {
		t.Error("words do not tell secrets apart")
	}
}
