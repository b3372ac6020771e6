package domain

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// A web service of the vendor is defined by nodes of one prefix and these suffixes; older installations write them in
// snake case.
var (
	serviceSuffixes = []string{"Url", "PostData", "ContentType", "Method", "AuthUsername", "AuthPassword", "CustomHeaders", "Timeout"}
	snake           = map[string]string{"Url": "_url", "PostData": "_post_data", "ContentType": "_content_type", "Method": "_method", "AuthUsername": "_auth_username",
		"AuthPassword": "_auth_password", "CustomHeaders": "_custom_headers", "Timeout": "_timeout"}
	serviceMethods = []string{"", "GET", "POST", "PUT", "HEAD", "DELETE"}
)

// formOf are the forms of values the vocabulary knows.
var formOf = map[string]*regexp.Regexp{"text": regexp.MustCompile(``), "integer": regexp.MustCompile(`^-?[0-9]{1,9}$`), "boolean": regexp.MustCompile(`^[01]$`),
	"numbers": regexp.MustCompile(`^([0-9]{1,3}(,[0-9]{1,3})*)?$`), "use": regexp.MustCompile(`^(enabled|disabled|required)$`)}

// serviceNode splits the name of a node that defines a service, its suffix in camel case.
func serviceNode(name string) (prefix, suffix string, ok bool) {
	for _, s := range serviceSuffixes {
		if p, ok := strings.CutSuffix(name, s); ok && p != "" {
			return p, s, true
		}
		if p, ok := strings.CutSuffix(name, snake[s]); ok && p != "" {
			return p, s, true
		}
	}
	return "", "", false
}

// checkServices checks the definitions of services among the nodes.
func (d SoftphoneDocument) checkServices(f *findings) {
	services := make(map[string]map[string]string)
	for _, name := range slices.Sorted(maps.Keys(d.Nodes)) {
		prefix, suffix, ok := serviceNode(name)
		if !ok || strings.HasPrefix(name, "X-") {
			continue
		}
		if services[prefix] == nil {
			services[prefix] = make(map[string]string)
		}
		services[prefix][suffix] = d.Nodes[name]
	}
	for _, prefix := range slices.Sorted(maps.Keys(services)) {
		known := slices.Clone(vocabulary.Placeholders)
		for p, names := range vocabulary.ServicePlaceholders {
			if strings.HasPrefix(prefix+"_", p) {
				known = append(known, names...)
			}
		}
		for _, found := range CheckService("account/"+prefix, services[prefix], known) {
			suffix := strings.TrimPrefix(found.At, "account/"+prefix)
			if _, camel := d.Nodes[prefix+suffix]; !camel {
				found.At = "account/" + prefix + snake[suffix]
			}
			*f = append(*f, found)
		}
	}
}

// CheckService checks the definition of one web service by its suffixes ("Url", "PostData", "Method", …). known are the
// placeholders its templates may use besides %account[...]% and functions; at is the path of its prefix.
func CheckService(at string, d map[string]string, known []string) []SoftphoneFinding {
	var f findings
	method := strings.ToUpper(d["Method"])
	switch {
	case !slices.Contains(serviceMethods, method):
		f.refuse("CS-WS-1", at+"Method", "must be GET, POST, PUT, HEAD or DELETE")
	case method == "GET" && d["PostData"] != "", method == "HEAD" && d["PostData"] != "", method == "DELETE" && d["PostData"] != "":
		f.refuse("CS-WS-1", at+"PostData", "is not sent with "+method)
	}
	for line := range strings.SplitSeq(strings.ReplaceAll(strings.ReplaceAll(d["CustomHeaders"], "\r\n", "\n"), `\n`, "\n"), "\n") {
		if line != "" && (!headText.MatchString(line) || strings.ContainsFunc(line, func(r rune) bool { return r < 0x20 || r == 0x7f })) {
			f.refuse("CS-WS-2", at+"CustomHeaders", `must be lines of "Name: value"`)
			break
		}
	}
	for _, suffix := range []string{"Url", "PostData", "CustomHeaders"} {
		for _, p := range Placeholders(d[suffix]) {
			if !slices.Contains(known, p) {
				f.warn("CS-AC-6", at+suffix, "uses the placeholder %"+p+"%, which the app is not known to fill in there")
				if i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, p) }); i >= 0 {
					f.mean(known[i])
				}
			}
		}
	}
	return f
}

var placeholderName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*`)

// Placeholders are the names a template of the vendor uses: "installid" of %installid%. What is of the account
// (%account[node]%) is known to be filled in and left out; of a function that is known, what stands in it counts, an
// unknown one counts as "name()".
func Placeholders(template string) []string {
	var names []string
	depth := 0 // functions that are open
	for rest := template; ; {
		i := strings.IndexByte(rest, '%')
		if i < 0 {
			return names
		}
		closes := i > 0 && rest[i-1] == ')' && depth > 0
		rest = rest[i+1:]
		if closes {
			depth--
			continue
		}
		name := placeholderName.FindString(rest)
		tail := rest[len(name):]
		switch {
		case name == "":
		case strings.HasPrefix(tail, "%"):
			names, rest = append(names, name), tail[1:]
		case name == "account" && strings.HasPrefix(tail, "["):
			if end := strings.Index(tail, "]%"); end >= 0 {
				rest = tail[end+2:]
			}
		case strings.HasPrefix(tail, "(") && strings.Contains(tail, ")%"):
			if !slices.Contains(vocabulary.Functions, name) {
				names = append(names, name+"()")
			}
			depth, rest = depth+1, tail[1:]
		}
	}
}
