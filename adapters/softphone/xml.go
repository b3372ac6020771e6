package softphone

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"maps"
	"net/http"
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
		panic("softphone: write XML: " + err.Error()) // into memory, of names that were checked
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// accountXML is Account XML: title first, as the vendor prints it, then by name.
func accountXML(nodes map[string]string) []byte {
	root := node("account", "")
	names := slices.Sorted(maps.Keys(nodes))
	if i := slices.Index(names, "title"); i > 0 {
		names = slices.Insert(slices.Delete(names, i, i+1), 0, "title")
	}
	for _, name := range names {
		root.Children = append(root.Children, node(name, nodes[name]))
	}
	return document(root)
}

// replaceBelow makes an app drop the quick dials that came from here before, which have priority 20, and keep those
// the user has changed, which have 40.
const replaceBelow = domain.UsualPriority + 1

// globalXML is Global External Provisioning, whole: the app drops what is not in it, and is told to remove what it would
// keep. Nothing to say is an empty root, which changes nothing.
func globalXML(d domain.SoftphoneDocument, remove []domain.SoftphoneEntry, replace bool) []byte {
	quick, actions := node("quickDial", "").with("maxQuickDialReplacePriority", strconv.Itoa(replaceBelow)), node("dialActions", "")
	for _, e := range remove {
		gone := func(name string) element {
			return node(name, "").with("id", e.ID).with("action", "remove").with("priority", number(e.Priority))
		}
		if e.Kind == domain.QuickDialKind {
			quick.Children = append(quick.Children, gone("item"))
		} else {
			actions.Children = append(actions.Children, gone("dialAction"))
		}
	}
	for _, q := range d.QuickDials {
		item := node("item", "", node("displayName", q.DisplayName), node("uri", q.URI)).with("id", q.ID).with("priority", number(q.Priority))
		if q.PortraitURL != "" {
			item.Children = append(item.Children, node("portraitUrl", q.PortraitURL))
		}
		quick.Children = append(quick.Children, item)
	}
	for _, a := range d.DialActions {
		rewriting := node("rewriting", "")
		for _, r := range a.Rules {
			rewriting.Children = append(rewriting.Children, ruleXML(r))
		}
		actions.Children = append(actions.Children, node("dialAction", "", node("displayName", a.DisplayName), rewriting).with("id", a.ID).with("priority", number(a.Priority)))
	}
	root := node("provisioning", "")
	if replace {
		root.Children = append(root.Children, quick)
	}
	if len(actions.Children) > 0 {
		root.Children = append(root.Children, actions)
	}
	return document(root)
}

func ruleXML(r domain.DialRule) element {
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

// send answers a document. tagged ones have an ETag, and are not sent again to who has them.
func send(w http.ResponseWriter, r *http.Request, body []byte, tagged bool) int {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if tagged {
		sum := sha256.Sum256(body)
		tag := `"` + hex.EncodeToString(sum[:16]) + `"`
		h.Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return http.StatusNotModified
		}
	}
	write(w, http.StatusOK, body)
	return http.StatusOK
}

// fail answers an error the app shows to its user.
func fail(w http.ResponseWriter, _ *http.Request, status int, message string) int {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if runes := []rune(message); len(runes) > 200 {
		message = string(runes[:199]) + "…"
	}
	write(w, status, document(node("error", "", node("message", message))))
	return status
}

func write(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/xml; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
