package wire

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// gigasetItems is the ProviderFrame of Gigaset's N510 and N720: XML in ISO-8859-1, one element per setting, texts in quotes
// of their own inside the value. Only ASCII is written; the rest stands as numbers, which all XML readers know.
const gigasetItems = "gigaset"

func init() { formats[gigasetItems] = format{escape: escapeGigaset, parse: parseGigaset} }

// escapeGigaset is escapeXML in ASCII. A double quote would end the text in the value and becomes a single one.
func escapeGigaset(s string) string {
	s = escapeXML(strings.ReplaceAll(s, `"`, "'"))
	if isPlain(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if r < 0x80 {
			b.WriteRune(r)
		} else {
			b.WriteString("&#" + strconv.Itoa(int(r)) + ";")
		}
	}
	return b.String()
}

// parseGigaset reads the settings: an element with an ID under that, any other with a value under its own name. Texts come
// without their quotes.
func parseGigaset(data []byte) ([]Entry, error) {
	if i := slices.IndexFunc(data, func(c byte) bool { return c >= 0x80 }); i >= 0 {
		return nil, fmt.Errorf("%w: byte %d is not ASCII", ErrSyntax, i)
	}
	dec := xml.NewDecoder(bytes.NewReader(data))
	dec.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	var out []Entry
	root := ""
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %v", ErrSyntax, err)
		}
		e, ok := tok.(xml.StartElement)
		if !ok {
			if text, isText := tok.(xml.CharData); isText && strings.TrimSpace(string(text)) != "" {
				return nil, fmt.Errorf("%w: text between the elements", ErrSyntax)
			}
			continue
		}
		if root == "" {
			root = e.Name.Local
		}
		entry, has := Entry{Key: e.Name.Local}, false
		for _, a := range e.Attr {
			switch a.Name.Local {
			case "ID":
				entry.Key = a.Value
			case "value":
				entry.Value, has = a.Value, true
			}
		}
		if !has {
			continue
		}
		if inner, quoted := strings.CutPrefix(entry.Value, `"`); quoted {
			inner, closed := strings.CutSuffix(inner, `"`)
			if !closed || strings.Contains(inner, `"`) {
				return nil, fmt.Errorf("%w: the text of %s ends within it", ErrSyntax, entry.Key)
			}
			entry.Value = inner
		}
		out = append(out, entry)
	}
	if root != "ProviderFrame" {
		return nil, fmt.Errorf("%w: no ProviderFrame", ErrSyntax)
	}
	return out, nil
}
