package wire

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"ledgerline/adapters/mbg/oauth"
	"ledgerline/domain"
)

// A body is a tree of map[string]any, []any and scalars, whatever it was written in. An XML element is its text, or
// an object of its attributes ("@id") and children; elements that repeat form a list.

// maxDepth bounds the nesting of an answer.
const maxDepth = 64

// Decode reads a body of the codec.
func Decode(codec string, body []byte) (any, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	if codec == "xml" {
		return decodeXML(body)
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	return v, nil
}

func decodeXML(body []byte) (any, error) {
	dec := xml.NewDecoder(bytes.NewReader(body))
	for {
		t, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("read XML: %w", err)
		}
		switch t := t.(type) {
		case xml.Directive:
			return nil, errors.New("read XML: it declares a document type")
		case xml.StartElement:
			v, err := element(dec, t, 1)
			if err != nil {
				return nil, fmt.Errorf("read XML: %w", err)
			}
			return map[string]any{t.Name.Local: v}, nil
		}
	}
}

func element(dec *xml.Decoder, start xml.StartElement, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errors.New("it is nested too deep")
	}
	object := map[string]any{}
	for _, a := range start.Attr {
		object["@"+a.Name.Local] = a.Value
	}
	var text strings.Builder
	for {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		switch t := t.(type) {
		case xml.Directive:
			return nil, errors.New("it declares a document type")
		case xml.CharData:
			text.Write(t)
		case xml.StartElement:
			v, err := element(dec, t, depth+1)
			if err != nil {
				return nil, err
			}
			switch before := object[t.Name.Local].(type) {
			case nil:
				object[t.Name.Local] = v
			case []any:
				object[t.Name.Local] = append(before, v)
			default:
				object[t.Name.Local] = []any{before, v}
			}
		case xml.EndElement:
			if len(object) == 0 {
				return strings.TrimSpace(text.String()), nil
			}
			return object, nil
		}
	}
}

// Encode writes an object of ours: name is the XML root.
func Encode(codec, root string, object map[string]any) (body []byte, contentType string, err error) {
	switch codec {
	case "xml":
		var b bytes.Buffer
		if err := writeXML(&b, root, object); err != nil {
			return nil, "", err
		}
		return b.Bytes(), "application/xml", nil
	case "form":
		var pairs []string
		for _, k := range slices.Sorted(maps.Keys(object)) {
			pairs = append(pairs, oauth.Encode(k)+"="+oauth.Encode(Scalar(object[k])))
		}
		return []byte(strings.Join(pairs, "&")), "application/x-www-form-urlencoded", nil
	}
	body, err = json.Marshal(object)
	return body, "application/json", err
}

func writeXML(b *bytes.Buffer, name string, v any) error {
	if list, ok := v.([]any); ok {
		for _, item := range list {
			if err := writeXML(b, name, item); err != nil {
				return err
			}
		}
		return nil
	}
	b.WriteString("<" + name)
	object, isObject := v.(map[string]any)
	keys := slices.Sorted(maps.Keys(object))
	for _, k := range keys {
		if strings.HasPrefix(k, "@") {
			b.WriteString(" " + k[1:] + `="`)
			if err := xml.EscapeText(b, []byte(Scalar(object[k]))); err != nil {
				return err
			}
			b.WriteByte('"')
		}
	}
	b.WriteByte('>')
	if !isObject {
		if err := xml.EscapeText(b, []byte(Scalar(v))); err != nil {
			return err
		}
	}
	for _, k := range keys {
		if !strings.HasPrefix(k, "@") {
			if err := writeXML(b, k, object[k]); err != nil {
				return err
			}
		}
	}
	b.WriteString("</" + name + ">")
	return nil
}

// At follows a JSON pointer; nil where there is nothing.
func At(tree any, pointer string) any {
	if pointer == "" || pointer == "/" {
		return tree
	}
	for part := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		switch v := tree.(type) {
		case map[string]any:
			tree = v[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(v) {
				return nil
			}
			tree = v[i]
		default:
			return nil
		}
	}
	return tree
}

// Items are the objects of a list; one alone may stand without a list, as XML has it.
func Items(tree any, pointer string) ([]map[string]any, error) {
	var list []any
	switch v := At(tree, pointer).(type) {
	case nil:
		if At(tree, parent(pointer)) == nil {
			return nil, fmt.Errorf("the answer has no %s", pointer)
		}
	case string: // an empty XML element
		if v != "" {
			return nil, fmt.Errorf("%s is text, not a list", pointer)
		}
	case []any:
		list = v
	default:
		list = []any{v}
	}
	out := make([]map[string]any, len(list))
	for i, v := range list {
		object, ok := v.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s holds something that is no object", pointer)
		}
		out[i] = object
	}
	return out, nil
}

func parent(pointer string) string {
	if i := strings.LastIndexByte(pointer, '/'); i > 0 {
		return pointer[:i]
	}
	return "/"
}

// Scalar is the text of a value.
func Scalar(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case json.Number:
		return v.String()
	case map[string]any:
		return ""
	}
	return fmt.Sprint(v)
}

// ReadLimited reads a body of at most limit bytes.
func ReadLimited(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("answer is larger than %d bytes", limit)
	}
	return b, err
}

// Of reads a field of an object.
func (f Field) Of(object map[string]any) any {
	if strings.HasPrefix(f.Wire, "/") {
		return At(object, f.Wire)
	}
	return object[f.Wire]
}

// Truth reads a boolean however it is written.
func (f Field) Truth(v any) bool {
	text := strings.ToLower(Scalar(v))
	if f.True != nil {
		return text == strings.ToLower(Scalar(f.True))
	}
	return slices.Contains([]string{"true", "1", "yes", "on", "enabled"}, text)
}

// secretive are the names of values that nobody is to read in a trace.
const secretive = `[\w:.@-]*(?:pass|pwd|secret|token|verifier|credential)[\w:.@-]*`

var maskers = []*regexp.Regexp{
	regexp.MustCompile(`(?i)("` + secretive + `"\s*:\s*)("(?:[^"\\]|\\.)*"?|[^\s,}\]]+)`),
	regexp.MustCompile(`(?i)(<` + secretive + `(?:\s[^<>]*)?>)[^<]+`),
	regexp.MustCompile(`(?i)(` + secretive + `\s*=\s*)("[^"]*"?|'[^']*'?|[^&\s<>]+)`),
}

// Masked is a text of a gateway, whole or cut off, without the values of names that speak of secrets.
func Masked(text string) string {
	for _, m := range maskers {
		text = m.ReplaceAllString(text, "${1}"+domain.Redacted)
	}
	return text
}
