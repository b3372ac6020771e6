package wire

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// obihaiList is Obihai's ParameterList: objects of named parameters, in XML after TR-104. A parameter is reset to its default
// by Value X_UseDefault="Yes".
const obihaiList = "obihai"

func init() { formats[obihaiList] = format{escape: escapeXML, parse: parseObihai} }

// parseObihai reads the parameters: the key is the object's path, which ends in a dot, and the parameter's name; one reset to
// its default has no value.
func parseObihai(data []byte) ([]Entry, error) {
	if _, err := parseXML(data); err != nil { // one well-formed document, UTF-8, no document type
		return nil, err
	}
	type value struct {
		Text    string `xml:",chardata"`
		Default string `xml:"X_UseDefault,attr"`
	}
	var list struct {
		XMLName xml.Name `xml:"ParameterList"`
		Objects []struct {
			Name       string `xml:"Name"`
			Parameters []struct {
				Name  string  `xml:"Name"`
				Value []value `xml:"Value"`
			} `xml:"ParameterValueStruct"`
		} `xml:"Object"`
	}
	dec := xml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&list); err != nil && err != io.EOF {
		return nil, fmt.Errorf("%w: %v", ErrSyntax, err)
	}
	var out []Entry
	for _, o := range list.Objects {
		name := strings.TrimSpace(o.Name)
		if !strings.HasSuffix(name, ".") || !utf8.ValidString(name) || strings.ContainsAny(name, " \t\n") {
			return nil, fmt.Errorf("%w: %q is no object", ErrSyntax, name)
		}
		for _, p := range o.Parameters {
			if p.Name == "" || len(p.Value) != 1 {
				return nil, fmt.Errorf("%w: a parameter of %s without name or with other than one value", ErrSyntax, name)
			}
			out = append(out, Entry{name + strings.TrimSpace(p.Name), p.Value[0].Text})
		}
	}
	return out, nil
}
