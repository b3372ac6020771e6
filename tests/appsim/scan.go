package appsim

import (
	"errors"
	"net/url"
	"strings"
)

// ErrScan: the text is no code of this app.
var ErrScan = errors.New("not a code for this app")

// Inputs are what a user types, or a code fills in. An empty Username or Password is asked for.
type Inputs struct {
	CloudID            string // with the star that asks for the editable version
	Username, Password string
}

// Scan reads the text of a QR code: csc:[user[:password]@]cloud-id. The cloud ID stands behind the last "@", the password
// behind the first ":" before it, and each piece is percent-decoded; one that is not well encoded stands for itself, as in
// codes of other makers. Errors: ErrScan.
func Scan(text string) (Inputs, error) {
	if len(text) < 4 || !strings.EqualFold(text[:4], "csc:") {
		return Inputs{}, ErrScan
	}
	var in Inputs
	who, cloud := "", text[4:]
	if i := strings.LastIndexByte(cloud, '@'); i >= 0 {
		who, cloud = cloud[:i], cloud[i+1:]
	}
	user, password, _ := strings.Cut(who, ":")
	in = Inputs{CloudID: cloud, Username: decoded(user), Password: decoded(password)}
	if strings.TrimSuffix(cloud, "*") == "" || strings.ContainsAny(cloud, " %:/?#") {
		return Inputs{}, ErrScan
	}
	return in, nil
}

// Typed is what the first field of the app that all providers share means: the cloud ID stands behind the last "@".
func Typed(first, password string) Inputs {
	i := strings.LastIndexByte(first, '@')
	if i < 0 {
		return Inputs{CloudID: first, Password: password}
	}
	return Inputs{CloudID: first[i+1:], Username: decoded(first[:i]), Password: password}
}

func decoded(s string) string {
	if d, err := url.PathUnescape(s); err == nil { // "+" stays
		return d
	}
	return s
}
