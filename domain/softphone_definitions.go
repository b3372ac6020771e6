package domain

import (
	"strings"
)

// PortalValue is one field of the vendor's portal, where web services are defined by a prefix and a suffix.
type PortalValue struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// formType is the Content-Type of the bodies that PortalDefinitions asks for.
const formType = "application/x-www-form-urlencoded"

// InitialPostData is what an app says when nobody is signed in with it yet; its placeholders are those of the initial scope.
const InitialPostData = "cloud_id=%fullcode%&cloud_username=%username%&cloud_password=%password%&initial=1&install=%installid%"

// RefreshPostData is what an app says once it has an account, which holds the token it was given as cloud_password.
func RefreshPostData(cloudID string) string {
	return "cloud_id=" + cloudID + "&cloud_username=%account[cloud_username]%&cloud_password=%account[cloud_password]%&install=%installid%"
}

// Paths of the services of an app, below the URL of the phone plane.
const (
	SoftphoneAccountPath = "/softphone/v1/account"
	SoftphoneGlobalPath  = "/softphone/v1/global"
	// Services besides provisioning, for apps that are signed in.
	SoftphoneContactsPath = "/softphone/v1/contacts"
	SoftphoneBalancePath  = "/softphone/v1/balance"
	SoftphonePushPath     = "/softphone/v1/push"
)

// SoftphonePushParameters are what the vendor's push token reporter fills in, in the order they are sent; pushToken and
// pushappid are what older apps know.
var SoftphonePushParameters = []string{"selector", "pushTokenIncomingCall", "pushTokenOther", "pushappid_incoming_call", "pushappid_other", "pushToken", "pushappid"}

// pushPostData is what the push token reporter says besides who it is.
func pushPostData() string {
	var b strings.Builder
	for _, name := range SoftphonePushParameters {
		b.WriteString("&" + name + "=%" + name + "%")
	}
	return b.String()
}

// PortalDefinitions are the web service definitions to put into the vendor's portal for a cloud ID, in the portal's order.
// base is the URL of the phone plane; cloudID is spelled as the portal has it. Letter case is the vendor's: the first prefix
// begins with a capital, the others do not.
func PortalDefinitions(base, cloudID string) []PortalValue {
	base = strings.TrimSuffix(base, "/")
	var out []PortalValue
	for _, s := range []struct{ prefix, path, data string }{
		{"InitialProvisioning", SoftphoneAccountPath, InitialPostData},
		{"initialGlobalProvisioning", SoftphoneGlobalPath, InitialPostData},
		{"globalExtProv", SoftphoneGlobalPath, RefreshPostData(cloudID)},
		{"wsContacts", SoftphoneContactsPath, RefreshPostData(cloudID)},
		{"genericBalanceCheck", SoftphoneBalancePath, RefreshPostData(cloudID)},
		{"pushTokenReporter", SoftphonePushPath, RefreshPostData(cloudID) + pushPostData()},
	} {
		out = append(out, PortalValue{s.prefix + "Url", base + s.path}, PortalValue{s.prefix + "Method", "POST"},
			PortalValue{s.prefix + "ContentType", formType}, PortalValue{s.prefix + "PostData", s.data})
	}
	return append(out, PortalValue{"globalExtProvRefresh", "3600"})
}

// ParseDefinitions reads definitions as PortalDefinitions are printed: a name and a value a line, blanks, "=" or ":" between
// them, or elements of XML. Empty lines and those that begin with "#" are passed over. Values are kept as they stand.
func ParseDefinitions(text string) []PortalValue {
	var out []PortalValue
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || strings.HasPrefix(trimmed, "#") {
			continue
		}
		if rest, ok := strings.CutPrefix(trimmed, "<"); ok {
			if name, value, ok := strings.Cut(rest, ">"); ok {
				if value, ok := strings.CutSuffix(value, "</"+name+">"); ok {
					out = append(out, PortalValue{name, xmlEntities.Replace(value)})
					continue
				}
			}
		}
		end := strings.IndexAny(trimmed, " \t=:")
		if end < 0 {
			out = append(out, PortalValue{Name: trimmed})
			continue
		}
		value := strings.TrimLeft(trimmed[end:], " \t")
		if value != "" && (value[0] == '=' || value[0] == ':') {
			value = value[1:]
		}
		out = append(out, PortalValue{trimmed[:end], strings.TrimLeft(value, " \t")})
	}
	return out
}

var xmlEntities = strings.NewReplacer("&amp;", "&", "&lt;", "<", "&gt;", ">", "&quot;", `"`, "&apos;", "'")
