package domain

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Settings are a phone's settings in vendor-neutral words: a tree by key, a superset of wazo-provd's
// raw_config; Schema lists it. A leaf is text, bool, int, float64 (free X_ keys only), a list ([]any), nil,
// or, for what must not be read, a Secret (a Personal for names and numbers). An object is a
// map[string]any. nil means "not set", and hides what a lower layer says.
//
// Settings are values: no function here changes or shares its arguments.
type Settings map[string]any

// ErrSettings: a setting is unknown, of the wrong type or out of range. Every *SettingsError is one.
var ErrSettings = errors.New("bad settings")

// SettingsError names the setting and the rule it breaks.
type SettingsError struct {
	Field string // dotted path: "sip_lines.1.transport"
	Rule  string // "must be one of udp, tcp, tls"
}

func (e *SettingsError) Error() string { return e.Field + " " + e.Rule }

// Is makes every *SettingsError an ErrSettings.
func (e *SettingsError) Is(target error) bool { return target == ErrSettings }

// Limits of one settings object: bytes of JSON, nesting, and the problems one answer lists.
const (
	MaxSettings      = 256 << 10
	maxSettingsDepth = 8
	maxProblems      = 50
)

const (
	sealedKey   = "$sealed"
	personalKey = "$personal"
)

// ParseSettings reads a JSON object from outside: numbers become int (float64 in free keys if need be),
// digits given as text become int where a number is due, and the result is valid. Of a key given twice the
// last counts. Errors are ErrSettings.
func ParseSettings(b []byte) (Settings, error) {
	if len(b) > MaxSettings {
		return nil, &SettingsError{"settings", fmt.Sprintf("must not exceed %d bytes", MaxSettings)}
	}
	if !utf8.Valid(b) {
		return nil, &SettingsError{"settings", "must be UTF-8"}
	}
	tree, err := DecodeObject(b)
	if err != nil {
		return nil, &SettingsError{"settings", "must be a JSON object: " + err.Error()}
	}
	return Settings(tree).Clean()
}

// DecodeObject reads one JSON object and nothing after it, numbers as json.Number, as they are written.
func DecodeObject(b []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var tree map[string]any
	if err := dec.Decode(&tree); err != nil {
		return nil, err
	}
	if tree == nil {
		return nil, errors.New("it is null")
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something follows it")
	}
	return tree, nil
}

// Clean is s with numbers and digits normalised as ParseSettings does, and s.Validate's verdict on it.
func (s Settings) Clean() (Settings, error) {
	if depth(map[string]any(s)) > maxSettingsDepth {
		return nil, &SettingsError{"settings", fmt.Sprintf("must not be nested more than %d deep", maxSettingsDepth)}
	}
	c := Settings(normalizeObject(schemaTree, s))
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return c, nil
}

func depth(v any) int {
	deepest := 0
	switch v := v.(type) {
	case map[string]any:
		for _, c := range v {
			deepest = max(deepest, depth(c))
		}
	case []any:
		for _, c := range v {
			deepest = max(deepest, depth(c))
		}
	default:
		return 0
	}
	return deepest + 1
}

func normalizeObject(n *node, m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = normalize(n.child(k), v)
	}
	return out
}

func normalize(n *node, v any) any {
	switch v := v.(type) {
	case map[string]any:
		return normalizeObject(n, v)
	case Settings:
		return normalizeObject(n, v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = normalize(nil, v[i])
		}
		return out
	case []string:
		out := make([]any, len(v))
		for i := range v {
			out[i] = v[i]
		}
		return out
	case json.Number:
		return plainNumber(v)
	case float64:
		return plainFloat(v)
	case int64:
		return int(v)
	case string:
		if n != nil && n.def != nil && n.def.Kind == KindInt {
			if i, err := strconv.Atoi(strings.TrimSpace(v)); err == nil {
				return i
			}
		}
	}
	return v
}

func plainNumber(n json.Number) any {
	if i, err := strconv.Atoi(string(n)); err == nil {
		return i
	}
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil {
		return n // out of range; Validate refuses it
	}
	return plainFloat(f)
}

func plainFloat(f float64) any {
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return int(f)
	}
	return f
}

// Validate checks names, types and ranges, each layer on its own. The error joins every problem found (the
// first 50), in order of path; each is a *SettingsError.
func (s Settings) Validate() error {
	v := &verdict{}
	v.object(schemaTree, "", s)
	return v.err()
}

type verdict struct{ problems []error }

func (v *verdict) err() error { return errors.Join(v.problems...) }

func (v *verdict) add(path, rule string) {
	if len(v.problems) < maxProblems {
		v.problems = append(v.problems, &SettingsError{path, rule})
	}
}

func (v *verdict) object(n *node, path string, m map[string]any) {
	for _, k := range sortedKeys(m) {
		p := join(path, k)
		c := n.child(k)
		switch {
		case len(k) > 128 || k == "" || strings.HasPrefix(k, "$") || !plainText(k):
			v.add(quoteField(p), "is not a name of a setting")
		case n.numbered() && !isPosition(k, strings.HasPrefix(path, "funckeys")):
			v.add(p, "must be a number from 1 to 9999")
		case c != nil:
			v.value(c, p, m[k])
		case strings.HasPrefix(k, "X_") || strings.HasPrefix(k, "XX_"):
			v.free(p, m[k])
		default:
			v.add(p, "is not a known setting (free ones begin with X_)")
		}
	}
}

func (v *verdict) value(n *node, path string, val any) {
	switch val.(type) {
	case nil:
		return
	case Secret, Personal:
		if n.isObject() {
			v.add(path, "must be an object")
		}
		return
	}
	if n.isObject() {
		if m, ok := asObject(val); ok {
			v.object(n, path, m)
		} else {
			v.add(path, "must be an object")
		}
		return
	}
	if rule := n.def.check(val); rule != "" {
		v.add(path, rule)
	}
}

// free accepts anything JSON can say, without control characters that could end a line of a config file.
func (v *verdict) free(path string, val any) {
	switch val := val.(type) {
	case nil, bool, int, float64, Secret, Personal:
	case string:
		if !plainText(val) {
			v.add(path, "must not have control characters")
		}
	case []any:
		for i, e := range val {
			v.free(path+"."+strconv.Itoa(i), e)
		}
	default:
		m, ok := asObject(val)
		if !ok {
			v.add(path, "must be text, a number, true or false, a list or an object")
			return
		}
		for _, k := range sortedKeys(m) {
			if strings.HasPrefix(k, "$") || !plainText(k) {
				v.add(quoteField(join(path, k)), "is not a name of a setting")
				continue
			}
			v.free(join(path, k), m[k])
		}
	}
}

// check returns the rule val breaks, or "".
func (d *SettingDef) check(val any) string {
	switch d.Kind {
	case KindBool:
		if _, ok := val.(bool); !ok {
			return "must be true or false"
		}
		return ""
	case KindInt:
		if i, ok := asInt(val); !ok || i < d.Min || i > d.Max {
			return fmt.Sprintf("must be a number from %d to %d", d.Min, d.Max)
		}
		return ""
	case KindList, KindPEMs:
		return d.checkList(val)
	}
	s, ok := val.(string)
	if !ok {
		return "must be text"
	}
	return d.checkText(s)
}

func (d *SettingDef) checkList(val any) string {
	l, ok := val.([]any)
	if !ok {
		return "must be a list of text"
	}
	if len(l) > 64 {
		return "must have at most 64 elements"
	}
	seen := map[string]bool{}
	for _, e := range l {
		s, ok := e.(string)
		switch {
		case !ok:
			return "must be a list of text"
		case d.Kind == KindPEMs:
			if rule := checkPEM(s, d.Max); rule != "" {
				return rule
			}
		case !slices.Contains(d.Values, s):
			return "must list only " + strings.Join(d.Values, ", ")
		case seen[s]:
			return "must not list " + s + " twice"
		}
		seen[s] = true
	}
	return ""
}

func (d *SettingDef) checkText(s string) string {
	switch {
	case d.Kind == KindPEM:
		return checkPEM(s, d.Max)
	case d.Max > 0 && len(s) > d.Max:
		return fmt.Sprintf("must not be longer than %d bytes", d.Max)
	case !plainText(s):
		return "must not have control characters"
	case d.Secret && s == Redacted:
		return "is the placeholder of a secret: leave it out, or send the new value"
	case s == "" && d.Kind != KindEnum:
		return "" // as good as not set
	}
	switch d.Kind {
	case KindHost:
		if !isHost(s) {
			return "must be a host name or IP address"
		}
	case KindURL:
		return checkURL(s)
	case KindEnum:
		if !slices.Contains(d.Values, s) {
			return "must be one of " + strings.Join(d.Values, ", ")
		}
	case KindLocale:
		if !isLocale(s) {
			return "must be a locale such as fr_FR"
		}
	case KindZone:
		if !KnownZone(s) {
			return "must be a time zone such as Europe/Paris"
		}
	case KindClock:
		if !isClock(s) {
			return "must be a time of day such as 03:30"
		}
	}
	return ""
}

func checkPEM(s string, most int) string {
	if len(s) > most {
		return fmt.Sprintf("must not be longer than %d bytes", most)
	}
	t := strings.TrimSpace(s)
	if t != "" && (!strings.HasPrefix(t, "-----BEGIN ") || !strings.HasSuffix(t, "-----") || strings.ContainsRune(t, 0)) {
		return "must be PEM"
	}
	return ""
}

func checkURL(s string) string {
	scheme, rest, ok := strings.Cut(s, "://")
	known := slices.Contains([]string{"http", "https", "tftp", "ftp", "ftps", "ldap", "ldaps"}, strings.ToLower(scheme))
	if !ok || !known || rest == "" || rest[0] == '/' || strings.ContainsFunc(s, unicode.IsSpace) {
		return "must be an absolute URL (http, https, tftp, ftp, ftps, ldap, ldaps) without blanks"
	}
	return ""
}

func isHost(s string) bool {
	for _, c := range []byte(s) {
		if !isAlnum(c) && strings.IndexByte(".-_:[]%", c) < 0 {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func isLocale(s string) bool {
	return len(s) == 5 && s[2] == '_' && isLower(s[0]) && isLower(s[1]) && isUpper(s[3]) && isUpper(s[4])
}

func isLower(c byte) bool { return c >= 'a' && c <= 'z' }
func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' }

func isClock(s string) bool {
	h, m, ok := strings.Cut(s, ":")
	hour, err1 := strconv.ParseUint(h, 10, 8)
	minute, err2 := strconv.ParseUint(m, 10, 8)
	return ok && len(h) == 2 && len(m) == 2 && err1 == nil && err2 == nil && hour < 24 && minute < 60
}

// plainText tells whether s is UTF-8 without control characters and line separators.
func plainText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || r == '\u2028' || r == '\u2029'
	})
}

// isPosition accepts "1" to "9999" and, for function keys, "<module>-<key>".
func isPosition(k string, key bool) bool {
	if module, rest, ok := strings.Cut(k, "-"); ok && key {
		return isPosition(module, false) && isPosition(rest, false)
	}
	n, err := strconv.Atoi(k)
	return err == nil && n >= 1 && n <= 9999 && strconv.Itoa(n) == k
}

func quoteField(p string) string { return fmt.Sprintf("%.80q", p) }

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func asObject(v any) (map[string]any, bool) {
	switch v := v.(type) {
	case map[string]any:
		return v, true
	case Settings:
		return v, true
	}
	return nil, false
}

func asInt(v any) (int, bool) {
	switch v := v.(type) {
	case int:
		return v, true
	case string:
		i, err := strconv.Atoi(strings.TrimSpace(v))
		return i, err == nil
	}
	return 0, false
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// ValidateMerged checks what a configured phone cannot do without, on merged settings: Validate, and that
// whatever is switched on has its address. Errors as Validate's.
func (s Settings) ValidateMerged() error {
	v := &verdict{}
	v.object(schemaTree, "", s)
	for _, need := range [][2]string{{"dns_enabled", "dns_ip"}, {"ntp_enabled", "ntp_ip"}, {"vlan_enabled", "vlan_id"},
		{"syslog_enabled", "syslog_ip"}, {"ldap_enabled", "ldap_ip"}} {
		if on, _ := s[need[0]].(bool); on && !isSet(s[need[1]]) {
			v.add(need[1], "is needed when "+need[0]+" is true")
		}
	}
	v.lines(s)
	for n, m := range s.objects("sccp_call_managers") {
		if !isSet(m["ip"]) {
			v.add("sccp_call_managers."+n+".ip", "is needed")
		}
	}
	v.keys(s)
	slices.SortStableFunc(v.problems, func(a, b error) int {
		return strings.Compare(a.(*SettingsError).Field, b.(*SettingsError).Field)
	})
	return v.err()
}

func (v *verdict) lines(s Settings) {
	shared := isSet(s["sip_proxy_ip"]) || isSet(s["sip_registrar_ip"])
	for n, m := range s.objects("sip_lines") {
		if on, ok := m["enabled"].(bool); ok && !on {
			continue
		}
		if !isSet(m["username"]) {
			v.add("sip_lines."+n+".username", "is needed")
		}
		if !shared && !isSet(m["proxy_ip"]) && !isSet(m["registrar_ip"]) {
			v.add("sip_lines."+n+".proxy_ip", "is needed, here or as sip_proxy_ip")
		}
	}
}

func (v *verdict) keys(s Settings) {
	for n, m := range s.objects("funckeys") {
		kind, _ := m["type"].(string)
		switch {
		case kind == "":
			v.add("funckeys."+n+".type", "is needed")
		case slices.Contains([]string{"speeddial", "blf", "dtmf", "intercom", "url", "xml", "paging", "multicast", "prefix"}, kind) && !isSet(m["value"]):
			v.add("funckeys."+n+".value", "is needed for a key of type "+kind)
		}
	}
}

// objects yields the objects below key in order of position.
func (s Settings) objects(key string) func(func(string, map[string]any) bool) {
	all, _ := asObject(s[key])
	return func(yield func(string, map[string]any) bool) {
		for _, n := range slices.SortedFunc(maps.Keys(all), comparePositions) {
			if m, ok := asObject(all[n]); ok && !yield(n, m) {
				return
			}
		}
	}
}

// Lines yields the entries of sip_lines by position, as the settings hold them.
func (s Settings) Lines() iter.Seq2[string, LineSettings] {
	return func(yield func(string, LineSettings) bool) {
		for n, m := range s.objects("sip_lines") {
			if !yield(n, m) {
				return
			}
		}
	}
}

// comparePositions orders "2" before "10" before "1-1".
func comparePositions(a, b string) int {
	if d := strings.Count(a, "-") - strings.Count(b, "-"); d != 0 {
		return d
	}
	if d := len(a) - len(b); d != 0 && !strings.Contains(a, "-") {
		return d
	}
	am, ak, _ := strings.Cut(a, "-")
	bm, bk, _ := strings.Cut(b, "-")
	if am != bm {
		if d := len(am) - len(bm); d != 0 {
			return d
		}
		return strings.Compare(am, bm)
	}
	if d := len(ak) - len(bk); d != 0 {
		return d
	}
	return strings.Compare(ak, bk)
}

func isSet(v any) bool { return v != nil && v != "" }

// Clone is a deep copy.
func (s Settings) Clone() Settings { return Settings(cloneObject(s)) }

func cloneObject(m map[string]any) map[string]any {
	if m == nil {
		return nil
	}
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = cloneValue(v)
	}
	return out
}

func cloneValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return cloneObject(v)
	case Settings:
		return cloneObject(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = cloneValue(v[i])
		}
		return out
	}
	return v
}

// Merge lays over on base: objects merge key by key at every depth, everything else (lists and null too)
// replaces (wazo-provd's rule). The result shares nothing with its arguments.
func Merge(base, over Settings) Settings { return Settings(mergeObjects(base, over)) }

func mergeObjects(base, over map[string]any) map[string]any {
	out := make(map[string]any, len(base)+len(over))
	for k, v := range base {
		if _, hidden := over[k]; !hidden {
			out[k] = cloneValue(v)
		}
	}
	for k, v := range over {
		b, isBase := asObject(base[k])
		o, isOver := asObject(v)
		if isBase && isOver {
			out[k] = mergeObjects(b, o)
		} else {
			out[k] = cloneValue(v)
		}
	}
	return out
}

// Overlay merges levels, the lowest first, and fills in what follows from them, as Merge and FillDefaults do one by one.
func Overlay(levels ...Settings) Settings {
	out := map[string]any{}
	for _, l := range levels {
		lay(out, l)
	}
	return Settings(out).fillDefaults()
}

// lay merges over into own, which is shared with nobody.
func lay(own, over map[string]any) {
	for k, v := range over {
		below, isBelow := own[k].(map[string]any)
		above, isAbove := asObject(v)
		if isBelow && isAbove {
			lay(below, above)
		} else {
			own[k] = cloneValue(v)
		}
	}
}

// Get returns the value at a dotted path, nil when there is none.
func (s Settings) Get(path string) any {
	var v any = map[string]any(s)
	for name := range strings.SplitSeq(path, ".") {
		m, ok := asObject(v)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

// Paths lists the dotted paths of all leaves, sorted. An empty object is a leaf.
func (s Settings) Paths() []string {
	var out []string
	walk(schemaTree, s, make([]string, 0, deepPath), func(_ *node, at []string, _ any) { out = append(out, strings.Join(at, ".")) })
	slices.Sort(out)
	return out
}

// deepPath is how many keys a path rarely has more of.
const deepPath = 8

// walk visits every leaf in order of keys; n is nil below a free key. at is the leaf's only while visit runs.
func walk(n *node, m map[string]any, at []string, visit func(n *node, at []string, v any)) {
	for _, k := range sortedKeys(m) {
		here := append(at, k)
		if c, ok := asObject(m[k]); ok && len(c) > 0 {
			walk(n.child(k), c, here, visit)
		} else {
			visit(n.child(k), here, m[k])
		}
	}
}

// isSecret tells whether the leaf under schema node n must be sealed: credentials, and all free keys.
func isSecret(n *node) bool { return n == nil || n.def != nil && n.def.Secret }

func isPersonal(n *node) bool { return n != nil && n.def != nil && n.def.Personal }

// Secrets lists the dotted paths of all leaves MapSecrets would visit, sorted.
func (s Settings) Secrets() []string {
	var out []string
	walk(schemaTree, s, make([]string, 0, deepPath), func(n *node, at []string, v any) {
		if secretLeaf(n, v) {
			out = append(out, strings.Join(at, "."))
		}
	})
	slices.Sort(out)
	return out
}

func secretLeaf(n *node, v any) bool {
	switch v.(type) {
	case Secret:
		return true
	case Personal:
		return false
	}
	return holdsSomething(v) && isSecret(n)
}

func personalLeaf(n *node, v any) bool {
	switch v.(type) {
	case Personal:
		return true
	case Secret:
		return false
	}
	return holdsSomething(v) && isPersonal(n)
}

func holdsSomething(v any) bool {
	m, isMap := asObject(v)
	return isSet(v) && (!isMap || len(m) > 0)
}

// MapSecrets is a copy of s in which fn has replaced every secret leaf: clear text by a Secret on the way
// into the log, a Secret by its clear text on the way to a renderer. fn gets the leaf's JSON pointer within s
// ("/sip_lines/1/password") and its value; leaves come in order of keys. Secret are the leaves the schema
// calls so, everything under free X_ keys (a list counts as one leaf), and whatever is a Secret already; empty text and null
// are not visited. A leaf that is no text travels as LeafText. The first error of fn is returned as it is.
func (s Settings) MapSecrets(fn func(pointer string, v any) (any, error)) (Settings, error) {
	return s.replace(secretLeaf, fn)
}

// MapPersonal is MapSecrets for names and numbers of people, and for leaves that are a Personal.
func (s Settings) MapPersonal(fn func(pointer string, v any) (any, error)) (Settings, error) {
	return s.replace(personalLeaf, fn)
}

// Unseal is a copy of s in which fn has replaced everything that is a Secret or a Personal. The first error of fn is
// returned as it is.
func (s Settings) Unseal(fn func(v any) (any, error)) (Settings, error) {
	if s == nil {
		return nil, nil
	}
	return unsealed(s, fn)
}

func unsealed(m map[string]any, fn func(v any) (any, error)) (out map[string]any, err error) {
	out = make(map[string]any, len(m))
	for k, v := range m {
		switch v := v.(type) {
		case Secret, Personal:
			out[k], err = fn(v)
		case map[string]any:
			out[k], err = unsealed(v, fn)
		case Settings:
			out[k], err = unsealed(v, fn)
		default:
			out[k] = cloneValue(v)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s Settings) replace(which func(*node, any) bool, fn func(string, any) (any, error)) (Settings, error) {
	out := s.Clone()
	var failed error
	walk(schemaTree, out, make([]string, 0, deepPath), func(n *node, at []string, v any) {
		if failed != nil || !which(n, v) {
			return
		}
		nv, err := fn(pointer(at), v)
		if err != nil {
			failed = err
			return
		}
		m := map[string]any(out)
		for _, k := range at[:len(at)-1] {
			m, _ = asObject(m[k])
		}
		m[at[len(at)-1]] = nv
	})
	if failed != nil {
		return nil, failed
	}
	return out, nil
}

var pointerEscaper = strings.NewReplacer("~", "~0", "/", "~1")

func pointer(at []string) string {
	var b strings.Builder
	for _, k := range at {
		b.WriteByte('/')
		_, _ = pointerEscaper.WriteString(&b, k)
	}
	return b.String()
}

const leafMark = "\x00json:"

// LeafText is the text under which a secret leaf is sealed: itself for text, a marked JSON form for
// everything else. Text never begins with the mark, for settings have no control characters.
func LeafText(v any) (string, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	return leafMark + string(b), nil
}

// LeafValue is the value LeafText was made from.
func LeafValue(text string) any {
	rest, marked := strings.CutPrefix(text, leafMark)
	if !marked {
		return text
	}
	dec := json.NewDecoder(strings.NewReader(rest))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return text
	}
	return normalize(nil, v)
}

// WithoutSecrets is a copy without any secret leaf.
func (s Settings) WithoutSecrets() Settings {
	out := s.Clone()
	for _, path := range s.Secrets() {
		at := strings.Split(path, ".")
		m := map[string]any(out)
		for _, k := range at[:len(at)-1] {
			m, _ = asObject(m[k])
		}
		delete(m, at[len(at)-1])
	}
	return out
}

// Redacted is a copy with every secret leaf replaced by "[redacted]", for those who may not read them.
func (s Settings) Redacted() Settings {
	out, _ := s.MapSecrets(func(string, any) (any, error) { return Redacted, nil })
	return out
}

// Canonical is the JSON form: keys sorted, no blanks, the same bytes for equal settings. It fails with
// ErrUnsealed while a leaf is a Secret not sealed yet.
func (s Settings) Canonical() ([]byte, error) { return json.Marshal(s) }

// MarshalJSON writes a Secret as {"$sealed":{…}} and a Personal as {"$personal":{…}}.
func (s Settings) MarshalJSON() ([]byte, error) {
	if s == nil {
		return []byte("null"), nil
	}
	return json.Marshal(wrap(map[string]any(s)))
}

func wrap(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, c := range v {
			out[k] = wrap(c)
		}
		return out
	case Settings:
		return wrap(map[string]any(v))
	case Secret:
		return map[string]any{sealedKey: v.Sealed}
	case Personal:
		return map[string]any{personalKey: v.Sealed}
	}
	return v
}

// UnmarshalJSON reads what MarshalJSON wrote. It normalises numbers and restores sealed leaves, and does not validate;
// text from outside goes through ParseSettings, which refuses sealed leaves.
func (s *Settings) UnmarshalJSON(b []byte) error {
	if bytes.Equal(bytes.TrimSpace(b), []byte("null")) {
		*s = nil
		return nil
	}
	tree, err := DecodeObject(b)
	if err != nil {
		return err
	}
	out, err := unwrap(tree)
	if err != nil {
		return err
	}
	m, ok := out.(map[string]any)
	if !ok {
		return errors.New("settings are a sealed value, not an object")
	}
	*s = normalizeObject(nil, m)
	return nil
}

func unwrap(v any) (any, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return v, nil
	}
	if len(m) == 1 {
		if c, ok := m[sealedKey]; ok {
			sealed, err := sealedFrom(c)
			return Secret{sealed}, err
		}
		if c, ok := m[personalKey]; ok {
			sealed, err := sealedFrom(c)
			return Personal{sealed}, err
		}
	}
	for k, c := range m {
		nc, err := unwrap(c)
		if err != nil {
			return nil, err
		}
		m[k] = nc
	}
	return m, nil
}

func sealedFrom(v any) (Sealed, error) {
	var s Sealed
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	return s, err
}

// Equal tells whether both say the same; sealed leaves are equal when they are known to be (Sealed.Same).
func (s Settings) Equal(t Settings) bool { return equalObjects(s, t) }

func equalObjects(a, b map[string]any) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		w, ok := b[k]
		if !ok || !equalValues(v, w) {
			return false
		}
	}
	return true
}

func equalValues(a, b any) bool {
	switch a := a.(type) {
	case Secret:
		s, ok := b.(Secret)
		return ok && a.Same(s.Sealed)
	case Personal:
		p, ok := b.(Personal)
		return ok && a.Same(p.Sealed)
	case []any:
		l, ok := b.([]any)
		return ok && slices.EqualFunc(a, l, equalValues)
	}
	am, aok := asObject(a)
	bm, bok := asObject(b)
	if aok || bok {
		return aok && bok && equalObjects(am, bm)
	}
	switch b.(type) {
	case Secret, Personal, []any:
		return false
	}
	return a == b
}

// FillDefaults is a copy of merged settings with what follows from them written out (wazo-provd.md §2.5), so that a
// template never has to ask twice: the server's old address form, log and media defaults, and in every line what it
// inherits from the settings for all lines. A port is inherited only together with its address, and a line with a
// server of its own does not inherit the backup of the others.
func (s Settings) FillDefaults() Settings {
	if out := s.Clone(); out != nil {
		return out.fillDefaults()
	}
	return Settings{}.fillDefaults()
}

func (out Settings) fillDefaults() Settings {
	if on, _ := out["syslog_enabled"].(bool); on {
		out.fill("syslog_port", 514)
		out.fill("syslog_level", "warning")
		out.fill("syslog_transport", "udp")
	}
	if u, err := url.Parse(textOf(out["http_base_url"])); err == nil && u.Hostname() != "" {
		out.fill("ip", u.Hostname())
		p, err := strconv.Atoi(u.Port())
		if err != nil {
			p = 8667
		}
		out.fill("http_port", p)
	}
	out.fill("protocol", "SIP")
	out.fill("sip_srtp_mode", "disabled")
	out.fill("sip_transport", "udp")
	inherit(out, "sip_registrar", out, "sip_proxy")
	inherit(out, "sip_backup_registrar", out, "sip_backup_proxy")
	for _, k := range []string{"sip_lines", "sccp_call_managers", "funckeys"} {
		out.fill(k, map[string]any{})
	}
	for _, line := range out.objects("sip_lines") {
		fillLine(line, out)
	}
	return out
}

func (s Settings) fill(key string, v any) {
	if !isSet(s[key]) {
		s[key] = cloneValue(v)
	}
}

// inherit copies <from>_ip and, with it, <from>_port.
func inherit(to Settings, toName string, from Settings, fromName string) {
	if isSet(to[toName+"_ip"]) || !isSet(from[fromName+"_ip"]) {
		return
	}
	to[toName+"_ip"] = from[fromName+"_ip"]
	if p := from[fromName+"_port"]; isSet(p) {
		to[toName+"_port"] = p
	} else {
		delete(to, toName+"_port")
	}
}

func fillLine(line map[string]any, all Settings) {
	l := Settings(line)
	l.fill("enabled", true)
	if isSet(l["proxy_ip"]) {
		inherit(l, "registrar", l, "proxy")
	}
	if isSet(l["backup_proxy_ip"]) {
		inherit(l, "backup_registrar", l, "backup_proxy")
	}
	shared := []string{"proxy", "registrar", "backup_proxy", "backup_registrar", "outbound_proxy", "backup_outbound_proxy"}
	if isSet(l["proxy_ip"]) || isSet(l["registrar_ip"]) {
		shared = shared[4:] // a server of its own has no use for the others' backup
	}
	for _, name := range shared {
		inherit(l, name, all, "sip_"+name)
	}
	inherit(l, "proxy", l, "registrar")
	if isSet(l["username"]) {
		l.fill("auth_username", l["username"])
	}
	for _, name := range []string{"transport", "dtmf_mode", "srtp_mode", "registration_expires", "subscribe_mwi"} {
		if v := all["sip_"+name]; isSet(v) {
			l.fill(name, v)
		}
	}
	for name, from := range map[string]string{"voicemail": "exten_voicemail", "codecs": "codecs", "dial_plan": "dial_plan", "ringtone": "ringtone"} {
		if v := all[from]; isSet(v) {
			l.fill(name, v)
		}
	}
}

func textOf(v any) string {
	s, _ := v.(string)
	return s
}
