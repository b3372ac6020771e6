package projections

import (
	"encoding"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"time"

	"ledgerline/domain"
)

// encoder appends v, which is addressable, as encoding/json writes it.
type encoder func(to []byte, v reflect.Value) ([]byte, error)

// encoderOf returns a function that appends a *T to a buffer, byte for byte as json.Marshal writes it (a
// property test holds it to that). Rows are written by the million in a rebuild: what their fields are is
// looked up once, and what is rare (maps, other types' own MarshalJSON) is left to encoding/json.
func encoderOf[T any]() func(to []byte, row any) ([]byte, error) {
	encode := encoderFor(reflect.TypeFor[T]())
	return func(to []byte, row any) ([]byte, error) { return encode(to, reflect.ValueOf(row).Elem()) }
}

func encoderFor(t reflect.Type) encoder {
	switch reflect.Zero(reflect.PointerTo(t)).Interface().(type) {
	case *time.Time:
		return encodeTime
	case *domain.Position:
		return func(to []byte, v reflect.Value) ([]byte, error) {
			return append(append(append(to, '"'), v.Addr().Interface().(*domain.Position).String()...), '"'), nil
		}
	case *domain.Sealed:
		return encodeSealed
	case *domain.Secret, *domain.Personal:
		return func(to []byte, v reflect.Value) ([]byte, error) { return encodeSealed(to, v.Field(0)) }
	case json.Marshaler, encoding.TextMarshaler:
		return encodeSlowly
	}
	switch t.Kind() {
	case reflect.String:
		return func(to []byte, v reflect.Value) ([]byte, error) { return appendText(to, v.String()) }
	case reflect.Bool:
		return func(to []byte, v reflect.Value) ([]byte, error) { return strconv.AppendBool(to, v.Bool()), nil }
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return func(to []byte, v reflect.Value) ([]byte, error) { return strconv.AppendInt(to, v.Int(), 10), nil }
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return func(to []byte, v reflect.Value) ([]byte, error) { return strconv.AppendUint(to, v.Uint(), 10), nil }
	case reflect.Slice:
		if t.Elem().Kind() != reflect.Uint8 {
			return encodeSlice(encoderFor(t.Elem()))
		}
	case reflect.Struct:
		return encodeStruct(t)
	}
	return encodeSlowly
}

func encodeSlowly(to []byte, v reflect.Value) ([]byte, error) {
	doc, err := json.Marshal(v.Addr().Interface())
	return append(to, doc...), err
}

func encodeTime(to []byte, v reflect.Value) ([]byte, error) {
	to, err := v.Addr().Interface().(*time.Time).AppendText(append(to, '"'))
	return append(to, '"'), err
}

func encodeSealed(to []byte, v reflect.Value) ([]byte, error) {
	s := v.Addr().Interface().(*domain.Sealed)
	if _, _, pending := s.Pending(); pending {
		return nil, domain.ErrUnsealed
	}
	if s.IsZero() {
		return append(to, "null"...), nil
	}
	to, err := appendText(append(to, `{"key_id":`...), s.KeyID)
	to = appendBytes(append(to, `,"nonce":`...), s.Nonce)
	to = appendBytes(append(to, `,"ciphertext":`...), s.Ciphertext)
	for _, f := range [...]struct{ name, text string }{{`,"fingerprint":`, s.Fingerprint}, {`,"aad":`, s.AAD}} {
		if f.text != "" && err == nil {
			to, err = appendText(append(to, f.name...), f.text)
		}
	}
	return append(to, '}'), err
}

func appendBytes(to, b []byte) []byte {
	if b == nil {
		return append(to, "null"...)
	}
	return append(base64.StdEncoding.AppendEncode(append(to, '"'), b), '"')
}

func appendText(to []byte, s string) ([]byte, error) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			doc, err := json.Marshal(s)
			return append(to, doc...), err
		}
	}
	return append(append(append(to, '"'), s...), '"'), nil
}

func encodeSlice(each encoder) encoder {
	return func(to []byte, v reflect.Value) (_ []byte, err error) {
		if v.IsNil() {
			return append(to, "null"...), nil
		}
		to = append(to, '[')
		for i := range v.Len() {
			if i > 0 {
				to = append(to, ',')
			}
			if to, err = each(to, v.Index(i)); err != nil {
				return nil, err
			}
		}
		return append(to, ']'), nil
	}
}

// encodeStruct knows embedded structs, names and the options omitempty and omitzero; a struct with anything
// else encoding/json has rules for is left to it.
func encodeStruct(t reflect.Type) encoder {
	type field struct {
		index  []int
		name   string // ,"name":
		encode encoder
		omit   func(reflect.Value) bool // nil: never
	}
	var fields []field
	named := make(map[string]bool)
	for _, f := range reflect.VisibleFields(t) {
		tag := f.Tag.Get("json")
		if f.Anonymous && (tag != "" || f.Type.Kind() != reflect.Struct) {
			return encodeSlowly
		}
		if f.Anonymous || !f.IsExported() || tag == "-" {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		if name == "" {
			name = f.Name
		}
		if named[name] || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$") != "" {
			return encodeSlowly
		}
		named[name] = true
		known := field{index: f.Index, name: `,"` + name + `":`, encode: encoderFor(f.Type)}
		switch options {
		case "":
		case "omitempty":
			known.omit = isEmpty
		case "omitzero":
			known.omit = isZero(f.Type)
		default:
			return encodeSlowly
		}
		fields = append(fields, known)
	}
	return func(to []byte, v reflect.Value) (_ []byte, err error) {
		begun := len(to)
		for i := range fields {
			f := &fields[i]
			at := v
			for _, n := range f.index {
				at = at.Field(n)
			}
			if f.omit != nil && f.omit(at) {
				continue
			}
			if to, err = f.encode(append(to, f.name...), at); err != nil {
				return nil, err
			}
		}
		if len(to) == begun {
			return append(to, '{', '}'), nil
		}
		to[begun] = '{' // in place of the first comma
		return append(to, '}'), nil
	}
}

func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.String, reflect.Array:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

func isZero(t reflect.Type) func(reflect.Value) bool {
	type zeroer interface{ IsZero() bool }
	if reflect.PointerTo(t).Implements(reflect.TypeFor[zeroer]()) {
		return func(v reflect.Value) bool { return v.Addr().Interface().(zeroer).IsZero() }
	}
	return reflect.Value.IsZero
}
