package script

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// AutoURL is the Devices URL of automatic provisioning: base with the three parameters, each value encoded.
func AutoURL(base, domain, token, category string) string {
	sep := "?"
	if strings.Contains(base, "?") {
		sep = "&"
	}
	return base + sep + "domain=" + Escape(domain) + "&token=" + Escape(token) + "&category=" + Escape(category)
}

// SysadminLine is the finished line that gives a phone its Devices URL: the URL encoded once more, whole. It works in an
// update script and nowhere else: typed into a browser it is decoded once on the way.
func SysadminLine(url string) string { return "config change SYSCLIENT /sysadmin " + Escape(url) }

// Finding is what Lint has to say. Error tells that a phone given this will not get where it should.
type Finding struct {
	Code  string `json:"code"` // stable
	Error bool   `json:"error"`
	Text  string `json:"text"`
}

// Linted is what was understood of a line or URL.
type Linted struct {
	// URL is what the phone would store, and show on its page; empty when it cannot be told.
	URL      string    `json:"url,omitempty"`
	Findings []Finding `json:"findings"`
	// Line is the line as it should be, when the URL is in order or it is clear what was meant.
	Line string `json:"line,omitempty"`
}

// OK tells that there is no error among the findings.
func (l Linted) OK() bool {
	return !slices.ContainsFunc(l.Findings, func(f Finding) bool { return f.Error })
}

// Lint looks at a line "config change SYSCLIENT /sysadmin …", its argument, or the URL a phone shows, and tells what is
// wrong with the encoding and the parameters: half-encoded lines are common in the field, for early documentation showed
// them so. What it cannot see: a token that is encoded rightly, and wrong.
func Lint(text string) Linted {
	var l Linted
	say := func(code string, isError bool, format string, args ...any) {
		l.Findings = append(l.Findings, Finding{code, isError, fmt.Sprintf(format, args...)})
	}
	text = strings.TrimSpace(text)
	if rest, ok := strings.CutPrefix(text, "!"); ok {
		say("browser", true, "a line that begins with ! is for a browser's address bar, where it is decoded once too often: use an update script")
		text = rest
	}
	arg, isLine := argument(text)
	if len(arg) > 4096 {
		say("long", true, "longer than any URL a phone keeps")
		return l
	}
	switch stored, err := Unescape(arg); {
	case isLine && strings.Contains(arg, "://"):
		say("not-encoded", true, "the URL is not encoded as an argument of the line: the phone decodes it once, and stores what is no URL any more")
		l.URL = arg
	case strings.Contains(arg, "://"): // a URL as a phone shows it
		l.URL = arg
	case err != nil:
		say("escape", true, "%s", ErrEscape)
		return l
	case strings.HasPrefix(strings.ToLower(stored), "wss%3a"), strings.HasPrefix(strings.ToLower(stored), "ws%3a"):
		say("encoded-twice", true, "the URL is encoded twice as an argument: the phone stores an encoded URL, and connects nowhere")
		l.URL, _ = Unescape(stored)
	default:
		l.URL = stored
	}
	l.check(say)
	return l
}

// argument is what stands behind /sysadmin, or all of text when it is no line.
func argument(text string) (arg string, isLine bool) {
	fields := strings.Fields(text)
	for i, f := range fields {
		if strings.EqualFold(f, "/sysadmin") {
			return strings.Join(fields[i+1:], " "), true
		}
	}
	return text, false
}

// check looks at the URL a phone would store.
func (l *Linted) check(say func(code string, isError bool, format string, args ...any)) {
	base, query, hasQuery := strings.Cut(l.URL, "?")
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "ws" && u.Scheme != "wss" {
		say("no-url", true, "this is no ws:// or wss:// URL")
		l.URL = ""
		return
	}
	if u.Scheme == "ws" {
		say("clear", false, "ws:// is not encrypted: the token can be read on the way")
	}
	if !strings.HasSuffix(u.Path, "/sysclients") {
		say("path", false, "the path of Devices usually ends in /sysclients")
	}
	if !hasQuery {
		l.Line = SysadminLine(l.URL)
		return
	}
	values, wrong := l.values(query, say)
	names := []string{"domain", "token", "category"}
	for _, name := range names {
		if values[name] == "" {
			say("missing", true, "the parameter %s is missing", name)
			wrong = true
		}
	}
	if complete := values["domain"] != "" && values["token"] != "" && values["category"] != ""; complete {
		meant := AutoURL(base, values["domain"], values["token"], values["category"])
		if !wrong && meant != l.URL {
			say("order", false, "encoded otherwise than the rule says, but read the same")
		}
		l.Line = SysadminLine(meant)
	}
}

// values reads the query, and says what of it is not encoded.
func (l *Linted) values(query string, say func(code string, isError bool, format string, args ...any)) (values map[string]string, wrong bool) {
	values = map[string]string{}
	bad := func(code, format string, args ...any) {
		say(code, true, format, args...)
		wrong = true
	}
	if strings.Contains(query, "#") {
		bad("fragment", "a # stands in the query: what follows it never reaches the server; as part of a value it is %%23")
	}
	last := ""
	for pair := range strings.SplitSeq(query, "&") {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name != "domain" && name != "token" && name != "category" {
			if last != "" {
				bad("ampersand", "%q is no parameter: an & in the value of %s is %%26", name, last)
				values[last] += "&" + pair
				continue
			}
			bad("parameter", "%q is no parameter of automatic provisioning", name)
			continue
		}
		if _, twice := values[name]; twice {
			bad("twice", "the parameter %s stands twice", name)
			continue
		}
		last = name
		switch decoded, err := Unescape(value); {
		case err != nil:
			bad("escape", "in %s a %% is not followed by two hex digits; as part of a value it is %%25", name)
			values[name] = value
		default:
			values[name] = decoded
		}
		if strings.ContainsAny(value, "+") {
			bad("plus", "a + stands in %s: servers read it as a blank; a blank is %%20, a plus is %%2B", name)
		}
		if strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			bad("blank", "%s holds blanks or characters that must be encoded", name)
		}
	}
	return values, wrong
}
