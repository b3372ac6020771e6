package domain

import (
	"encoding"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"
)

// Payloads are read again and again: by every command, and all of them when views are rebuilt. encoding/json
// reads each byte twice and asks reflection for everything; a plan is made once per type and reads the form our own
// encoder writes in one pass.
//
// What must hold: a plan gives what json.Unmarshal gives, or gives up, and then json.Unmarshal decides. It gives up on
// whatever our encoder does not write or what is rare: blanks between tokens, keys with escapes, keys that are unknown, in other
// case or given twice, numbers that are no plain integers, and everything that is wrong.
type plan func(r *payload, v reflect.Value) bool

// payload is JSON being read, at the byte i.
type payload struct {
	b []byte
	i int
}

// unmarshal is json.Unmarshal into the zero value v, which must be addressable.
func (p plan) unmarshal(b []byte, v reflect.Value) error {
	r := payload{b: b}
	if p(&r, v) && r.i == len(b) {
		return nil
	}
	v.SetZero()
	return json.Unmarshal(b, v.Addr().Interface())
}

var (
	settingsType        = reflect.TypeFor[Settings]()
	lineSettingsType    = reflect.TypeFor[LineSettings]()
	timeType            = reflect.TypeFor[time.Time]()
	unmarshalerType     = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// readsItself tells whether encoding/json would ask the type itself.
func readsItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(unmarshalerType) || p.Implements(textUnmarshalerType)
}

// planFor makes the plan of a type, which must not contain itself.
func planFor(t reflect.Type) plan {
	switch {
	case t == timeType:
		return readTime
	case t == settingsType, t == lineSettingsType:
		return readSettings
	case readsItself(t):
		return readOther
	}
	switch t.Kind() {
	case reflect.String:
		return readString
	case reflect.Bool:
		return readBool
	case reflect.Int, reflect.Int64, reflect.Int32:
		return readInt
	case reflect.Struct:
		return readStruct(t)
	case reflect.Slice:
		if t.Elem() == reflect.TypeFor[byte]() {
			return readBytes
		}
		return readSlice(planFor(t.Elem()))
	case reflect.Pointer:
		return readPointer(t.Elem(), planFor(t.Elem()))
	}
	return readOther
}

// next moves over c if it comes next.
func (r *payload) next(c byte) bool {
	if r.i < len(r.b) && r.b[r.i] == c {
		r.i++
		return true
	}
	return false
}

// text reads a string without escapes, without its quotes.
func (r *payload) text() ([]byte, bool) {
	if !r.next('"') {
		return nil, false
	}
	ascii := true
	for i := r.i; i < len(r.b); i++ {
		switch c := r.b[i]; {
		case c == '"':
			s := r.b[r.i:i]
			r.i = i + 1
			return s, ascii || utf8.Valid(s)
		case c < ' ' || c == '\\':
			return nil, false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return nil, false
}

func readString(r *payload, v reflect.Value) bool {
	start := r.i
	s, ok := r.text()
	if !ok {
		r.i = start
		return readOther(r, v) // escapes
	}
	v.SetString(string(s))
	return true
}

func readBytes(r *payload, v reflect.Value) bool {
	s, ok := r.text()
	if !ok {
		return false
	}
	b := make([]byte, base64.StdEncoding.DecodedLen(len(s)))
	n, err := base64.StdEncoding.Decode(b, s)
	if err != nil {
		return false
	}
	v.SetBytes(b[:n])
	return true
}

func readTime(r *payload, v reflect.Value) bool {
	start := r.i
	if _, ok := r.text(); !ok {
		return false
	}
	return v.Addr().Interface().(*time.Time).UnmarshalJSON(r.b[start:r.i]) == nil
}

func readBool(r *payload, v reflect.Value) bool {
	yes := r.word("true")
	v.SetBool(yes)
	return yes || r.word("false")
}

// word moves over w if it comes next.
func (r *payload) word(w string) bool {
	end := r.i + len(w)
	if end > len(r.b) || string(r.b[r.i:end]) != w {
		return false
	}
	r.i = end
	return true
}

func readInt(r *payload, v reflect.Value) bool {
	negative := r.next('-')
	start, n := r.i, int64(0)
	for r.i < len(r.b) && r.b[r.i] >= '0' && r.b[r.i] <= '9' {
		n = n*10 + int64(r.b[r.i]-'0')
		r.i++
	}
	// what follows the digits of a fraction is not what may follow a value; a zero in front and too many digits are not ours
	digits := r.i - start
	if digits == 0 || digits > 18 || digits > 1 && r.b[start] == '0' {
		return false
	}
	if negative {
		n = -n
	}
	if v.OverflowInt(n) {
		return false
	}
	v.SetInt(n)
	return true
}

func readSlice(elem plan) plan {
	return func(r *payload, v reflect.Value) bool {
		if !r.next('[') {
			return false
		}
		if r.next(']') {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
			return true
		}
		for n := 0; ; n++ {
			v.Grow(1)
			v.SetLen(n + 1)
			if !elem(r, v.Index(n)) {
				return false
			}
			if r.next(']') {
				return true
			}
			if !r.next(',') {
				return false
			}
		}
	}
}

func readPointer(t reflect.Type, elem plan) plan {
	return func(r *payload, v reflect.Value) bool {
		p := reflect.New(t)
		v.Set(p)
		return elem(r, p.Elem())
	}
}

var readSealed plan

func init() { readSealed = planFor(reflect.TypeFor[Sealed]()) } // which needs readSettings to be there

// readSettings reads settings as their UnmarshalJSON does: numbers plain, sealed values where they stand.
func readSettings(r *payload, v reflect.Value) bool {
	start := r.i
	if m, ok := r.object(0, true); ok {
		v.Set(reflect.ValueOf(m).Convert(v.Type()))
		return true
	}
	r.i = start
	return readOther(r, v)
}

// deepest is how deep objects and lists are read here; settings of ours are not as deep.
const deepest = 32

// object reads an object of settings; open tells that sealed values are to be read as such, which those below a list are not.
func (r *payload) object(depth int, open bool) (map[string]any, bool) {
	if depth > deepest || !r.next('{') {
		return nil, false
	}
	m := make(map[string]any, 4)
	if r.next('}') {
		return m, true
	}
	for {
		key, ok := r.text()
		if !ok || !r.next(':') {
			return nil, false
		}
		name := string(key)
		if _, twice := m[name]; twice || open && depth == 0 && (name == sealedKey || name == personalKey) {
			return nil, false
		}
		if m[name], ok = r.value(depth+1, open); !ok {
			return nil, false
		}
		if r.next('}') {
			return m, true
		}
		if !r.next(',') {
			return nil, false
		}
	}
}

// value reads a value within settings.
func (r *payload) value(depth int, open bool) (any, bool) {
	if r.i == len(r.b) {
		return nil, false
	}
	switch r.b[r.i] {
	case '"':
		start := r.i
		if s, ok := r.text(); ok {
			return string(s), true
		}
		var s string // with escapes
		r.i = start
		return s, r.skip() && json.Unmarshal(r.b[start:r.i], &s) == nil
	case '{':
		switch {
		case open && r.word(`{"`+sealedKey+`":`):
			var s Secret
			ok := readSealed(r, reflect.ValueOf(&s.Sealed).Elem()) && r.next('}')
			return s, ok
		case open && r.word(`{"`+personalKey+`":`):
			var p Personal
			ok := readSealed(r, reflect.ValueOf(&p.Sealed).Elem()) && r.next('}')
			return p, ok
		}
		m, ok := r.object(depth, open)
		return m, ok
	case '[':
		l, ok := r.list(depth)
		return l, ok
	case 't':
		return true, r.word("true")
	case 'f':
		return false, r.word("false")
	case 'n':
		return nil, r.word("null")
	}
	var n int
	ok := readInt(r, reflect.ValueOf(&n).Elem())
	return n, ok
}

// list reads a list within settings.
func (r *payload) list(depth int) ([]any, bool) {
	if depth > deepest || !r.next('[') {
		return nil, false
	}
	l := []any{}
	if r.next(']') {
		return l, true
	}
	for {
		v, ok := r.value(depth+1, false)
		if !ok {
			return nil, false
		}
		l = append(l, v)
		if r.next(']') {
			return l, true
		}
		if !r.next(',') {
			return nil, false
		}
	}
}

// readOther leaves one value to json.Unmarshal: settings, maps, text with escapes.
func readOther(r *payload, v reflect.Value) bool {
	start := r.i
	return r.skip() && json.Unmarshal(r.b[start:r.i], v.Addr().Interface()) == nil
}

// skip moves over one value, which it does not check.
func (r *payload) skip() bool {
	depth := 0
	for ; r.i < len(r.b); r.i++ {
		switch r.b[r.i] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return true
			}
			if depth--; depth == 0 {
				r.i++
				return true
			}
		case ',':
			if depth == 0 {
				return true
			}
		case '"':
			for r.i++; r.i < len(r.b) && r.b[r.i] != '"'; r.i++ {
				if r.b[r.i] == '\\' {
					r.i++
				}
			}
		}
	}
	return depth == 0 && r.i == len(r.b) // beyond: a string does not end
}

type planField struct {
	key      string
	at       []int
	read     plan
	nullable bool // null leaves it as it is
}

// readStruct reads an object. Keys are looked for behind the one before, in the order our encoder writes them.
func readStruct(t reflect.Type) plan {
	fields, ok := planFields(t, nil)
	if !ok || len(fields) > 64 {
		return readOther
	}
	return func(r *payload, v reflect.Value) bool {
		if !r.next('{') {
			return false
		}
		if r.next('}') {
			return true
		}
		seen, from := uint64(0), 0
		for {
			key, ok := r.text()
			if !ok || !r.next(':') {
				return false
			}
			i := find(fields, from, key)
			if i < 0 || seen&(1<<i) != 0 {
				return false
			}
			seen |= 1 << i
			from = i + 1
			f := v
			for _, n := range fields[i].at {
				f = f.Field(n)
			}
			if !(fields[i].nullable && r.word("null")) && !fields[i].read(r, f) {
				return false
			}
			if r.next('}') {
				return true
			}
			if !r.next(',') {
				return false
			}
		}
	}
}

func find(fields []planField, from int, key []byte) int {
	for i := from; i < len(fields); i++ {
		if fields[i].key == string(key) {
			return i
		}
	}
	for i := range min(from, len(fields)) {
		if fields[i].key == string(key) {
			return i
		}
	}
	return -1
}

// planFields lists the fields of a struct as encoding/json sees them, embedded ones too; not ok where its finer rules would
// count: options, embedded pointers, one key for two fields.
func planFields(t reflect.Type, at []int) (fields []planField, ok bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		here := append(at[:len(at):len(at)], i)
		key, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case key == "-" && options == "":
			continue
		case f.Anonymous && key == "" && f.Type.Kind() == reflect.Struct && !readsItself(f.Type):
			inner, ok := planFields(f.Type, here)
			if !ok {
				return nil, false
			}
			fields = append(fields, inner...)
		case !f.IsExported():
			continue
		case f.Anonymous || strings.Contains(options, "string"):
			return nil, false
		default:
			if key == "" {
				key = f.Name
			}
			fields = append(fields, planField{key, here, planFor(f.Type), !readsItself(f.Type)})
		}
	}
	for i := range fields {
		if find(fields[:i], 0, []byte(fields[i].key)) >= 0 {
			return nil, false
		}
	}
	return fields, true
}
