package phonesim

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
)

const maxXMLDepth = 64

// node is an XML element as a phone's small parser sees it: no namespaces, no directives.
type node struct {
	name     string
	attrs    map[string]string
	text     []byte // character data directly inside
	children []*node
	line     int
}

// parseXML reads one well-formed UTF-8 document with one root. Directives (DTD) are refused, as are names
// with a prefix and attributes given twice.
func parseXML(data []byte) (*node, error) {
	dec := xml.NewDecoder(bytes.NewReader(data))
	var root *node
	var open []*node
	for {
		tok, err := dec.RawToken()
		line, _ := dec.InputPos()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, xmlError(line, dec.InputOffset(), err)
		}
		switch t := tok.(type) {
		case xml.StartElement:
			n, err := newNode(t, line)
			if err != nil {
				return nil, err
			}
			switch {
			case len(open) == maxXMLDepth:
				return nil, malformed(line, "elements nested more than %d deep", maxXMLDepth)
			case len(open) > 0:
				parent := open[len(open)-1]
				parent.children = append(parent.children, n)
			case root != nil:
				return nil, malformed(line, "second root <%.40s>", n.name)
			default:
				root = n
			}
			open = append(open, n)
		case xml.EndElement:
			if len(open) == 0 || open[len(open)-1].name != t.Name.Local || t.Name.Space != "" {
				return nil, malformed(line, "</%.40s> at offset %d closes nothing", t.Name.Local, dec.InputOffset())
			}
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				n := open[len(open)-1]
				n.text = append(n.text, t...)
			} else if strings.TrimSpace(strings.TrimPrefix(string(t), "\ufeff")) != "" {
				return nil, malformed(line, "text outside the root")
			}
		case xml.Directive:
			return nil, malformed(line, "directive refused")
		}
	}
	line := 1 + bytes.Count(data, []byte("\n"))
	if len(open) > 0 {
		last := open[len(open)-1]
		return nil, malformed(line, "<%.40s> of line %d is not closed", last.name, last.line)
	}
	if root == nil {
		return nil, malformed(line, "no XML document")
	}
	return root, nil
}

func xmlError(line int, offset int64, err error) error {
	if s, ok := errors.AsType[*xml.SyntaxError](err); ok {
		return malformed(s.Line, "offset %d: %.80s", offset, s.Msg)
	}
	return malformed(line, "offset %d: %.80s", offset, err.Error())
}

func newNode(t xml.StartElement, line int) (*node, error) {
	n := &node{name: t.Name.Local, attrs: map[string]string{}, line: line}
	if t.Name.Space != "" {
		return nil, malformed(line, "<%.40s:%.40s> has a prefix", t.Name.Space, n.name)
	}
	for _, a := range t.Attr {
		name := a.Name.Local
		if a.Name.Space != "" {
			name = a.Name.Space + ":" + name
		}
		if _, twice := n.attrs[name]; twice {
			return nil, malformed(line, "attribute %.40q twice in <%.40s>", name, n.name)
		}
		n.attrs[name] = a.Value
	}
	return n, nil
}

// leaf is the text of an element that must have no elements inside.
func (n *node) leaf() (string, error) {
	if len(n.children) > 0 {
		return "", malformed(n.children[0].line, "<%.40s> inside <%.40s>", n.children[0].name, n.name)
	}
	return n.trimmed(), nil
}

// bare refuses text between the elements of a list.
func (n *node) bare() error {
	if n.trimmed() != "" {
		return malformed(n.line, "text between the elements of <%.40s>", n.name)
	}
	return nil
}

// trimmed is the element's own text without the blanks around it.
func (n *node) trimmed() string { return string(bytes.TrimSpace(n.text)) }
