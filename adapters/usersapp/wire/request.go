package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Request is any message of Users once it has logged in; what a message does not have is zero.
type Request struct {
	MT  string          `json:"mt"`
	API string          `json:"api"`
	Src json.RawMessage `json:"src"` // of the answers, and of what follows from a subscription

	RecvUpdates bool `json:"recvUpdates"`
	Unassigned  bool `json:"unassigned"`
	JustFXS     bool `json:"justFxs"`
	Rollout     bool `json:"rollout"`
	Admin       bool `json:"administrative"`
	ID          Text `json:"id"`
	DomainID    Text `json:"domainId"`
	Category    Text `json:"category"`
	SIP         Text `json:"sip"`
	Type        Text `json:"type"`
	Code        Text `json:"code"`
	DomainIDs   List `json:"domainIds"`
	Categories  List `json:"categories"`
	HWIDs       List `json:"hwIds"`
	Types       List `json:"types"`
	App         Text `json:"app"` // AppInfo: what it is asked about
	Phone
}

// Phone is what ProvisioningPhone tells of a phone of another make and its user.
type Phone struct {
	MAC  Text `json:"mac"`
	HWID Text `json:"hwid"`
	// Username is the user's name at the PBX; the vendor writes it "usename".
	Username        Text `json:"usename"`
	UsernameInWhole Text `json:"username"`
	CN              Text `json:"cn"`
	Seed            Text `json:"seed1"`
	Password        Text `json:"password"` // hidden under Seed and the session's key
	Domain          Text `json:"domain"`
	DNS             Text `json:"dns"`
}

// MaxEchoed bounds what a message may want to have echoed in each answer: src and api together, in bytes.
const MaxEchoed = 1 << 10

// ErrMessage: bytes are no message of this protocol.
var ErrMessage = errors.New("not a message of the app protocol")

// Parse reads one message. Errors: ErrMessage.
func Parse(b []byte) (r Request, err error) {
	if len(b) > MaxMessage {
		return r, fmt.Errorf("%d bytes: %w", len(b), ErrMessage)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return Request{}, errors.Join(err, ErrMessage)
	}
	if len(r.Src)+len(r.API) > MaxEchoed {
		return Request{}, fmt.Errorf("src and api of %d bytes: %w", len(r.Src)+len(r.API), ErrMessage)
	}
	return r, nil
}

// Text is text, or a number as it was written: which of them an id is, is not said everywhere.
type Text string

// UnmarshalJSON reads text, a number or null.
func (t *Text) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && (b[0] == '-' || b[0] >= '0' && b[0] <= '9') {
		*t = Text(b)
		return nil
	}
	return json.Unmarshal(b, (*string)(t))
}

// List is a list of texts: "a,b", ["a","b"] or one number. Blanks around the parts, and empty parts, are dropped.
type List []string

// UnmarshalJSON reads any form of a list.
func (l *List) UnmarshalJSON(b []byte) error {
	var parts []Text
	if len(b) > 0 && b[0] == '[' {
		if err := json.Unmarshal(b, &parts); err != nil {
			return err
		}
	} else {
		var whole Text
		if err := whole.UnmarshalJSON(b); err != nil {
			return err
		}
		for part := range strings.SplitSeq(string(whole), ",") {
			parts = append(parts, Text(part))
		}
	}
	*l = nil
	for _, p := range parts {
		if p := strings.TrimSpace(string(p)); p != "" {
			*l = append(*l, p)
		}
	}
	return nil
}

// Takes tells whether the list has no parts, or this one, whatever its case.
func (l List) Takes(part string) bool {
	return len(l) == 0 || slices.ContainsFunc(l, func(p string) bool { return strings.EqualFold(p, part) })
}

// Split cuts a value into parts that each take at most most bytes as JSON text, quotes included; most is 16 at least. Put
// together they are the value. An empty value is one empty part.
func Split(value string, most int) []string {
	var parts []string
	start, size := 0, 2
	for at := 0; at < len(value); {
		c, n := utf8.DecodeRuneInString(value[at:])
		more := n
		if n == 1 && (c < ' ' || strings.ContainsRune("\"\\<>&\x7f", c) || c == utf8.RuneError) || c == '\u2028' || c == '\u2029' {
			more = 6 // the most an escape takes
		}
		if size+more > most {
			parts, start, size = append(parts, value[start:at]), at, 2
		}
		size += more
		at += n
	}
	return append(parts, value[start:])
}
