package appsim

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Priorities of the channels that an entry comes by.
const (
	ProvisionedPriority = 20
	UserPriority        = 40
)

// QuickDial is an entry of the app's quick dials. Priority tells who made it what it is; above UserPriority the user cannot
// change it.
type QuickDial struct {
	ID, DisplayName, URI, PortraitURL string
	Priority                          int
}

// DialAction is a way to dial that the user can choose.
type DialAction struct {
	ID, DisplayName string
	Rules           []Rule
	Priority        int
}

// Rule and Term are as the server wrote them.
type Rule struct{ Conditions, Actions []Term }

// Term is one condition or action.
type Term struct{ Type, Param string }

// element is any XML element.
type element struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Text     string     `xml:",chardata"`
	Children []element  `xml:",any"`
}

// errAnswer: the answer is not what the app can read.
var errAnswer = errors.New("answer is not understood")

// readXML reads a document of one root and nothing behind it.
func readXML(body []byte) (element, error) {
	var root element
	dec := xml.NewDecoder(bytes.NewReader(body))
	if err := dec.Decode(&root); err != nil {
		return root, fmt.Errorf("%w: %v", errAnswer, err)
	}
	for {
		switch t, err := dec.Token(); {
		case errors.Is(err, io.EOF):
			return root, nil
		case err != nil:
			return root, fmt.Errorf("%w: %v", errAnswer, err)
		default:
			if text, ok := t.(xml.CharData); !ok || len(bytes.TrimSpace(text)) > 0 {
				return root, fmt.Errorf("%w: more than one root", errAnswer)
			}
		}
	}
}

// attr is an attribute; empty when there is none.
func (e element) attr(name string) string {
	for _, a := range e.Attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// priority is the element's own, or its channel's.
func (e element) priority() int {
	if n, err := strconv.Atoi(e.attr("priority")); err == nil {
		return n
	}
	return ProvisionedPriority
}

func (a *App) is(e element, name string) bool {
	return e.XMLName.Local == name || a.AnyCase && strings.EqualFold(e.XMLName.Local, name)
}

func (a *App) child(e element, name string) element {
	for _, c := range e.Children {
		if a.is(c, name) {
			return c
		}
	}
	return element{}
}

// mergeGlobal applies quick dials and dial actions, whatever the root is called. Nothing that is merely absent is removed:
// maxQuickDialReplacePriority and action="remove" are there for that.
func (a *App) mergeGlobal(root element) {
	for _, group := range root.Children {
		switch {
		case a.is(group, "quickDial"):
			if below, err := strconv.Atoi(group.attr("maxQuickDialReplacePriority")); err == nil {
				a.quickDials = slices.DeleteFunc(a.quickDials, func(q QuickDial) bool { return q.Priority < below })
			}
			for _, item := range group.Children {
				if a.is(item, "item") {
					q := QuickDial{item.attr("id"), strings.TrimSpace(a.child(item, "displayName").Text), strings.TrimSpace(a.child(item, "uri").Text),
						strings.TrimSpace(a.child(item, "portraitUrl").Text), item.priority()}
					a.quickDials = merge(a.quickDials, q, item.attr("action"), func(q QuickDial) (string, int) { return q.ID, q.Priority })
				}
			}
		case a.is(group, "dialActions"):
			for _, item := range group.Children {
				if a.is(item, "dialAction") {
					d := DialAction{item.attr("id"), strings.TrimSpace(a.child(item, "displayName").Text), a.rules(a.child(item, "rewriting")), item.priority()}
					a.dialActions = merge(a.dialActions, d, item.attr("action"), func(d DialAction) (string, int) { return d.ID, d.Priority })
				}
			}
		}
	}
}

// merge changes, adds or removes one entry, if its priority is not below that of the one it meets.
func merge[T any](entries []T, e T, action string, of func(T) (id string, priority int)) []T {
	id, priority := of(e)
	if id == "" {
		return entries
	}
	i := slices.IndexFunc(entries, func(old T) bool { other, _ := of(old); return other == id })
	if i >= 0 {
		if _, stored := of(entries[i]); priority < stored {
			return entries
		}
	}
	switch {
	case action == "remove" && i >= 0:
		return slices.Delete(entries, i, i+1)
	case action == "remove":
		return entries
	case i >= 0:
		entries[i] = e
		return entries
	}
	return append(entries, e)
}

func (a *App) rules(rewriting element) []Rule {
	var rules []Rule
	for _, r := range rewriting.Children {
		terms := func(group, name string) (out []Term) {
			for _, t := range a.child(r, group).Children {
				if a.is(t, name) {
					out = append(out, Term{t.attr("type"), t.attr("param")})
				}
			}
			return out
		}
		if a.is(r, "rule") {
			rules = append(rules, Rule{terms("conditions", "condition"), terms("actions", "action")})
		}
	}
	return rules
}

// errTitle: an account without a title is not saved.
var errTitle = fmt.Errorf("%w: the account has no title", errAnswer)

// mergeAccount lays the nodes of an account over those there are.
func (a *App) mergeAccount(root element) error {
	if !a.is(root, "account") {
		return fmt.Errorf("%w: its root is <%.40s>, not <account>", errAnswer, root.XMLName.Local)
	}
	nodes := make(map[string]node, len(a.nodes)+len(root.Children))
	for name, n := range a.nodes {
		nodes[name] = n
	}
	for _, e := range root.Children {
		n := node{e.Text, e.priority()}
		if n.priority >= nodes[e.XMLName.Local].priority {
			nodes[e.XMLName.Local] = n
		}
	}
	if strings.TrimSpace(nodes["title"].text) == "" {
		return errTitle
	}
	a.nodes = nodes
	return nil
}

// node is one node of the account.
type node struct {
	text     string
	priority int
}

// ErrLocked: the provider does not let the user change it.
var ErrLocked = errors.New("entry is locked by the provider")

// EditQuickDial is the user who makes or changes an entry. Errors: ErrLocked.
func (a *App) EditQuickDial(q QuickDial) error {
	for _, old := range a.quickDials {
		if old.ID == q.ID && old.Priority > UserPriority {
			return ErrLocked
		}
	}
	q.Priority = UserPriority
	a.quickDials = merge(a.quickDials, q, "", func(q QuickDial) (string, int) { return q.ID, q.Priority })
	return nil
}

// EditNode is the user who changes a setting of the account.
func (a *App) EditNode(name, text string) {
	if a.nodes[name].priority <= UserPriority {
		a.nodes[name] = node{text, UserPriority}
	}
}
