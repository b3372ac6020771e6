// Package wire knows the formats of configuration files: how a value is written into one and how a
// file is read back. Phones read what Escape wrote, tests and the phone simulator read it with Parse. What must
// hold: whatever text goes through Escape, the file parses to the same keys, so no value can bring a setting of
// its own. There are no vendors' settings here.
package wire

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrSyntax: a file is not of its format. The text names the line.
var ErrSyntax = errors.New("malformed file")

// Entry is one setting of a file.
type Entry struct{ Key, Value string }

type format struct {
	escape func(string) string
	parse  func([]byte) ([]Entry, error)
	// finish makes the bytes of a file that is not UTF-8 text, for the phone of that MAC; nil for all others.
	finish func(text []byte, mac string) ([]byte, error)
	// holds is Holds for a format that writes some characters in a way of its own; nil where escaping changes what it cannot
	// keep and markup only.
	holds func(string) bool
}

var formats = map[string]format{
	"yealink":      {escape: flatten, parse: parseYealink},
	"yealink-boot": {escape: flatten, parse: parseYealinkBoot},
	"xml":          {escape: escapeXML, parse: parseXML},
	"aastra":       {escape: flatten, parse: parseAastra},

	grandstreamBinary: {escape: escapeXML, parse: parseGrandstream, finish: finishGrandstream},
}

// Formats lists the known formats, sorted.
func Formats() []string {
	names := make([]string, 0, len(formats))
	for n := range formats {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Escape writes text so that the format reads it as one value. Line breaks become blanks and other
// control characters are dropped: no format here has a way to keep them. An unknown format is flattened only.
func Escape(name, s string) string {
	f, ok := formats[name]
	if !ok {
		return flatten(s)
	}
	return f.escape(s)
}

// Holds tells whether a file of the format says s as it is: no character has to be dropped or replaced by another.
func Holds(name, s string) bool {
	if holds := formats[name].holds; holds != nil {
		return holds(s)
	}
	e := Escape(name, s)
	return e == s || html.UnescapeString(e) == s // markup is read back
}

// Finish makes the bytes of a rendered file, for formats that are not UTF-8 text; the text itself for all others. mac is
// the phone's address as twelve hex digits. Errors are ErrSyntax.
func Finish(name string, text []byte, mac string) ([]byte, error) {
	if finish := formats[name].finish; finish != nil {
		return finish(text, mac)
	}
	return text, nil
}

// Parse reads a file of the named format into its entries, in order of appearance. Errors are ErrSyntax.
func Parse(name string, data []byte) ([]Entry, error) {
	f, ok := formats[name]
	if !ok {
		return nil, fmt.Errorf("%w: format %q is not known", ErrSyntax, name)
	}
	return f.parse(data)
}

// Keys is the sorted keys of entries, repeated ones too.
func Keys(entries []Entry) []string {
	keys := make([]string, len(entries))
	for i, e := range entries {
		keys[i] = e.Key
	}
	slices.Sort(keys)
	return keys
}

// flatten makes s one line of valid UTF-8.
func flatten(s string) string {
	if isPlain(s) {
		return s
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "")
	}
	if !strings.ContainsFunc(s, isBreakOrControl) {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t' || r == '\u2028' || r == '\u2029' || r == '\u0085':
			return ' '
		case isBreakOrControl(r):
			return -1
		}
		return r
	}, s)
}

// isPlain tells whether s is nothing but printable ASCII, as most values are.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func isBreakOrControl(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == '\ufffe' || r == '\uffff'
}

// FileName makes s usable as a path below a phone's base: what is neither letter, digit nor one of . _ - : / becomes "_".
func FileName(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._-:/", r)) {
			return r
		}
		return '_'
	}, s)
}

// parseYealink reads "name = value" lines after "#!version:1.0.0.1" (Auto Provisioning Guide V81+).
func parseYealink(data []byte) ([]Entry, error) {
	var out []Entry
	err := lines(data, "#!version:", func(n int, line string) error {
		name, value, ok := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" || strings.ContainsAny(name, " \t#") {
			return fmt.Errorf("%w: line %d is not name = value", ErrSyntax, n)
		}
		out = append(out, Entry{name, strings.TrimSpace(value)})
		return nil
	})
	return out, err
}

// parseYealinkBoot reads a .boot file: include:config lines and options.
func parseYealinkBoot(data []byte) ([]Entry, error) {
	var out []Entry
	err := lines(data, "#!version:", func(n int, line string) error {
		if rest, ok := strings.CutPrefix(line, "include:config"); ok {
			name := strings.TrimSpace(rest)
			if len(name) < 2 || !(name[0] == '"' && name[len(name)-1] == '"' || name[0] == '<' && name[len(name)-1] == '>') {
				return fmt.Errorf("%w: line %d: the file to include must stand in quotes or angle brackets", ErrSyntax, n)
			}
			out = append(out, Entry{"include:config", name[1 : len(name)-1]})
			return nil
		}
		name, value, ok := strings.Cut(line, "=")
		if name = strings.TrimSpace(name); !ok || name == "" || strings.Contains(name, " ") {
			return fmt.Errorf("%w: line %d is neither include:config nor name = value", ErrSyntax, n)
		}
		out = append(out, Entry{name, strings.TrimSpace(value)})
		return nil
	})
	return out, err
}

// lines hands out the lines that are neither blank nor a comment; the first one must begin with head.
func lines(data []byte, head string, each func(n int, line string) error) error {
	if !utf8.Valid(data) || bytes.ContainsAny(data, "\x00\r") {
		return fmt.Errorf("%w: not plain UTF-8 lines", ErrSyntax)
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimSpace(line)
		if n == 1 && !strings.HasPrefix(line, head) {
			return fmt.Errorf("%w: the first line must begin with %s", ErrSyntax, head)
		}
		if line == "" || line[0] == '#' {
			continue
		}
		if err := each(n, line); err != nil {
			return err
		}
	}
	if n == 0 {
		return fmt.Errorf("%w: empty", ErrSyntax)
	}
	return nil
}

var xmlEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#39;")

// escapeXML serves text and attribute values alike.
func escapeXML(s string) string { return xmlEscaper.Replace(flatten(s)) }

const maxXMLDepth = 32

// parseXML flattens a document: the key of an element is its path, "settings/phone-settings/user_name[idx=1]", its
// value the text; each attribute but those in the brackets (naming) is a
// key of its own, "…@url". Elements that only hold others are no entries.
func parseXML(data []byte) ([]Entry, error) {
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("%w: not UTF-8", ErrSyntax)
	}
	dec := xml.NewDecoder(bytes.NewReader(data))
	var out []Entry
	type element struct {
		key    string
		text   strings.Builder
		parent bool
	}
	var stack []*element
	roots := 0
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %v", ErrSyntax, err)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			key := elementName(tok)
			if len(stack) > 0 {
				top := stack[len(stack)-1]
				top.parent = true
				key = top.key + "/" + key
			} else if roots++; roots > 1 {
				return nil, fmt.Errorf("%w: more than one root element", ErrSyntax)
			}
			if len(stack) >= maxXMLDepth {
				return nil, fmt.Errorf("%w: nested more than %d deep", ErrSyntax, maxXMLDepth)
			}
			stack = append(stack, &element{key: key})
			seen := map[string]bool{}
			for _, a := range tok.Attr {
				if seen[a.Name.Local] {
					return nil, fmt.Errorf("%w: attribute %s is there twice in %s", ErrSyntax, a.Name.Local, key)
				}
				seen[a.Name.Local] = true
				if !slices.Contains(naming, a.Name.Local) {
					out = append(out, Entry{key + "@" + a.Name.Local, a.Value})
				}
			}
		case xml.EndElement:
			top := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			text := strings.TrimSpace(top.text.String())
			if !top.parent {
				out = append(out, Entry{top.key, text})
			} else if text != "" {
				return nil, fmt.Errorf("%w: text between the elements of %s", ErrSyntax, top.key)
			}
		case xml.CharData:
			if len(stack) > 0 {
				stack[len(stack)-1].text.Write(tok)
			} else if strings.TrimSpace(string(tok)) != "" {
				return nil, fmt.Errorf("%w: text outside the root element", ErrSyntax)
			}
		case xml.Directive:
			return nil, fmt.Errorf("%w: a document type is not allowed", ErrSyntax)
		}
	}
	if roots == 0 {
		return nil, fmt.Errorf("%w: no root element", ErrSyntax)
	}
	return out, nil
}

// naming attributes tell elements of one name apart.
var naming = []string{"idx", "index", "id", "name", "context", "priority", "button", "At"}

func elementName(e xml.StartElement) string {
	name := e.Name.Local
	for _, a := range e.Attr {
		if slices.Contains(naming, a.Name.Local) {
			name += "[" + a.Name.Local + "=" + a.Value + "]"
		}
	}
	return name
}
