// Package oauth signs and checks requests as OAuth 1.0a has it (RFC 5849): HMAC-SHA1, HMAC-SHA256 (a common
// extension) and PLAINTEXT, sent in the Authorization header, the query or a form body.
//
// Why our own: a gateway's mapping chooses where the parameters travel, signs with the URL the gateway believes it
// has, and keeps the path as it was sent. github.com/dghubble/oauth1 knows the header only and reads the path
// decoded; in the tests it is the second opinion for what both can do.
//
// Not here: who may do what, tokens' lives, RSA-SHA1.
package oauth

import (
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Signature methods.
const (
	SHA1      = "HMAC-SHA1"
	SHA256    = "HMAC-SHA256"
	Plaintext = "PLAINTEXT"
)

// Places the parameters may travel in.
const (
	InHeader = "header"
	InQuery  = "query"
	InBody   = "body"
)

var (
	// ErrMethod: the signature method is none of the three.
	ErrMethod = errors.New("signature method is not HMAC-SHA1, HMAC-SHA256 or PLAINTEXT")
	// ErrPlace: the parameters cannot travel there; in the body they can only with a form.
	ErrPlace = errors.New("OAuth parameters can travel in the header, the query, or the body of a form")
	// ErrMalformed: a request's OAuth parameters cannot be read.
	ErrMalformed = errors.New("malformed OAuth parameters")
)

// Param is one parameter, decoded.
type Param struct{ Name, Value string }

// Encode keeps A-Z a-z 0-9 - . _ ~ and writes every other byte as %XX (RFC 5849 section 3.6).
func Encode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// BaseURI is scheme and host in lower case, the port if it is not the scheme's own, and the path as it is sent.
func BaseURI(u *url.URL) string {
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	if p := u.Port(); p == "80" && scheme == "http" || p == "443" && scheme == "https" {
		host = strings.TrimSuffix(host, ":"+p)
	}
	return scheme + "://" + host + cmp.Or(u.EscapedPath(), "/")
}

// BaseString is what is signed: method, base URI and all parameters, normalized. realm and oauth_signature are left out.
func BaseString(method string, u *url.URL, params []Param) string {
	pairs := make([][2]string, 0, len(params))
	for _, p := range params {
		if p.Name != "realm" && p.Name != "oauth_signature" {
			pairs = append(pairs, [2]string{Encode(p.Name), Encode(p.Value)})
		}
	}
	slices.SortFunc(pairs, func(a, b [2]string) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	joined := make([]string, len(pairs))
	for i, p := range pairs {
		joined[i] = p[0] + "=" + p[1]
	}
	return strings.ToUpper(method) + "&" + Encode(BaseURI(u)) + "&" + Encode(strings.Join(joined, "&"))
}

// Signature signs a base string. Errors: ErrMethod.
func Signature(method, base, consumerSecret, tokenSecret string) (string, error) {
	key := Encode(consumerSecret) + "&" + Encode(tokenSecret)
	var h func() hash.Hash
	switch method {
	case SHA1:
		h = sha1.New
	case SHA256:
		h = sha256.New
	case Plaintext:
		return key, nil
	default:
		return "", fmt.Errorf("%q: %w", method, ErrMethod)
	}
	m := hmac.New(h, []byte(key))
	m.Write([]byte(base))
	return base64.StdEncoding.EncodeToString(m.Sum(nil)), nil
}

// ParsePairs reads a query or form: names and values in order, duplicates and empty values kept.
func ParsePairs(text string) ([]Param, error) {
	var out []Param
	for pair := range strings.SplitSeq(text, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		n, err := url.QueryUnescape(name)
		v, err2 := url.QueryUnescape(value)
		if err := errors.Join(err, err2); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		out = append(out, Param{n, v})
	}
	return out, nil
}

// Credentials are whom a request is signed for. Token is empty in the first step of the exchange.
type Credentials struct{ ConsumerKey, ConsumerSecret, Token, TokenSecret string }

// Options is how a request is signed.
type Options struct {
	Method   string // SHA1 if empty
	Place    string // InHeader if empty
	Realm    string // in the header only, if any
	Callback string // first step: "oob"
	Verifier string // second step
	Version  bool   // send oauth_version=1.0
	// Timestamp in seconds, positive; Nonce unique per timestamp, consumer and token. An empty one is drawn.
	Timestamp int64
	Nonce     string
	// URL is what is signed instead of the request's own; nil for that. Query parameters are the request's always.
	URL *url.URL
}

// Nonce is 128 random bits in hex.
func Nonce() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// IsForm tells whether a body is a single-part form, which is part of the signature.
func IsForm(h http.Header) bool {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && kind == "application/x-www-form-urlencoded"
}

// Sign adds the OAuth parameters to r, whose body is body, and returns the body to send and the base string, to debug
// against. Errors: ErrMethod, ErrPlace, ErrMalformed.
func Sign(r *http.Request, body []byte, c Credentials, o Options) (newBody []byte, base string, err error) {
	method := cmp.Or(o.Method, SHA1)
	own := []Param{{"oauth_consumer_key", c.ConsumerKey}, {"oauth_signature_method", method},
		{"oauth_timestamp", strconv.FormatInt(o.Timestamp, 10)}, {"oauth_nonce", cmp.Or(o.Nonce, Nonce())}}
	for _, p := range []Param{{"oauth_token", c.Token}, {"oauth_callback", o.Callback}, {"oauth_verifier", o.Verifier}} {
		if p.Value != "" {
			own = append(own, p)
		}
	}
	if o.Version {
		own = append(own, Param{"oauth_version", "1.0"})
	}
	params, err := ParsePairs(r.URL.RawQuery)
	if err != nil {
		return nil, "", err
	}
	if IsForm(r.Header) {
		form, err := ParsePairs(string(body))
		if err != nil {
			return nil, "", err
		}
		params = append(params, form...)
	}
	at := r.URL
	if o.URL != nil {
		at = o.URL
	}
	base = BaseString(r.Method, at, append(params, own...))
	signature, err := Signature(method, base, c.ConsumerSecret, c.TokenSecret)
	if err != nil {
		return nil, "", err
	}
	own = append(own, Param{"oauth_signature", signature})
	switch cmp.Or(o.Place, InHeader) {
	case InHeader:
		var parts []string
		if o.Realm != "" {
			parts = append(parts, `realm="`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(o.Realm)+`"`)
		}
		for _, p := range own {
			parts = append(parts, Encode(p.Name)+`="`+Encode(p.Value)+`"`)
		}
		r.Header.Set("Authorization", "OAuth "+strings.Join(parts, ", "))
	case InQuery:
		r.URL.RawQuery = appendPairs(r.URL.RawQuery, own)
	case InBody:
		if !IsForm(r.Header) {
			return nil, "", ErrPlace
		}
		body = []byte(appendPairs(string(body), own))
	default:
		return nil, "", fmt.Errorf("%q: %w", o.Place, ErrPlace)
	}
	return body, base, nil
}

func appendPairs(text string, params []Param) string {
	var b strings.Builder
	b.WriteString(text)
	for _, p := range params {
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(Encode(p.Name) + "=" + Encode(p.Value))
	}
	return b.String()
}

// Received is what a request that came in says of itself.
type Received struct {
	OAuth map[string]string // the oauth_ parameters
	Base  string            // the base string its signature must fit
}

// Receive reads the OAuth parameters of a request from wherever they travel; u is the URL as the client meant it. A
// parameter given twice is ErrMalformed, as is a request without any.
func Receive(r *http.Request, u *url.URL, body []byte) (Received, error) {
	params, err := ParsePairs(r.URL.RawQuery)
	if err != nil {
		return Received{}, err
	}
	if IsForm(r.Header) {
		form, err := ParsePairs(string(body))
		if err != nil {
			return Received{}, err
		}
		params = append(params, form...)
	}
	if scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "OAuth") {
		header, err := parseHeader(rest)
		if err != nil {
			return Received{}, err
		}
		params = append(params, header...)
	}
	got := Received{OAuth: map[string]string{}, Base: BaseString(r.Method, u, params)}
	for _, p := range params {
		if !strings.HasPrefix(p.Name, "oauth_") {
			continue
		}
		if _, twice := got.OAuth[p.Name]; twice {
			return got, fmt.Errorf("%w: %s is given twice", ErrMalformed, p.Name)
		}
		got.OAuth[p.Name] = p.Value
	}
	if len(got.OAuth) == 0 {
		return got, fmt.Errorf("%w: there are none", ErrMalformed)
	}
	return got, nil
}

func parseHeader(text string) ([]Param, error) {
	var out []Param
	for part := range strings.SplitSeq(text, ",") {
		name, quoted, ok := strings.Cut(strings.TrimSpace(part), "=")
		value, err := url.PathUnescape(strings.Trim(quoted, `"`))
		key, err2 := url.PathUnescape(name)
		if !ok || err != nil || err2 != nil {
			return nil, fmt.Errorf("%w: header %.40q", ErrMalformed, part)
		}
		out = append(out, Param{key, value})
	}
	return out, nil
}

// Fits tells in constant time whether the request was signed with these secrets. Errors: ErrMethod.
func (g Received) Fits(consumerSecret, tokenSecret string) (bool, error) {
	want, err := Signature(g.OAuth["oauth_signature_method"], g.Base, consumerSecret, tokenSecret)
	return err == nil && hmac.Equal([]byte(want), []byte(g.OAuth["oauth_signature"])), err
}
