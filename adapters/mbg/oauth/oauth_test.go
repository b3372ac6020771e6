package oauth_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/dghubble/oauth1"

	"ledgerline/adapters/mbg/oauth"
)

// vectors are those of the reference, computed independently of this package (OA-1 to OA-3).
var vectors = []struct {
	name, method, url           string
	options                     oauth.Options
	token, secret               string
	sha1, sha256, plaintext, v3 string
}{
	{"V1", "POST", "https://MBG.example.net:443/oauth/request_token", oauth.Options{Timestamp: 1767225600, Nonce: "nonceA1", Callback: "oob"}, "", "",
		"c9gHXIzw1g3EuCBtvEGl4cOTbAQ=", "PUxlcjRlNFvDIqTpDRRV0VkxXEqglP7ZWKLTy3O2Fog=", "k9%26Secret%2FOne%2BTwo&", ""},
	{"V2", "POST", "https://mbg.example.net/oauth/access_token", oauth.Options{Timestamp: 1767225660, Nonce: "nonceB2", Verifier: "48 27=9"}, "tmp-7f3a", "tmpsec~ü",
		"MV/M75Rnw/ducO+Uz10kzCRIwoI=", "F2EAmVA3zqe3cB3fyPUYSq3+DeY7Cvr2u/VXs/RoELU=", "k9%26Secret%2FOne%2BTwo&tmpsec~%C3%BC", ""},
	{"V3", "GET", "https://mbg.example.net:8443/api/v1/sip_users?q=ext%204001&limit=50&empty=", oauth.Options{Timestamp: 1767225720, Nonce: "nonceC3"}, "fin-91c0", "finsec*1",
		"XpjdxrABCXKP73oE/4cvwewAMYs=", "pFK19c/SSfrHOgNX1J9kxM9YEj3De82qF8TI66/GHPs=", "k9%26Secret%2FOne%2BTwo&finsec%2A1",
		"GET&https%3A%2F%2Fmbg.example.net%3A8443%2Fapi%2Fv1%2Fsip_users&empty%3D%26limit%3D50%26oauth_consumer_key%3DProvEngine%26oauth_nonce%3DnonceC3%26oauth_signature_method%3DHMAC-SHA1%26oauth_timestamp%3D1767225720%26oauth_token%3Dfin-91c0%26oauth_version%3D1.0%26q%3Dext%25204001"},
}

const consumer, consumerSecret = "ProvEngine", "k9&Secret/One+Two"

// Every vector, by every method, wherever the parameters travel: the signature is the vector's, and the one who
// receives it finds it to fit, and not to fit with another secret.
func TestVectors(t *testing.T) {
	for _, v := range vectors {
		for method, want := range map[string]string{oauth.SHA1: v.sha1, oauth.SHA256: v.sha256, oauth.Plaintext: v.plaintext} {
			for _, place := range []string{oauth.InHeader, oauth.InQuery, oauth.InBody} {
				if place == oauth.InBody && v.method != http.MethodPost {
					continue
				}
				t.Run(v.name+"/"+method+"/"+place, func(t *testing.T) {
					r, err := http.NewRequest(v.method, v.url, nil)
					if err != nil {
						t.Fatal(err)
					}
					if place == oauth.InBody {
						r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
					}
					o := v.options
					o.Method, o.Place, o.Version = method, place, true
					body, base, err := oauth.Sign(r, nil, oauth.Credentials{ConsumerKey: consumer, ConsumerSecret: consumerSecret, Token: v.token, TokenSecret: v.secret}, o)
					if err != nil {
						t.Fatal(err)
					}
					if method == oauth.SHA1 && v.v3 != "" && base != v.v3 {
						t.Errorf("base string\n%s\nwant\n%s", base, v.v3)
					}
					got, err := oauth.Receive(r, r.URL, body)
					if err != nil {
						t.Fatal(err)
					}
					if got.OAuth["oauth_signature"] != want {
						t.Errorf("signature %s, want %s", got.OAuth["oauth_signature"], want)
					}
					if ok, err := got.Fits(consumerSecret, v.secret); !ok || err != nil {
						t.Errorf("it does not fit: %v", err)
					}
					if ok, _ := got.Fits(consumerSecret, v.secret+"x"); ok {
						t.Error("it fits another secret")
					}
				})
			}
		}
	}
}

// OA-4: parameters of query and form are sorted together by their encoded bytes; a tilde stays as it is.
func TestParametersAreSortedByEncodedBytes(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "https://mbg.example.net/x?a=2&b=", nil)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	_, base, err := oauth.Sign(r, []byte("a=1&B=%7e"), oauth.Credentials{ConsumerKey: "k"}, oauth.Options{Timestamp: 1, Nonce: "n"})
	if err != nil {
		t.Fatal(err)
	}
	const want = "POST&https%3A%2F%2Fmbg.example.net%2Fx&B%3D~%26a%3D1%26a%3D2%26b%3D%26oauth_consumer_key%3Dk%26oauth_nonce%3Dn%26oauth_signature_method%3DHMAC-SHA1%26oauth_timestamp%3D1"
	if base != want {
		t.Errorf("base string\n%s\nwant\n%s", base, want)
	}
}

// OA-5: a body that is no form is no part of the signature, and does not change.
func TestJSONIsNotSigned(t *testing.T) {
	bases := map[string]bool{}
	for _, body := range []string{`{"a":1}`, `{"a":2}`} {
		r := httptest.NewRequest(http.MethodPost, "https://mbg.example.net/x", nil)
		r.Header.Set("Content-Type", "application/json")
		sent, base, err := oauth.Sign(r, []byte(body), oauth.Credentials{ConsumerKey: "k"}, oauth.Options{Timestamp: 1, Nonce: "n"})
		if err != nil || string(sent) != body {
			t.Fatal(err, string(sent))
		}
		bases[base] = true
	}
	if len(bases) != 1 {
		t.Error("the body is in the signature")
	}
}

// OA-6: the base URI.
func TestBaseURI(t *testing.T) {
	for in, want := range map[string]string{
		"https://MBG.Example.NET:443":       "https://mbg.example.net/",
		"http://mbg.example.net:80/A%2fb":   "http://mbg.example.net/A%2fb",
		"https://mbg.example.net:8443/?q=1": "https://mbg.example.net:8443/",
		"https://mbg.example.net:80/x#f":    "https://mbg.example.net:80/x",
		"HTTPS://[2001:DB8::1]:443/x":       "https://[2001:db8::1]/x",
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := oauth.BaseURI(u); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// A reverse proxy in between: what is signed is the URL the gateway believes it has.
func TestSignedURL(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "https://proxy.example:8443/mbg/api?x=1", nil)
	u, _ := url.Parse("https://mbg.internal/api")
	if _, base, err := oauth.Sign(r, nil, oauth.Credentials{}, oauth.Options{Timestamp: 1, URL: u}); err != nil || !strings.HasPrefix(base, "GET&https%3A%2F%2Fmbg.internal%2Fapi&") || !strings.Contains(base, "%26x%3D1") {
		t.Error(base, err)
	}
}

func TestWhatCannotBeSigned(t *testing.T) {
	get := httptest.NewRequest(http.MethodGet, "https://mbg.example.net/x", nil)
	if _, _, err := oauth.Sign(get, nil, oauth.Credentials{}, oauth.Options{Place: oauth.InBody}); !errors.Is(err, oauth.ErrPlace) {
		t.Error(err)
	}
	if _, _, err := oauth.Sign(get, nil, oauth.Credentials{}, oauth.Options{Method: "RSA-SHA1"}); !errors.Is(err, oauth.ErrMethod) {
		t.Error(err)
	}
	bad := httptest.NewRequest(http.MethodGet, "https://mbg.example.net/x", nil)
	bad.Header.Set("Authorization", `OAuth oauth_nonce="1", oauth_nonce="2"`)
	if _, err := oauth.Receive(bad, bad.URL, nil); !errors.Is(err, oauth.ErrMalformed) {
		t.Error(err)
	}
}

// A second opinion: what github.com/dghubble/oauth1 signs we find to fit.
func TestAnotherImplementationAgrees(t *testing.T) {
	config := oauth1.NewConfig(consumer, consumerSecret)
	config.Signer = &oauth1.HMAC256Signer{ConsumerSecret: consumerSecret}
	for i, c := range []*oauth1.Config{oauth1.NewConfig(consumer, consumerSecret), config} {
		fits := false
		srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			u := *r.URL
			u.Scheme, u.Host = "http", r.Host
			got, err := oauth.Receive(r, &u, body)
			if err == nil {
				fits, err = got.Fits(consumerSecret, "finsec*1")
			}
			if err != nil {
				t.Error(err)
			}
		}))
		client := c.Client(t.Context(), oauth1.NewToken("fin-91c0", "finsec*1"))
		resp, err := client.Post(srv.URL+"/api/v1/x?q=ext%204001&b=~", "application/x-www-form-urlencoded", bytes.NewReader([]byte("a=1&c=%2B+x")))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		srv.Close()
		if !fits {
			t.Errorf("signer %d: what it signs does not fit", i)
		}
	}
}

func FuzzReceive(f *testing.F) {
	f.Add(`oauth_nonce="1", oauth_token="a%20b"`, "a=1&b", "c=%zz")
	f.Fuzz(func(t *testing.T, header, query, form string) {
		r := &http.Request{Method: http.MethodPost, URL: &url.URL{Scheme: "https", Host: "h", Path: "/", RawQuery: query}, Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}}
		r.Header.Set("Authorization", "OAuth "+header)
		got, err := oauth.Receive(r, r.URL, []byte(form))
		if (err == nil) != (len(got.OAuth) > 0) && err == nil {
			t.Error("neither parameters nor an error")
		}
	})
}
