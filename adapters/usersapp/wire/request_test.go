package wire

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// What Users says, in the forms it may say it.
func TestParse(t *testing.T) {
	r, err := Parse([]byte(`{"mt":"GetDevices","src":"abc","recvUpdates":true,"domainIds":" 1, ,x","categories":["a",7],"types":3,"id":12,"domainId":null,"unheard":{"of":[]}}`))
	if err != nil || r.MT != "GetDevices" || string(r.Src) != `"abc"` || !r.RecvUpdates || r.ID != "12" || r.DomainID != "" {
		t.Errorf("%+v, %v", r, err)
	}
	if !slices.Equal(r.DomainIDs, List{"1", "x"}) || !slices.Equal(r.Categories, List{"a", "7"}) || !slices.Equal(r.Types, List{"3"}) || len(r.HWIDs) != 0 {
		t.Errorf("%q %q %q", r.DomainIDs, r.Categories, r.Types)
	}
	if !r.HWIDs.Takes("any") || !r.Categories.Takes("A") || r.Categories.Takes("b") {
		t.Error("what a list takes")
	}
	for _, bad := range []string{"", "1", "[]", `{"mt":1}`, `{"id":{}}`, `{"id":true}`, `{"types":{"a":1}}`, `{"types":[[]]}`, `{"src":"` + strings.Repeat("s", MaxEchoed) + `"}`, `{"mt":"` + strings.Repeat("m", MaxMessage) + `"}`} {
		if _, err := Parse([]byte(bad)); !errors.Is(err, ErrMessage) {
			t.Errorf("%.20s: %v", bad, err)
		}
	}
}

// Computed by an independent implementation of the rule in the vendor's PHP library.
func TestSessionKey(t *testing.T) {
	if got := SessionKey("0123456789abcdef", "pwd"); got != "d58c77eae0c1c1f37a9f545e207643c926ad9ea4932016a83a4a01029de37760" {
		t.Error(got)
	}
}

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		value string
		most  int
		parts int
	}{{"", 16, 1}, {strings.Repeat("a", 14), 16, 1}, {strings.Repeat("a", 15), 16, 2}, {strings.Repeat("<", 3), 16, 2}, {strings.Repeat("ü", 8), 16, 2}, {"\u2028\u2029\x00", 16, 2}, {"\xff\xff\xff", 16, 2}} {
		if got := Split(c.value, c.most); len(got) != c.parts {
			t.Errorf("%q: %q", c.value, got)
		}
	}
}

// Whatever is read: no panic; what is echoed is bounded, and an answer to it is JSON.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"mt":"GetDevices","src":1,"hwIds":"a,b","types":["x",2],"domainId":"d"}`))
	f.Add([]byte(`{"mt":"ProvisioningPhone","mac":"0015651a2b3c","code":"000123456789","usename":"anna","seed1":"s","password":"aa"}`))
	f.Add([]byte(`{"src":{"a":[1,{}]},"api":"x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Error(err)
			}
			return
		}
		answer := map[string]any{"mt": r.MT, "api": r.API}
		if len(r.Src) > 0 {
			answer["src"] = r.Src
		}
		out, err := json.Marshal(answer)
		if err != nil {
			t.Fatalf("%q cannot be echoed: %v", r.Src, err)
		}
		if len(out) > MaxMessage/2 && len(r.MT) < 1000 {
			t.Errorf("%d bytes are echoed", len(out))
		}
		for _, p := range r.HWIDs {
			if p == "" || p != strings.TrimSpace(p) {
				t.Errorf("part %q", p)
			}
		}
	})
}

// Put together, the parts are the value; none is longer than it may be.
func FuzzSplit(f *testing.F) {
	f.Add("plain", 16)
	f.Add("\"<ü\x00\u2028\xff", 16)
	f.Fuzz(func(t *testing.T, value string, most int) {
		most = 16 + max(most, -most)%200
		parts := Split(value, most)
		if strings.Join(parts, "") != value {
			t.Fatalf("%q became %q", value, parts)
		}
		for _, p := range parts {
			b, err := json.Marshal(p)
			if err != nil || len(b) > most {
				t.Errorf("%q takes %d bytes of %d: %v", p, len(b), most, err)
			}
			if utf8.ValidString(value) && !utf8.ValidString(p) {
				t.Errorf("%q is cut within a character", p)
			}
		}
	})
}
