// Package wire is the XML of Cloud Softphone (Acrobits): Account XML, Global External Provisioning and the error document,
// written and read.
//
// What always holds: equal documents make equal bytes, and Read of what Account and Global wrote finds the same document
// (a property test). Read trusts nothing: no DOCTYPE, entity, namespace or processing instruction, bounded size, depth and
// number of elements, and every complaint names a line and a column.
//
// Not here: what a document may say (domain.SoftphoneDocument.Check), HTTP (package softphone).
package wire

import (
	"bytes"
	"encoding/xml"
	"maps"
	"slices"
	"strconv"

	"ledgerline/domain"
)

// element is one XML element; it holds text or children.
type element struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Text     string     `xml:",chardata"`
	Children []element
}

func node(name, text string, children ...element) element {
	return element{XMLName: xml.Name{Local: name}, Text: text, Children: children}
}

// with adds an attribute; an empty value is none.
func (e element) with(name, value string) element {
	if value != "" {
		e.Attrs = append(slices.Clip(e.Attrs), xml.Attr{Name: xml.Name{Local: name}, Value: value})
	}
	return e
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// document is e as a whole XML document; equal elements make equal bytes.
func document(e element) []byte {
	var b bytes.Buffer
	b.WriteString(xml.Header)
	enc := xml.NewEncoder(&b)
	enc.Indent("", "  ")
	if err := enc.Encode(e); err != nil {
		panic("wire: write XML: " + err.Error()) // into memory, of names that were checked
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// Account is Account XML: title first, as the vendor prints it, then by name; node groups last.
func Account(d domain.SoftphoneDocument) []byte {
	root := node("account", "")
	names := slices.Sorted(maps.Keys(d.Nodes))
	if i := slices.Index(names, "title"); i > 0 {
		names = slices.Insert(slices.Delete(names, i, i+1), 0, "title")
	}
	for _, name := range names {
		root.Children = append(root.Children, node(name, d.Nodes[name]))
	}
	if len(d.BLF) > 0 {
		blf := node("blf", "")
		for _, uri := range d.BLF {
			blf.Children = append(blf.Children, node("uri", uri))
		}
		root.Children = append(root.Children, blf)
	}
	if len(d.Rewriting) > 0 {
		root.Children = append(root.Children, rewriting(d.Rewriting))
	}
	return document(root)
}

// Balance is the answer to a balance check: text that is shown as it stands.
func Balance(text string) []byte {
	return document(node("response", "", node("error", "0"), node("balanceString", text)))
}

// Global is Global External Provisioning, whole: the app drops what is not in it and has less than the replace priority,
// and is told to remove what it would keep. replace tells that there is a list of quick dials, even if it is empty now.
// Nothing to say is an empty root, which changes nothing.
func Global(d domain.SoftphoneDocument, remove []domain.SoftphoneEntry, replace bool) []byte {
	quick, actions := node("quickDial", ""), node("dialActions", "")
	if replace {
		quick = quick.with("maxQuickDialReplacePriority", number(d.ReplacePriority()))
	}
	for _, e := range remove {
		if e.Kind == domain.QuickDialKind {
			quick.Children = append(quick.Children, gone("item", e.ID, e.Priority))
		} else {
			actions.Children = append(actions.Children, gone("dialAction", e.ID, e.Priority))
		}
	}
	return provisioning(d, quick, actions)
}

// Level is Global External Provisioning of one level alone, as Read reads it: what it takes away of a level below stands
// as action="remove", and the replace priority only if the level has one.
func Level(d domain.SoftphoneDocument) []byte {
	quick := node("quickDial", "")
	if p := d.QuickDialReplacePriority; p != nil {
		quick = quick.with("maxQuickDialReplacePriority", strconv.Itoa(*p))
	}
	return provisioning(d, quick, node("dialActions", ""))
}

func gone(name, id string, priority int) element {
	return node(name, "").with("id", id).with("action", "remove").with("priority", number(priority))
}

// provisioning adds the document's quick dials and dial actions.
func provisioning(d domain.SoftphoneDocument, quick, actions element) []byte {
	for _, q := range d.QuickDials {
		item := node("item", "", node("displayName", q.DisplayName), node("uri", q.URI)).with("id", q.ID).with("priority", number(q.Priority))
		if q.Remove {
			item = gone("item", q.ID, q.Priority)
		} else if q.PortraitURL != "" {
			item.Children = append(item.Children, node("portraitUrl", q.PortraitURL))
		}
		quick.Children = append(quick.Children, item)
	}
	for _, a := range d.DialActions {
		action := node("dialAction", "", node("displayName", a.DisplayName), rewriting(a.Rules)).with("id", a.ID).with("priority", number(a.Priority))
		if a.Remove {
			action = gone("dialAction", a.ID, a.Priority)
		}
		actions.Children = append(actions.Children, action)
	}
	root := node("provisioning", "")
	for _, e := range []element{quick, actions} {
		if len(e.Children)+len(e.Attrs) > 0 {
			root.Children = append(root.Children, e)
		}
	}
	return document(root)
}

func rewriting(rules []domain.DialRule) element {
	e := node("rewriting", "")
	for _, r := range rules {
		e.Children = append(e.Children, rule(r))
	}
	return e
}

func rule(r domain.DialRule) element {
	rule := node("rule", "")
	terms := func(group, name string, terms []domain.DialTerm) {
		if len(terms) == 0 {
			return
		}
		g := node(group, "")
		for _, t := range terms {
			g.Children = append(g.Children, node(name, "").with("type", t.Type).with("param", t.Param))
		}
		rule.Children = append(rule.Children, g)
	}
	terms("conditions", "condition", r.Conditions)
	terms("actions", "action", r.Actions)
	return rule
}

// Error is the document that makes the app show a message of ours: 200 characters of it at most.
func Error(message string) []byte {
	if runes := []rune(message); len(runes) > 200 {
		message = string(runes[:199]) + "…"
	}
	return document(node("error", "", node("message", message)))
}
