package script

import (
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Version is what a phone says of itself: "13r2 dvl [13.4250/131286/1300]". Older ones say "… [07-60600.03],
// Bootcode[145], HW[…]".
type Version struct {
	Label    string // "13r2 dvl"
	Firmware string // build: digits (in development builds also letters), "134250"
	Boot     string // "131286"
	Hardware string // "1300"
}

var bracketed = regexp.MustCompile(`\[([^][]*)\]`)

// ParseVersion reads a version string; ok is false when there is no build in it. Fields that are not shown are empty.
func ParseVersion(text string) (v Version, ok bool) {
	if len(text) > 256 {
		return v, false
	}
	at := bracketed.FindAllStringSubmatchIndex(text, 4)
	if len(at) == 0 {
		return v, false
	}
	v.Label = strings.TrimSpace(text[:at[0][0]])
	group := func(i int) string { return text[at[i][2]:at[i][3]] }
	if parts := strings.Split(group(0), "/"); len(parts) == 3 {
		v.Firmware, v.Boot, v.Hardware = Build(parts[0]), Build(parts[1]), strings.TrimSpace(parts[2])
		return v, v.Firmware != ""
	}
	v.Firmware = Build(group(0))
	for i := 1; i < len(at); i++ {
		switch before := strings.ToLower(text[at[i-1][1]:at[i][0]]); {
		case strings.Contains(before, "boot"):
			v.Boot = Build(group(i))
		case strings.Contains(before, "hw"):
			v.Hardware = strings.TrimSpace(group(i))
		}
	}
	return v, v.Firmware != ""
}

// Build is a build number as jobs name it: without dots and blanks. Empty for what is none.
func Build(text string) string {
	text = strings.NewReplacer(".", "", " ", "").Replace(text)
	if text == "" || strings.ContainsFunc(text, func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r == '-')
	}) {
		return ""
	}
	return text
}

// stem is what the file names of a model are made of: the model in lower case, cut at the first "-", without "ip".
func stem(model string) string {
	model, _, _ = strings.Cut(strings.ToLower(model), "-")
	return strings.TrimPrefix(model, "ip")
}

// FirmwareFile is the name of a model's firmware: "ip222.bin" for IP222; empty for what is no model.
func FirmwareFile(model string) string {
	switch s := stem(model); {
	case !isModel(s):
		return ""
	case s == "mypbxa":
		return "mypbx.apk"
	default:
		return "ip" + s + ".bin"
	}
}

// BootFile is the name of a model's boot code: "boot222.bin" for IP222; empty for what has none.
func BootFile(model string) string {
	s := stem(model)
	if !isModel(s) || s == "mypbxa" || s == "mypbxi" || s == "swphone" {
		return ""
	}
	return "boot" + s + ".bin"
}

func isModel(stem string) bool {
	return stem != "" && len(stem) <= 16 && strings.Trim(stem, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// Suboption is one of option 43: vendor options of DHCP are triples of code, length and value.
type Suboption struct {
	Code  byte
	Value []byte
}

// Codes of vendor options (reference §3.6). UpdateURL and UpdatePoll are to be confirmed on a phone.
const (
	OptionGatekeepers  = 200
	OptionGatekeeperID = 201
	OptionUpdateURL    = 215
	OptionUpdatePoll   = 216
	OptionServerID     = 250
)

// VendorClass is option 60 of innovaphone phones.
const VendorClass = "1.3.6.1.4.1.6666"

// ErrOption43: an option is longer than DHCP can carry.
var ErrOption43 = errors.New("option 43 carries at most 255 bytes")

// Option43 is the value of option 43.
func Option43(options ...Suboption) ([]byte, error) {
	var out []byte
	for _, o := range options {
		if len(o.Value) > 253 {
			return nil, fmt.Errorf("option %d has %d bytes: %w", o.Code, len(o.Value), ErrOption43)
		}
		out = append(append(out, o.Code, byte(len(o.Value))), o.Value...)
	}
	if len(out) > 255 {
		return nil, ErrOption43
	}
	return out, nil
}

// Hex is bytes as administrators type them: "d7 12 68".
func Hex(b []byte) string {
	text := hex.EncodeToString(b)
	parts := make([]string, len(b))
	for i := range parts {
		parts[i] = text[2*i : 2*i+2]
	}
	return strings.Join(parts, " ")
}

// Arguments reads a query as update clients write it: what is no valid encoding is taken as it stands, and of an argument
// that stands twice the first counts, which is that of the URL: the phone appends its own.
func Arguments(raw string) map[string]string {
	out := map[string]string{}
	for pair := range strings.SplitSeq(raw, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if text, err := Unescape(value); err == nil {
			value = text
		}
		if _, twice := out[name]; !twice && len(out) < 64 {
			out[name] = value
		}
	}
	return out
}
