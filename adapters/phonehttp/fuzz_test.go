package phonehttp

import (
	"net/url"
	"strings"
	"testing"
)

func FuzzPath(f *testing.F) {
	for _, s := range []string{"/001565a1b2c3.cfg", "/d/secret/x.cfg", "//t//key//x", "/%2e%2e/x", "/a%2fb", "/a%5cb", "/%00", "/c/123456789012/x", "/", "", "/.", "/%zz", "/a/../b", "/\x7f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		segments, ok := parsePath(path)
		if !ok {
			if segments != nil {
				t.Fatalf("%q: refused with segments %q", path, segments)
			}
			return
		}
		if len(path) > maxPath || len(segments) == 0 {
			t.Fatalf("%q: accepted as %q", path, segments)
		}
		for _, s := range segments {
			if s == "" || s == "." || s == ".." || strings.ContainsAny(s, "/\\\x00\r\n\x7f") {
				t.Fatalf("%q: segment %q", path, s)
			}
		}
		again := make([]string, len(segments))
		for i, s := range segments {
			again[i] = url.PathEscape(s)
		}
		if back := "/" + strings.Join(again, "/"); len(back) <= maxPath {
			if got, ok := parsePath(back); !ok || strings.Join(got, "/") != strings.Join(segments, "/") {
				t.Fatalf("%q: %q came back as %q", path, segments, got)
			}
		}
		c, ok := claimOf(segments)
		if ok && (c.file == "" || strings.HasPrefix(c.file, "/") || (c.via == "mac") != (c.credential == "")) {
			t.Fatalf("%q: %+v", path, c)
		}
	})
}

func FuzzForwarded(f *testing.F) {
	for _, s := range []string{"10.1.2.3", "10.1.2.3, 192.0.2.1", `for=10.1.2.3;proto=https`, `For="[2001:db8::1]:80", for=unknown`, ",", "", "[::1", "1.2.3.4:99999", "::ffff:10.1.2.3"} {
		f.Add(s, s, true)
		f.Add(s, "192.0.2.1", false)
	}
	proxies := prefixes("192.0.2.0/24", "127.0.0.0/8")
	f.Fuzz(func(t *testing.T, first, last string, rfc7239 bool) {
		addr, ok := forwarded([]string{first, last}, rfc7239, proxies)
		if ok != addr.IsValid() {
			t.Fatalf("%v %v", addr, ok)
		}
		if ok && within(proxies, addr) {
			t.Fatalf("a proxy is no client: %v", addr)
		}
		// Nothing to the left of the first stranger matters.
		hop := "for=203.0.113.9"
		if !rfc7239 {
			hop = "203.0.113.9"
		}
		if got, ok := forwarded([]string{first, last, hop}, rfc7239, proxies); !ok || got.String() != "203.0.113.9" {
			t.Fatalf("%v %v", got, ok)
		}
		forwardedSecurely(map[string][]string{"Forwarded": {first, last}, "X-Forwarded-Proto": {first}}, "Forwarded")
	})
}

func FuzzMACIn(f *testing.F) {
	for _, s := range []string{"001565a1b2c3.cfg", "Yealink SIP-T54W 96.86.0.100 00:15:65:a1:b2:c3", "0123456789abcdef", "cfgc074ad010203.xml", "snomD785-000413922D24.htm"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if mac := macIn(text); mac != "" && (len(mac) != 12 || macIn(string(mac)) != mac) {
			t.Fatalf("%q: %q", text, mac)
		}
	})
}

func TestMACIn(t *testing.T) {
	for text, want := range map[string]string{
		"001565a1b2c3.cfg": "001565a1b2c3", "Yealink SIP-T54W 96.86.0.100 00:15:65:a1:b2:c3": "001565a1b2c3", "snomD785-000413922D24.htm": "000413922d24",
		"mac=00-15-65-A1-B2-C3&x": "001565a1b2c3", "y000000000000.cfg": "", "0123456789abcdef": "", "cfg.xml": "", "": "",
	} {
		if got := string(macIn(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
