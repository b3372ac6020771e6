package wire

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"ledgerline/domain"
)

// Limits of an XML document that is read.
const (
	MaxXML      = 512 << 10
	maxDepth    = 12
	maxElements = 20_000
	maxAttrs    = 20
)

// found is an element as it was read.
type found struct {
	name  string
	attrs []xml.Attr
	text  string // once the element has ended
	kids  []*found
	place domain.SoftphonePlace
}

// reader makes a document of elements, and collects what is wrong with them.
type reader struct{ domain.SoftphoneImport }

// Read reads Account XML (root account), or Global External Provisioning (a root of any other name). What it cannot read,
// or would lose, is among the findings; with an error among them the document is not to be used.
func Read(data []byte) domain.SoftphoneImport {
	r := &reader{domain.SoftphoneImport{Places: make(map[string]domain.SoftphonePlace)}}
	root := r.parse(data)
	switch {
	case root == nil:
	case root.name == "account":
		r.Account = true
		r.account(root)
	case root.name == "accounts":
		r.refuse("CS-AC-7", "accounts", root.place, "must be one account: apps of Cloud Softphone take no more")
	case root.name == "error":
		r.refuse("CS-GEP-1", "error", root.place, "is an error, not something to provision")
	default:
		r.provisioning(root)
	}
	return r.SoftphoneImport
}

func (r *reader) report(refuse bool, code, at string, p domain.SoftphonePlace, text, hint string) {
	r.Findings = append(r.Findings, domain.SoftphoneFinding{Code: code, Error: refuse, At: at, Text: text, Hint: hint, Line: p.Line, Column: p.Column})
}

func (r *reader) refuse(code, at string, p domain.SoftphonePlace, text string) {
	r.report(true, code, at, p, text, "")
}

// parse reads the elements; nil when it is no XML that is taken, with a finding.
func (r *reader) parse(data []byte) (root *found) {
	if len(data) > MaxXML {
		r.refuse("CS-XML-1", "document", domain.SoftphonePlace{Line: 1, Column: 1}, fmt.Sprintf("must not exceed %d bytes", MaxXML))
		return nil
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	dec := xml.NewDecoder(bytes.NewReader(data))
	var open []*found
	var texts [][]byte // of the open elements: comments may cut a text into very many pieces
	at := func() string {
		names := make([]string, len(open))
		for i, e := range open {
			names[i] = e.name
		}
		return strings.Join(names, "/")
	}
	elements := 0
	for {
		offset := dec.InputOffset()
		line, column := dec.InputPos()
		place := domain.SoftphonePlace{Line: line, Column: column}
		bad := func(text string) *found {
			path := at()
			if path == "" {
				path = "document"
			}
			r.refuse("CS-XML-1", path, place, text)
			return nil
		}
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			line, column = dec.InputPos()
			place = domain.SoftphonePlace{Line: line, Column: column}
			var syntax *xml.SyntaxError
			switch {
			case errors.As(err, &syntax) && strings.Contains(syntax.Msg, "illegal character"), errors.As(err, &syntax) && strings.Contains(syntax.Msg, "invalid UTF-8"):
				bad("holds characters that XML 1.0 in UTF-8 cannot say")
				r.Findings[len(r.Findings)-1].Code = "CS-XML-2"
				return nil
			case errors.As(err, &syntax):
				return bad("is no well-formed XML")
			}
			return bad("must be XML 1.0 in UTF-8")
		}
		switch t := token.(type) {
		case xml.Directive:
			return bad("must not have a DOCTYPE")
		case xml.ProcInst:
			if t.Target != "xml" || offset > 0 {
				return bad("must not have processing instructions")
			}
		case xml.CharData:
			if len(open) > 0 {
				texts[len(texts)-1] = append(texts[len(texts)-1], t...)
			} else if len(bytes.TrimSpace(t)) > 0 {
				return bad("has text outside its root")
			}
		case xml.StartElement:
			e := &found{name: t.Name.Local, attrs: slices.Clone(t.Attr), place: place}
			if elements++; elements > maxElements || len(open) >= maxDepth || len(t.Attr) > maxAttrs {
				return bad(fmt.Sprintf("must not be deeper than %d, have more than %d elements, or %d attributes of one", maxDepth, maxElements, maxAttrs))
			}
			if t.Name.Space != "" {
				return bad("must not use namespaces")
			}
			seen := make(map[xml.Name]bool)
			for _, a := range t.Attr {
				switch {
				case a.Name.Local == "xmlns" || a.Name.Space != "":
					return bad("must not use namespaces")
				case seen[a.Name]:
					return bad("has an attribute twice")
				}
				seen[a.Name] = true
			}
			switch {
			case len(open) > 0:
				up := open[len(open)-1]
				up.kids = append(up.kids, e)
			case root != nil:
				code := "CS-GEP-1"
				if root.name == "account" || e.name == "account" {
					code = "CS-AC-7"
				}
				r.refuse(code, e.name, place, "is a second root: a document has exactly one")
				return nil
			default:
				root = e
			}
			open, texts = append(open, e), append(texts, nil)
		case xml.EndElement:
			last := len(open) - 1
			open[last].text = string(texts[last])
			open, texts = open[:last], texts[:last]
		}
	}
	if root == nil {
		r.refuse("CS-GEP-1", "document", domain.SoftphonePlace{Line: 1, Column: 1}, "has no root")
	}
	return root
}

// only reports what of an element is not among the known children and attributes; one that differs in case only is an error.
func (r *reader) only(e *found, at, code string, kids, attrs []string) {
	if kids != nil && strings.TrimSpace(e.text) != "" {
		r.report(false, code, at, e.place, "has text, which means nothing here", "")
	}
	look := func(what, name string, known []string, place domain.SoftphonePlace) {
		if slices.Contains(known, name) {
			return
		}
		i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, name) })
		if i >= 0 {
			r.report(true, code, at, place, fmt.Sprintf("has the unknown %s %s", what, name), known[i])
		} else {
			r.report(false, code, at, place, fmt.Sprintf("has the unknown %s %s, which is not kept", what, name), "")
		}
	}
	for _, k := range e.kids {
		look("element", k.name, kids, k.place)
	}
	for _, a := range e.attrs {
		look("attribute", a.Name.Local, attrs, e.place)
	}
}

func (e *found) attr(name string) (value string, ok bool) {
	for _, a := range e.attrs {
		if a.Name.Local == name {
			return a.Value, true
		}
	}
	return "", false
}

func (e *found) named(name string) (out []*found) {
	for _, k := range e.kids {
		if k.name == name {
			out = append(out, k)
		}
	}
	return out
}

// text is that of the one child of that name; more than one is an error.
func (r *reader) text(e *found, at, code, name string) string {
	all := e.named(name)
	if len(all) == 0 {
		return ""
	}
	if len(all) > 1 {
		r.refuse(code, at, all[1].place, "has more than one "+name)
	}
	r.only(all[0], at+"/"+name, code, nil, nil)
	return all[0].text
}

func (r *reader) number(e *found, at, code, name string) (n int, ok bool) {
	v, ok := e.attr(name)
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		r.refuse(code, at, e.place, name+" must be a number")
		return 0, false
	}
	return n, true
}

// priority is an entry's; 0 stands for none in a document, so that of XML becomes 1, which works alike.
func (r *reader) priority(e *found, at, code string) int {
	n, ok := r.number(e, at, code, "priority")
	if ok && n == 0 {
		r.report(false, code, at, e.place, "has priority 0, which is taken as 1", "")
		return 1
	}
	return n
}

func (r *reader) removed(e *found, at, code string) bool {
	v, ok := e.attr("action")
	if ok && v != "remove" {
		r.report(true, code, at, e.place, "action must be remove, or absent", "remove")
	}
	return ok && v == "remove"
}

func (r *reader) account(root *found) {
	r.Places["account"] = root.place
	nodes := make(map[string]string)
	seen := make(map[string]bool)
	for _, k := range root.kids {
		at := "account/" + k.name
		if seen[k.name] {
			r.refuse("CS-AC-7", at, k.place, "is there twice")
			continue
		}
		seen[k.name] = true
		r.Places[at] = k.place
		switch {
		case k.name == "blf":
			r.only(k, at, "CS-AC-8", []string{"uri"}, nil)
			for i, uri := range k.named("uri") {
				path := fmt.Sprintf("%s/uri[%d]", at, i+1)
				r.Places[path] = uri.place
				r.only(uri, path, "CS-AC-8", nil, nil)
				r.Document.BLF = append(r.Document.BLF, uri.text)
			}
		case k.name == "rewriting":
			r.Document.Rewriting = r.rules(k, at)
		case len(k.kids) > 0:
			r.refuse("CS-AC-8", at, k.place, "holds elements, which cannot be kept")
		default:
			r.only(k, at, "CS-AC-8", nil, nil)
			nodes[k.name] = k.text
		}
	}
	if len(nodes) > 0 {
		r.Document.Nodes = nodes
	}
	r.only(&found{attrs: root.attrs, text: root.text, place: root.place}, "account", "CS-AC-8", []string{}, nil)
}

func (r *reader) provisioning(root *found) {
	r.only(root, root.name, "CS-GEP-2", []string{"quickDial", "dialActions"}, nil)
	for _, name := range []string{"quickDial", "dialActions"} {
		all := root.named(name)
		if len(all) == 0 {
			continue
		}
		if len(all) > 1 {
			r.refuse("CS-GEP-1", name, all[1].place, "is there twice")
		}
		r.Places[name] = all[0].place
		if name == "quickDial" {
			r.quickDials(all[0])
		} else {
			r.dialActions(all[0])
		}
	}
}

func (r *reader) quickDials(e *found) {
	r.only(e, "quickDial", "CS-QD-9", []string{"item"}, []string{"maxQuickDialReplacePriority"})
	if n, ok := r.number(e, "quickDial", "CS-QD-7", "maxQuickDialReplacePriority"); ok {
		r.Document.QuickDialReplacePriority = &n
	}
	for i, item := range e.named("item") {
		at := fmt.Sprintf("quickDial/item[%d]", i+1)
		r.Places[at] = item.place
		r.only(item, at, "CS-QD-9", []string{"displayName", "uri", "portraitUrl"}, []string{"id", "priority", "action"})
		id, _ := item.attr("id")
		r.Document.QuickDials = append(r.Document.QuickDials, domain.QuickDial{ID: id, DisplayName: r.text(item, at, "CS-QD-2", "displayName"), URI: r.text(item, at, "CS-QD-2", "uri"),
			PortraitURL: r.text(item, at, "CS-QD-2", "portraitUrl"), Priority: r.priority(item, at, "CS-QD-5"), Remove: r.removed(item, at, "CS-QD-4")})
	}
}

func (r *reader) dialActions(e *found) {
	r.only(e, "dialActions", "CS-DA-15", []string{"dialAction"}, nil)
	for i, a := range e.named("dialAction") {
		at := fmt.Sprintf("dialActions/dialAction[%d]", i+1)
		r.Places[at] = a.place
		r.only(a, at, "CS-DA-15", []string{"displayName", "rewriting"}, []string{"id", "priority", "action"})
		id, _ := a.attr("id")
		action := domain.DialAction{ID: id, DisplayName: r.text(a, at, "CS-DA-2", "displayName"), Priority: r.priority(a, at, "CS-DA-1"), Remove: r.removed(a, at, "CS-DA-1")}
		rewriting := a.named("rewriting")
		if len(rewriting) > 1 {
			r.refuse("CS-DA-2", at, rewriting[1].place, "has more than one rewriting")
		}
		if len(rewriting) > 0 {
			action.Rules = r.rules(rewriting[0], at+"/rewriting")
		}
		r.Document.DialActions = append(r.Document.DialActions, action)
	}
}

func (r *reader) rules(e *found, at string) (rules []domain.DialRule) {
	r.only(e, at, "CS-DA-15", []string{"rule"}, nil)
	for i, rule := range e.named("rule") {
		path := fmt.Sprintf("%s/rule[%d]", at, i+1)
		r.Places[path] = rule.place
		r.only(rule, path, "CS-DA-15", []string{"conditions", "actions"}, nil)
		conditions, actions := rule.named("conditions"), rule.named("actions")
		if len(actions) != 1 || len(conditions) > 1 || len(conditions) == 1 && len(conditions[0].named("condition")) == 0 {
			r.refuse("CS-DA-3", path, rule.place, "must have exactly one actions, and at most one conditions, which is not empty")
			continue
		}
		var out domain.DialRule
		if len(conditions) == 1 {
			out.Conditions = r.terms(conditions[0], path+"/conditions", "condition")
		}
		out.Actions = r.terms(actions[0], path+"/actions", "action")
		rules = append(rules, out)
	}
	return rules
}

func (r *reader) terms(e *found, at, name string) (terms []domain.DialTerm) {
	r.only(e, at, "CS-DA-15", []string{name}, nil)
	for i, t := range e.named(name) {
		path := fmt.Sprintf("%s/%s[%d]", at, name, i+1)
		r.Places[path] = t.place
		r.only(t, path, "CS-DA-15", []string{}, []string{"type", "param"})
		kind, _ := t.attr("type")
		param, _ := t.attr("param")
		terms = append(terms, domain.DialTerm{Type: kind, Param: param})
	}
	return terms
}
