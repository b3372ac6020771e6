package provd

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// search is the query of a list: which documents, which of their keys, in which order, which part.
type search struct {
	where  []condition
	fields []string
	skip   int
	limit  int
	sort   string
	desc   bool
}

// condition is one pair of a selector.
type condition struct {
	path []string
	test func(value any, present bool) bool
	// equal is the operand of a plain equality with text, for a look-up by index.
	equal string
	is    bool
}

// Limits of a selector.
const (
	maxSelector   = 64 << 10
	maxConditions = 100
)

// readSearch reads the parameters of a list. What is no valid JSON or no number is ignored, as programs expect;
// a selector that means nothing is refused.
func readSearch(q url.Values) (search, error) {
	s := search{sort: q.Get("sort"), desc: q.Get("sort_ord") == "DESC", skip: number(q.Get("skip")), limit: number(q.Get("limit"))}
	for f := range strings.SplitSeq(q.Get("fields"), ",") {
		if f != "" {
			s.fields = append(s.fields, f)
		}
	}
	text := q.Get("q")
	if q.Has("q64") {
		text = ""
		for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
			if b, err := enc.DecodeString(q.Get("q64")); err == nil {
				text = string(b)
				break
			}
		}
	}
	if text == "" {
		return s, nil
	}
	if len(text) > maxSelector {
		return s, refuse(http.StatusBadRequest, "selector is too long")
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil || dec.More() {
		return s, nil
	}
	tree, ok := v.(map[string]any)
	if !ok {
		return s, refuse(http.StatusBadRequest, "selector must be a JSON object")
	}
	var err error
	if s.where, err = conditions(tree); err != nil {
		return s, refuse(http.StatusBadRequest, err.Error())
	}
	return s, nil
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func conditions(tree map[string]any) ([]condition, error) {
	var all []condition
	for key, operand := range tree {
		path := strings.Split(key, ".")
		operators, is := operand.(map[string]any)
		if !is || !slices.ContainsFunc(keysOf(operators), func(k string) bool { return strings.HasPrefix(k, "$") }) {
			text, plain := operand.(string)
			all = append(all, condition{path, func(v any, has bool) bool { return has && same(v, operand) }, text, plain && len(path) == 1})
			continue
		}
		for name, operand := range operators {
			test, err := operator(name, operand)
			if err != nil {
				return nil, err
			}
			all = append(all, condition{path: path, test: test})
		}
	}
	if len(all) > maxConditions {
		return nil, errors.New("selector has too many conditions")
	}
	return all, nil
}

func keysOf(m map[string]any) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}

// operator is the test a "$…" stands for.
func operator(name string, operand any) (func(any, bool) bool, error) {
	member := func(v any) bool {
		list, _ := operand.([]any)
		return slices.ContainsFunc(list, func(o any) bool { return same(v, o) })
	}
	compared := func(ok func(int) bool) func(any, bool) bool {
		return func(v any, has bool) bool {
			n, comparable := compare(v, operand)
			return has && comparable && ok(n)
		}
	}
	switch name {
	case "$in", "$nin":
		if _, list := operand.([]any); !list {
			return nil, fmt.Errorf("%s needs a list", name)
		}
		return func(v any, has bool) bool { return has && member(v) == (name == "$in") }, nil
	case "$contains":
		return func(v any, has bool) bool { return has && contains(v, operand) }, nil
	case "$gt":
		return compared(func(n int) bool { return n > 0 }), nil
	case "$ge":
		return compared(func(n int) bool { return n >= 0 }), nil
	case "$lt":
		return compared(func(n int) bool { return n < 0 }), nil
	case "$le":
		return compared(func(n int) bool { return n <= 0 }), nil
	case "$ne":
		return func(v any, has bool) bool { return !has || !same(v, operand) }, nil
	case "$exists":
		want, ok := operand.(bool)
		if !ok {
			return nil, errors.New("$exists needs true or false")
		}
		return func(_ any, has bool) bool { return has == want }, nil
	}
	return nil, fmt.Errorf("unknown operator %.40q", name)
}

// same tells whether two JSON values are equal.
func same(a, b any) bool {
	if n, comparable := compare(a, b); comparable {
		return n == 0
	}
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k, v := range a {
			w, has := b[k]
			if !has || !same(v, w) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, same)
	case bool:
		b, ok := b.(bool)
		return ok && a == b
	case nil:
		return b == nil
	}
	return false
}

// compare orders two texts or two numbers; comparable is false for anything else.
func compare(a, b any) (order int, comparable bool) {
	if x, ok := a.(string); ok {
		y, ok := b.(string)
		return strings.Compare(x, y), ok
	}
	x, xok := float(a)
	y, yok := float(b)
	switch {
	case !xok || !yok:
		return 0, false
	case x < y:
		return -1, true
	case x > y:
		return 1, true
	}
	return 0, true
}

func float(v any) (float64, bool) {
	switch v := v.(type) {
	case json.Number:
		f, err := v.Float64()
		return f, err == nil
	case int:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

// contains: text within text, an element of a list, a key of an object.
func contains(v, operand any) bool {
	switch v := v.(type) {
	case string:
		text, ok := operand.(string)
		return ok && strings.Contains(v, text)
	case []any:
		return slices.ContainsFunc(v, func(e any) bool { return same(e, operand) })
	case map[string]any:
		key, ok := operand.(string)
		_, has := v[key]
		return ok && has
	}
	return false
}

// matches tells whether all conditions hold for a document.
func (s search) matches(doc map[string]any) bool {
	for _, c := range s.where {
		if !c.holds(doc) {
			return false
		}
	}
	return true
}

// holds walks into objects along the path. At the last step a list is searched element by element: the objects
// in it for the key.
func (c condition) holds(doc map[string]any) bool {
	var at any = doc
	for i, key := range c.path {
		switch v := at.(type) {
		case map[string]any:
			next, has := v[key]
			if i == len(c.path)-1 {
				return c.test(next, has)
			}
			if !has {
				return c.test(nil, false)
			}
			at = next
		case []any:
			if i < len(c.path)-1 {
				return c.test(nil, false)
			}
			for _, e := range v {
				if m, is := e.(map[string]any); is {
					if value, has := m[key]; has && c.test(value, true) {
						return true
					}
				}
			}
			return c.test(nil, false)
		default:
			return c.test(nil, false)
		}
	}
	return false
}

// equals is the text a top-level key must be equal to; empty for none.
func (s search) equals(key string) string {
	for _, c := range s.where {
		if c.is && c.path[0] == key {
			return c.equal
		}
	}
	return ""
}

// mentions tells whether the search looks at a top-level key: in a condition, to sort by it, or to show it.
func (s search) mentions(key string) bool {
	under := func(path string) bool { return path == key || strings.HasPrefix(path, key+".") }
	if s.sort != "" && under(s.sort) || len(s.fields) == 0 || slices.ContainsFunc(s.fields, under) {
		return true
	}
	return slices.ContainsFunc(s.where, func(c condition) bool { return c.path[0] == key })
}

// arrange sorts, cuts and narrows the documents found. Without a key to sort by they stay as they come.
func (s search) arrange(docs []map[string]any) []map[string]any {
	if s.sort != "" {
		path := strings.Split(s.sort, ".")
		slices.SortStableFunc(docs, func(a, b map[string]any) int {
			n := strings.Compare(textAt(a, path), textAt(b, path))
			if s.desc {
				return -n
			}
			return n
		})
	}
	docs = docs[min(s.skip, len(docs)):]
	if s.limit > 0 {
		docs = docs[:min(s.limit, len(docs))]
	}
	if len(s.fields) > 0 {
		for i, d := range docs {
			docs[i] = s.narrow(d)
		}
	}
	if docs == nil {
		docs = []map[string]any{}
	}
	return docs
}

// textAt is the value at a path as text, empty for none and null.
func textAt(doc map[string]any, path []string) string {
	var at any = doc
	for _, key := range path {
		m, ok := at.(map[string]any)
		if !ok {
			return ""
		}
		at = m[key]
	}
	switch v := at.(type) {
	case nil:
		return ""
	case string:
		return v
	case map[string]any, []any:
		b, err := json.Marshal(v)
		if err != nil {
			return ""
		}
		return string(b)
	}
	return fmt.Sprint(at)
}

// narrow keeps the fields asked for, and the id.
func (s search) narrow(doc map[string]any) map[string]any {
	out := map[string]any{"id": doc["id"]}
	for _, f := range s.fields {
		copyPath(out, doc, strings.Split(f, "."))
	}
	return out
}

func copyPath(to, from map[string]any, path []string) {
	v, has := from[path[0]]
	if !has {
		return
	}
	if len(path) == 1 {
		to[path[0]] = v
		return
	}
	below, is := v.(map[string]any)
	if !is {
		return
	}
	part := map[string]any{}
	copyPath(part, below, path[1:])
	if len(part) == 0 {
		return
	}
	if old, is := to[path[0]].(map[string]any); is {
		for k, v := range part {
			old[k] = v
		}
		return
	}
	to[path[0]] = part
}
