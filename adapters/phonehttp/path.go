package phonehttp

import (
	"net/url"
	"strings"

	"ledgerline/domain"
)

const (
	maxPath  = 300  // bytes of a path as sent
	maxQuery = 1024 // bytes
	maxAgent = 512  // bytes of a User-Agent; the rest is cut off
)

// parsePath reads the path of a request target as sent, still escaped, into its segments. Empty segments
// are dropped, for phones join "http://host/" and "/file". ok is false for whatever no phone asks for: more
// than 300 bytes, a segment "." or "..", an escaped slash, a backslash, anything but printable ASCII, and
// a path that ends in a slash.
func parsePath(escaped string) (segments []string, ok bool) {
	if len(escaped) == 0 || len(escaped) > maxPath || escaped[0] != '/' || escaped[len(escaped)-1] == '/' {
		return nil, false
	}
	for raw := range strings.SplitSeq(escaped[1:], "/") {
		segment, err := url.PathUnescape(raw)
		if err != nil || segment == "." || segment == ".." {
			return nil, false
		}
		for _, c := range []byte(segment) {
			if c < 0x20 || c > 0x7e || c == '/' || c == '\\' {
				return nil, false
			}
		}
		if segment != "" {
			segments = append(segments, segment)
		}
	}
	return segments, len(segments) > 0
}

// claim is how a request says who it is.
type claim struct {
	via        string // as in commands.ServeFile
	credential string
	file       string // below the phone's base, no leading slash
	route      string // the pattern, for logs
}

var proofs = map[string]claim{
	"t": {via: "tenant_key", route: "/t/{key}/{file}"},
	"d": {via: "secret", route: "/d/{secret}/{file}"},
	"c": {via: "code", route: "/c/{code}/{file}"},
}

// claimOf reads the claim from path segments. ok is false for a credential without a file.
func claimOf(segments []string) (c claim, ok bool) {
	c, special := proofs[segments[0]]
	if !special {
		return claim{via: "mac", file: strings.Join(segments, "/"), route: "/{file}"}, true
	}
	if len(segments) < 3 {
		return claim{via: c.via, route: c.route}, false
	}
	c.credential, c.file = segments[1], strings.Join(segments[2:], "/")
	return c, true
}

// rootKey is the claim of /<tenant-key>/<file>, if the first segment can be a tenant's key.
func rootKey(segments []string) (claim, bool) {
	if len(segments) < 2 || domain.CheckProvisioningKey(segments[0]) != nil {
		return claim{}, false
	}
	return claim{via: "tenant_key", credential: segments[0], file: strings.Join(segments[1:], "/"), route: "/{key}/{file}"}, true
}

// macIn finds the first hardware address in text: 12 hex digits, plain or in pairs joined by : or -, with no
// further hex digit beside them. It only tells identities apart for budgets and sightings; who a phone is,
// plugins decide.
func macIn(text string) domain.MAC {
	for i := 0; i+12 <= len(text); i++ {
		if i > 0 && isHex(text[i-1]) {
			continue
		}
		for _, n := range []int{17, 12} {
			if i+n > len(text) || i+n < len(text) && isHex(text[i+n]) {
				continue
			}
			if mac, err := domain.ParseMAC(text[i : i+n]); err == nil {
				return mac
			}
		}
	}
	return ""
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}
