package wire

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

var (
	// ErrNoSet: the format has no place for a single setting: it is a script, or of another kind.
	ErrNoSet = errors.New("format takes no single settings")
	// ErrKey: the key cannot stand in a file of the format.
	ErrKey = errors.New("is no name of a setting in this format")
)

// Set gives one setting of a text, before Finish, a value: in place where the file has it (had is true), else behind the
// others. key is as Parse gives it; of an XML document the end of it will do ("user_name[idx=1]"). Whatever key and value are,
// no other setting comes, goes or changes: else ErrKey. Errors also: ErrNoSet, ErrSyntax.
func Set(name string, text []byte, key, value string) (out []byte, had bool, err error) {
	set, parse := setLine(lineStyles[name], name), formats[name].parse
	switch name {
	case "xml", grandstreamBinary:
		set, parse = setXML, parseXML
	case iniLatin1:
		parse = parseINI // the text is UTF-8 until Finish
	}
	if _, ok := lineStyles[name]; !ok && name != "xml" && name != grandstreamBinary {
		return nil, false, fmt.Errorf("%s: %w", name, ErrNoSet)
	}
	before, err := parse(text)
	if err != nil {
		return nil, false, err
	}
	if out, had, err = set(text, key, value); err != nil {
		return nil, had, err
	}
	after, err := parse(out)
	if err != nil || !differsBy(before, after, key, had) {
		return nil, had, fmt.Errorf("%q %w", key, ErrKey)
	}
	return out, had, nil
}

// Has tells whether a text, before Finish, has a setting that Set would give a value in place.
func Has(name string, text []byte, key string) bool {
	_, had, err := Set(name, text, key, "")
	return had && err == nil
}

// differsBy tells whether after is before but for the value of key, or with key on top when it had not been there.
func differsBy(before, after []Entry, key string, had bool) bool {
	is := func(e Entry) bool { return e.Key == key || strings.HasSuffix(e.Key, "/"+key) }
	rest := func(all []Entry) []Entry { return slices.DeleteFunc(slices.Clone(all), is) }
	n, m := len(before)-len(rest(before)), len(after)-len(rest(after))
	return slices.Equal(rest(before), rest(after)) && m >= 1 && (m == n || !had && m == n+1)
}

// lineStyle is a format of lines: what a line's key is, and how a line is written.
type lineStyle struct {
	key      func(line string) (string, bool)
	write    func(key, value string) string
	sections bool // keys are "section/name", below [section] lines
}

func cutKey(sep string) func(string) (string, bool) {
	return func(line string) (string, bool) {
		k, _, ok := strings.Cut(line, sep)
		return strings.TrimSpace(k), ok
	}
}

var lineStyles = map[string]lineStyle{
	"yealink": {key: cutKey("="), write: func(k, v string) string { return k + " = " + v }},
	keyValue:  {key: cutKey("="), write: func(k, v string) string { return k + " = " + v }},
	"aastra": {write: func(k, v string) string { return k + ": " + v }, key: func(line string) (string, bool) {
		k, _, ok := strings.Cut(line, ":")
		return strings.TrimPrefix(k, "!"), ok
	}},
	panasonicLines: {key: cutKey("="), write: func(k, v string) string { return k + `="` + v + `"` }},
	ciscoLines:     {key: cutKey(":"), write: func(k, v string) string { return k + `: "` + v + `"` }},
	avayaSettings: {write: func(k, v string) string { return "SET " + k + ` "` + v + `"` }, key: func(line string) (string, bool) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "SET" {
			return "", false
		}
		return f[1], true
	}},
	avayaPairs: {key: cutKey(" "), write: func(k, v string) string { return strings.TrimSpace(k + " " + v) }, sections: true},
	iniLines:   {key: cutKey("="), write: func(k, v string) string { return k + "=" + v }, sections: true},
	iniLatin1:  {key: cutKey("="), write: func(k, v string) string { return k + "=" + v }, sections: true},
	properties: {write: func(k, v string) string { return escapeProperties(k) + "=" + v }, key: func(line string) (string, bool) {
		k, _, err := unescapeProperties(line, ":= ")
		return k, err == nil
	}},
}

// setLine changes the line of a key, or adds one at the end of its section, or of the file.
func setLine(style lineStyle, name string) func([]byte, string, string) ([]byte, bool, error) {
	return func(text []byte, key, value string) ([]byte, bool, error) {
		if flatten(key) != key || strings.TrimSpace(key) != key || key == "" {
			return nil, false, fmt.Errorf("%q %w", key, ErrKey)
		}
		section, short := "", key
		if i := strings.LastIndexByte(key, '/'); style.sections && i >= 0 {
			section, short = key[:i], key[i+1:]
		}
		line := style.write(short, Escape(name, value))
		lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		at, in, had := -1, "", false // where a new line goes: behind the last of its section
		if section == "" && !style.sections {
			at = len(lines)
		}
		for i, l := range lines {
			l = strings.TrimSpace(l)
			if inner, ok := strings.CutPrefix(l, "["); ok && style.sections {
				in = strings.TrimSuffix(inner, "]")
			}
			if in == section && style.sections && l != "" {
				at = i + 1
			}
			if l == "" || l[0] == '#' || l[0] == '[' && style.sections {
				continue
			}
			if k, ok := style.key(l); ok && k == short && in == section {
				lines[i], had = line, true
			}
		}
		switch {
		case had:
		case at < 0:
			lines = append(lines, "["+section+"]", line)
		default:
			lines = slices.Insert(lines, at, line)
		}
		return []byte(strings.Join(lines, "\n") + "\n"), had, nil
	}
}

// xmlName is the last part of a key: an element's name with its naming attributes, or one with an attribute.
var xmlName = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_.-]*)((?:\[[A-Za-z]+=[^\[\]<>&"]*\])*)(?:@([A-Za-z_][A-Za-z0-9_.:-]*))?$`)

var xmlNaming = regexp.MustCompile(`\[([A-Za-z]+)=([^\[\]]*)\]`)

type xmlElement struct {
	key         string
	start, body int  // offsets of the start tag and of what is behind it
	leaf        bool // holds no other element
}

// setXML changes the text of an element, or an attribute, or adds an element to the one that would hold it: named by the
// key, else the one that holds the document's last setting.
func setXML(text []byte, key, value string) ([]byte, bool, error) {
	path, last := "", key
	if i := strings.LastIndexByte(key, '/'); i >= 0 {
		path, last = key[:i], key[i+1:]
	}
	f := xmlName.FindStringSubmatch(last)
	if f == nil {
		return nil, false, fmt.Errorf("%q %w", key, ErrKey)
	}
	attr := f[3]
	element := strings.TrimSuffix(key, "@"+attr)
	value = escapeXML(value)
	dec := xml.NewDecoder(bytes.NewReader(text))
	var stack []*xmlElement
	parentEnd, lastEnd := -1, -1
	var holder *xmlElement // of the last setting so far
	matches := func(k, want string) bool { return want != "" && (k == want || strings.HasSuffix(k, "/"+want)) }
	for {
		from := int(dec.InputOffset())
		tok, err := dec.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, false, fmt.Errorf("%w: %v", ErrSyntax, err)
		}
		to := int(dec.InputOffset())
		switch tok := tok.(type) {
		case xml.StartElement:
			e := &xmlElement{key: elementName(tok), start: from, body: to, leaf: true}
			if len(stack) > 0 {
				top := stack[len(stack)-1]
				e.key, top.leaf = top.key+"/"+e.key, false
			}
			stack = append(stack, e)
			if attr != "" && matches(e.key, element) {
				tag, had := setAttr(string(text[from:to]), attr, value)
				return splice(text, from, to, tag), had, nil
			}
		case xml.EndElement:
			e := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			switch {
			case attr == "" && matches(e.key, element) && e.leaf:
				tag := string(text[e.start:e.body])
				if open, closed := strings.CutSuffix(tag, "/>"); closed {
					return splice(text, e.start, e.body, open+">"+value+"</"+tok.Name.Local+">"), true, nil
				}
				return splice(text, e.body, from, value), true, nil
			case matches(e.key, path):
				parentEnd = from
			}
			if e.leaf && len(stack) > 0 {
				holder = stack[len(stack)-1]
			}
			if e == holder {
				lastEnd = from
			}
		}
	}
	if path == "" {
		parentEnd = lastEnd
	}
	if parentEnd < 0 {
		return nil, false, fmt.Errorf("%q %w: no element would hold it", key, ErrKey)
	}
	var tag strings.Builder
	tag.WriteString("<" + f[1])
	for _, n := range xmlNaming.FindAllStringSubmatch(f[2], -1) {
		tag.WriteString(" " + n[1] + `="` + escapeXML(n[2]) + `"`)
	}
	if attr != "" {
		tag.WriteString(" " + attr + `="` + value + "\"/>\n")
	} else {
		tag.WriteString(">" + value + "</" + f[1] + ">\n")
	}
	return splice(text, parentEnd, parentEnd, tag.String()), false, nil
}

func splice(text []byte, from, to int, by string) []byte {
	return slices.Concat(text[:from], []byte(by), text[to:])
}

// setAttr gives an attribute of a start tag a value, already escaped. had tells whether it was there.
func setAttr(tag, attr, value string) (out string, had bool) {
	at := regexp.MustCompile(`(\s` + regexp.QuoteMeta(attr) + `\s*=\s*)("[^"]*"|'[^']*')`)
	if loc := at.FindStringSubmatchIndex(tag); loc != nil {
		return tag[:loc[4]] + `"` + value + `"` + tag[loc[5]:], true
	}
	end := ">"
	if strings.HasSuffix(tag, "/>") {
		end = "/>"
	}
	return strings.TrimRight(strings.TrimSuffix(tag, end), " \n") + " " + attr + `="` + value + `"` + end, false
}
