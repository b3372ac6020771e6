package sysclient

import (
	"net/url"
	"strings"
)

// urlProblem says what is wrong with the address of Devices in a dump of the device's configuration, in words that hold
// nothing of it: it may carry a token. path and query are those the device has just connected with. Empty: it is as it
// should be.
//
// The address stands in the setting /sysadmin of module SYSCLIENT, encoded once more than it is used. A line that was
// typed into a browser loses one encoding on its way, and the device stores what a query cannot hold.
func urlProblem(dump, path string, query url.Values) string {
	stored, ok := storedURL(dump)
	if !ok {
		return "no address of Devices is stored"
	}
	clear, err := url.PathUnescape(stored)
	if err != nil {
		return "the address stored is not percent-encoded"
	}
	if strings.ContainsFunc(clear, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"<>\^{|}`+"`", r) }) {
		return "the address stored is half-encoded: it holds characters that a URL cannot"
	}
	u, err := url.Parse(clear)
	if err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" {
		return "the address stored is no websocket URL"
	}
	if u.Path != path {
		return "the address stored leads elsewhere"
	}
	if u.Fragment != "" {
		return "the address stored is half-encoded: a # cuts it off"
	}
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "the address stored is half-encoded: its query cannot be read"
	}
	for _, name := range []string{"domain", "token", "category"} {
		if values.Get(name) != query.Get(name) {
			return "the address stored names another " + name
		}
	}
	return ""
}

// storedURL is the argument of /sysadmin in the last "config change SYSCLIENT" line.
func storedURL(dump string) (stored string, ok bool) {
	for line := range strings.Lines(dump) {
		words := strings.Fields(line)
		if len(words) < 4 || words[0] != "config" || words[1] != "change" || words[2] != "SYSCLIENT" {
			continue
		}
		stored, ok = "", false
		for i := 3; i+1 < len(words); i++ {
			if words[i] == "/sysadmin" {
				stored, ok = words[i+1], true
			}
		}
	}
	return stored, ok
}
