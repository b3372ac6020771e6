package plugins

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"ledgerline/adapters/plugins/tz"
	"ledgerline/adapters/plugins/wire"
	"ledgerline/commands"
	"ledgerline/domain"
)

// RendererVersion names the behaviour of this package's own code: functions, escapers, defaults. It changes
// whenever the same package and settings may give other bytes.
const RendererVersion = "1.1.0"

// Budget of one rendered file. Steps are template actions, loop turns and function calls, about 200 ms
// of them; counted, not timed, so that a slow machine gives the same answer.
const (
	maxOutput = 1 << 20
	maxSteps  = 400_000
)

// ErrBudget: a template wrote or worked more than a file may.
var ErrBudget = errors.New("template exceeds its budget")

// ErrSealedSettings: a secret reached the renderer still sealed.
var ErrSealedSettings = errors.New("settings hold a sealed value")

var (
	_ commands.Renderer   = (*Set)(nil)
	_ commands.Recognizer = (*Set)(nil)
)

// Render makes all files of one device, in the order of the package's file table. It is pure. Wishes the model
// or the package cannot honour become warnings: lines and keys beyond what the model has, words without a
// translation, and every setting given that no template asked for. Errors: commands.ErrNoPlugin,
// ErrSealedSettings, ErrBudget, and those of a template that fails.
func (s *Set) Render(ctx context.Context, r commands.Render) (commands.Rendered, error) {
	p, err := s.find(ctx, r.Plugin)
	if err != nil {
		return commands.Rendered{}, err
	}
	out := commands.Rendered{Plugin: p.Ref(), Renderer: RendererVersion, TZData: tz.Version()}
	read := reads.Get().(map[asked]bool)
	defer func() { clear(read); reads.Put(read) }()
	real, err := newView(p, r, read)
	if err != nil {
		return commands.Rendered{}, fmt.Errorf("render %s: %w", p.Name, err)
	}
	veiled, err := newView(p, veil(r), nil)
	if err != nil {
		return commands.Rendered{}, fmt.Errorf("render %s: %w", p.Name, err)
	}
	var rows []FileRow
	for _, row := range p.Files {
		if row.Role == "guest" && !r.Guest || row.Role == "device" && r.Guest {
			continue
		}
		if err := ctx.Err(); err != nil {
			return commands.Rendered{}, err
		}
		f, ok, err := p.file(row, real, veiled)
		if err != nil {
			return commands.Rendered{}, fmt.Errorf("render %s of %s: %w", row.Path, p.Name, err)
		}
		if ok {
			out.Files = append(out.Files, f)
			rows = append(rows, row)
		}
	}
	real.overlay(veiled, rows, out.Files)
	for i, f := range out.Files {
		if out.Files[i].Data, err = wire.Finish(rows[i].Format, f.Data, string(r.MAC)); err == nil {
			out.Files[i].Skeleton, err = wire.Finish(rows[i].Format, f.Skeleton, string(r.MAC))
		}
		if err != nil {
			return commands.Rendered{}, fmt.Errorf("render %s of %s: %w", rows[i].Path, p.Name, err)
		}
	}
	if err := distinct(out.Files); err != nil {
		return commands.Rendered{}, fmt.Errorf("render %s: %w", p.Name, err)
	}
	if !r.Guest {
		real.warnUnread(r.Settings)
	}
	out.Warnings = real.warnings
	return out, nil
}

func (p *Package) file(row FileRow, real, veiled *view) (commands.File, bool, error) {
	if row.When != "" {
		b, err := p.pool.execute(whenName(row), "", real)
		if err != nil || len(strings.TrimSpace(string(b))) == 0 {
			return commands.File{}, false, err
		}
	}
	f := commands.File{Path: real.expand(row.Path), ContentType: row.ContentType}
	for _, a := range row.Aliases {
		if name := real.expand(a); name != f.Path && fs.ValidPath(name) && !slices.Contains(f.Aliases, name) {
			f.Aliases = append(f.Aliases, name)
		}
	}
	if !fs.ValidPath(f.Path) {
		return f, false, fmt.Errorf("%w: %q is no path", ErrPackage, f.Path)
	}
	var err error
	if f.Data, err = p.pool.execute(row.Template, row.Format, real); err != nil {
		return f, false, err
	}
	f.Skeleton, err = p.pool.execute(row.Template, row.Format, veiled)
	return f, true, err
}

func distinct(files []commands.File) error {
	seen := map[string]bool{}
	for i, f := range files {
		if seen[f.Path] {
			return fmt.Errorf("%w: two files named %q", ErrPackage, f.Path)
		}
		seen[f.Path] = true
		files[i].Aliases = slices.DeleteFunc(f.Aliases, func(a string) bool { return seen[a] })
		for _, a := range files[i].Aliases {
			seen[a] = true
		}
	}
	return nil
}

// veil puts the placeholder in the place of every secret: credentials, free settings, and the path of the
// phone's URL, which is one.
func veil(r commands.Render) commands.Render {
	r.Settings = r.Settings.Redacted()
	r.BaseURL = veilURL(r.BaseURL)
	if u, ok := r.Settings["http_base_url"].(string); ok {
		r.Settings["http_base_url"] = veilURL(u)
	}
	return r
}

func veilURL(s string) string {
	u, err := url.Parse(s)
	if err != nil || strings.Trim(u.Path, "/") == "" && u.User == nil {
		return s
	}
	return u.Scheme + "://" + u.Host + "/" + domain.Redacted + "/"
}

// view is what templates see of one device: see doc.go. It is used by one goroutine.
type view struct {
	MAC      domain.MAC
	ID       domain.DeviceID
	Name     string // of the model, as the table spells it; empty if unknown
	Accounts int
	Fw       string
	FwLine   int // 0 if unknown and the table has no fw_line
	BaseURL  string
	Guest    bool
	Vendor   string
	// CodeEntry is the URL at which this phone asks its user for a code; "" for a phone that is configured or has no browser.
	// Action and Refused are for the pages there: see CodeEntry of plugin.yaml.
	CodeEntry, Action string
	Refused           bool
	Zone              *Zone // nil without a time zone
	Language          string
	Country           string
	// ToneCountry is whose tones to play: tone_country, else the locale's, else the zone's country.
	ToneCountry string
	// Lines are all accounts of the model, from 1; those without a SIP line are not Used.
	Lines []*Line
	// Keys are all keys of the phone itself, from 1, Expansion those of the modules that hold a key.
	Keys      []*Key
	Expansion []*Key

	pkg      *Package
	model    Model
	known    bool
	settings domain.Settings
	read     map[asked]bool
	released bool // firmware_url stands for firmware_release
	warnings []commands.Warning
}

// asked is a setting a template asked for: key within line, or a path when line is noLine.
type asked struct {
	line int
	key  string
}

const noLine = math.MinInt

// Line is one SIP account. Its methods read the line's settings, defaults filled in.
type Line struct {
	N        int
	Used     bool
	settings map[string]any
	view     *view
}

// Key is one key. Fields are as in the funckeys settings, Line 1 by default, Pickup the code or "".
type Key struct {
	Module, N                  int // Module 0 is the phone
	Type, Value, Label, Pickup string
	Line                       int
	Used                       bool
}

// Zone is a time zone as phones want it.
type Zone struct {
	tz.Zone
	// Offset is standard time, seconds east of UTC; Saving what DST adds, 0 without.
	Offset, Saving int
	DST            bool
	start, end     tz.Change
	view           *view
}

// Start is when DST begins, in standard time, as a rule by week; the zero Week without DST. Asking for it warns when
// the zone's rule cannot be said so exactly.
func (z *Zone) Start() tz.Week { return z.weekly(z.start) }

// End is when DST ends, in DST; as Start.
func (z *Zone) End() tz.Week { return z.weekly(z.end) }

func (z *Zone) weekly(c tz.Change) tz.Week {
	if !z.DST {
		return tz.Week{}
	}
	w, exact := c.Weekly()
	if !exact {
		z.view.warn("timezone", fmt.Sprintf("the rule of %s, %s, has no exact form by week and hour; the nearest is used", z.Name, c))
	}
	return w
}

// StartDate is when DST begins as a date, for phones that know no rules: in the year of the setting dst_year, else the
// middle of the dates the rule falls on. Asking for it says so in a warning. The zero Day without DST.
func (z *Zone) StartDate() tz.Day { return z.date(z.start) }

// EndDate is when DST ends; as StartDate.
func (z *Zone) EndDate() tz.Day { return z.date(z.end) }

func (z *Zone) date(c tz.Change) tz.Day {
	if !z.DST {
		return tz.Day{}
	}
	year, _ := strconv.Atoi(z.view.get("dst_year"))
	if year == 0 {
		z.view.warn("timezone", "the phone takes dates, no rule: it changes its clock up to three days early or late; set dst_year each year for the very days")
	} else {
		z.view.warn("dst_year", fmt.Sprintf("the phone takes dates, no rule: those of %d are written, and have to be set anew for the next year", year))
	}
	return c.In(year)
}

// Signed is the offset as "+1", "-5" or "+5:30"; "0" for UTC.
func (z *Zone) Signed() string {
	t, sign := z.Offset, "+"
	if t == 0 {
		return "0"
	}
	if t < 0 {
		t, sign = -t, "-"
	}
	s := sign + strconv.Itoa(t/3600)
	if m := t / 60 % 60; m != 0 {
		s += fmt.Sprintf(":%02d", m)
	}
	return s
}

// POSIX is the rule with abbreviations of letters only; without DST if that is switched off.
func (z *Zone) POSIX() string {
	r := z.Rule.Normal()
	r.HasDST = z.DST
	std, dst := "STD", "DST"
	if isLetters(r.StdName) {
		std = r.StdName
	}
	if isLetters(r.DSTName) {
		dst = r.DSTName
	}
	return r.POSIX(std, dst)
}

func isLetters(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r|0x20 < 'a' || r|0x20 > 'z' })
}

// reads are empty maps for what is asked for, with the room that takes.
var reads = sync.Pool{New: func() any { return make(map[asked]bool, 200) }}

// newView reads the settings. read collects what is asked for; a view without it is silent, for its twin says the same.
func newView(p *Package, r commands.Render, read map[asked]bool) (*view, error) {
	all := r.Settings.FillDefaults()
	if err := unsealed(all); err != nil {
		return nil, err
	}
	v := &view{MAC: r.MAC, ID: r.ID, Fw: r.Fw, Guest: r.Guest, Vendor: p.Vendor, pkg: p, settings: all, read: read}
	v.model, v.known = p.Model(r.Model)
	if r.Model != "" {
		v.Name = v.model.Name
	}
	if !v.known && r.Model != "" {
		v.warn("model", fmt.Sprintf("%s is not a model this package knows; it is treated as any %s", r.Model, p.Vendor))
	}
	v.Accounts = v.model.Accounts
	v.FwLine = p.FirmwareLine(r.Fw)
	if v.FwLine == 0 {
		v.FwLine, _ = strconv.Atoi(v.model.Columns["fw_line"])
	}
	v.BaseURL = cmp.Or(r.BaseURL, v.get("http_base_url"))
	if v.BaseURL != "" && !strings.HasSuffix(v.BaseURL, "/") {
		v.BaseURL += "/"
	}
	v.setPlace()
	v.setFirmware()
	if !r.Guest {
		v.setLines()
		v.setKeys()
	}
	return v, v.setCodeEntry()
}

func unsealed(v any) error {
	switch v := v.(type) {
	case domain.Secret, domain.Personal:
		return ErrSealedSettings
	case domain.Settings:
		return unsealed(map[string]any(v))
	case map[string]any:
		for _, c := range v {
			if err := unsealed(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// setPlace reads time zone and locale.
func (v *view) setPlace() {
	v.Language, v.Country, _ = strings.Cut(v.get("locale"), "_")
	v.ToneCountry = cmp.Or(strings.ToUpper(v.get("tone_country")), v.Country)
	name := v.get("timezone")
	if name == "" {
		return
	}
	z, err := tz.Lookup(name)
	if err != nil {
		v.warn("timezone", "is not known: "+name)
		return
	}
	v.ToneCountry = cmp.Or(v.ToneCountry, z.Country)
	n := z.Rule.Normal()
	v.Zone = &Zone{Zone: z, Offset: n.StdOffset, DST: n.HasDST && v.on("dst_enabled", true), start: n.Start, end: n.End, view: v}
	if !z.Exact {
		v.warn("timezone", name+" changes its clock by a calendar no yearly rule can say; the standard rule is used")
	}
	if v.Zone.DST {
		v.Zone.Saving = n.Saving()
	}
}

func (v *view) setLines() {
	lines := v.object("sip_lines")
	for n := 1; n <= v.Accounts; n++ {
		m, ok := lines[strconv.Itoa(n)].(map[string]any)
		l := &Line{N: n, settings: m, view: v}
		l.Used = ok && l.On("enabled")
		v.Lines = append(v.Lines, l)
	}
	var over []int
	for k := range lines {
		if n, err := strconv.Atoi(k); err == nil && n > v.Accounts {
			over = append(over, n)
		}
	}
	slices.Sort(over)
	for _, n := range over {
		v.warn("sip_lines."+strconv.Itoa(n), fmt.Sprintf("the %s has %s; this one is left out", v.title(), count(v.Accounts, "line")))
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// title names the model in a sentence.
func (v *view) title() string { return cmp.Or(v.Name, v.Vendor+" phone") }

func (v *view) setKeys() {
	unused := make([]Key, v.model.Keys)
	for i := range unused {
		unused[i] = Key{N: i + 1, Line: 1, Type: "none"}
		v.Keys = append(v.Keys, &unused[i])
	}
	keys := v.object("funckeys")
	for _, name := range sortedKeys(keys) {
		m, ok := keys[name].(map[string]any)
		module, n, placed := v.place(name)
		switch {
		case !ok:
			continue
		case !placed:
			v.warn("funckeys."+name, fmt.Sprintf("the %s has %s and %s; this one is left out", v.title(), count(v.model.Keys, "key"), v.expansion()))
			continue
		}
		k := v.key(m, module, n)
		if module == 0 {
			v.Keys[n-1] = k
		} else {
			v.Expansion = append(v.Expansion, k)
		}
	}
	slices.SortStableFunc(v.Expansion, func(a, b *Key) int { return cmp.Or(a.Module-b.Module, a.N-b.N) })
	v.Expansion = slices.CompactFunc(v.Expansion, func(a, b *Key) bool { return a.Module == b.Module && a.N == b.N })
}

func (v *view) expansion() string {
	if v.model.ExpModules*v.model.ExpKeys == 0 {
		return "no expansion module"
	}
	return fmt.Sprintf("%s of %d keys", count(v.model.ExpModules, "expansion module"), v.model.ExpKeys)
}

// place finds the key of a name: "5", or "2-7" for key 7 of module 2. Numbers beyond the phone go on on the modules.
func (v *view) place(name string) (module, n int, ok bool) {
	if m, k, dashed := strings.Cut(name, "-"); dashed {
		module, _ = strconv.Atoi(m)
		n, _ = strconv.Atoi(k)
	} else {
		n, _ = strconv.Atoi(name)
		if beyond := n - v.model.Keys; beyond > 0 && v.model.ExpKeys > 0 {
			module, n = (beyond-1)/v.model.ExpKeys+1, (beyond-1)%v.model.ExpKeys+1
		}
	}
	if module == 0 {
		return 0, n, n >= 1 && n <= v.model.Keys
	}
	return module, n, module >= 1 && module <= v.model.ExpModules && n >= 1 && n <= v.model.ExpKeys
}

func (v *view) key(m map[string]any, module, n int) *Key {
	k := &Key{Module: module, N: n, Type: cmp.Or(textOf(m["type"]), "none"), Value: textOf(m["value"]), Label: textOf(m["label"]), Line: 1}
	k.Used = k.Type != "none"
	if l, err := strconv.Atoi(textOf(m["line"])); err == nil && l >= 1 {
		k.Line = l
	}
	switch k.Type {
	case "blf":
		k.Pickup = cmp.Or(textOf(m["pickup"]), v.get("exten_pickup_call"))
	case "park":
		k.Value = cmp.Or(k.Value, v.get("exten_park"))
	case "voicemail":
		k.Value = cmp.Or(k.Value, v.get("exten_voicemail"))
	case "group_pickup":
		k.Value = cmp.Or(k.Value, v.get("exten_pickup_group"))
	case "pickup":
		k.Value = cmp.Or(k.Value, v.get("exten_pickup_call"))
	case "record":
		k.Value = cmp.Or(k.Value, v.get("exten_record"))
	case "line":
		if k.Value != "" {
			if l, err := strconv.Atoi(k.Value); err == nil && l >= 1 && m["line"] == nil {
				k.Line = l
			}
		}
	}
	if k.Used && k.Line > max(v.Accounts, 1) {
		v.warn(fmt.Sprintf("funckeys.%s.line", keyName(module, n)), fmt.Sprintf("the %s has %s; line 1 is used", v.title(), count(v.Accounts, "line")))
		k.Line = 1
	}
	return k
}

func keyName(module, n int) string {
	if module == 0 {
		return strconv.Itoa(n)
	}
	return strconv.Itoa(module) + "-" + strconv.Itoa(n)
}

// Stamp is twelve digits that change when anything changes that a file of the phone may say, and do not else: for phones
// that read a file again only when its number is new.
func (v *view) Stamp() (string, error) {
	b, err := json.Marshal([]any{v.pkg.Ref(), v.MAC, v.Name, v.Fw, v.BaseURL, v.Guest, v.settings})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return fmt.Sprintf("%012d", binary.BigEndian.Uint64(sum[:])%1_000_000_000_000), nil
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
	return keys
}

func (v *view) object(name string) map[string]any {
	m, _ := v.settings[name].(map[string]any)
	return m
}

// expand fills the macros of a file name.
func (v *view) expand(name string) string {
	var b strings.Builder
	for {
		before, rest, open := strings.Cut(name, "{")
		b.WriteString(before)
		if !open {
			return wire.FileName(b.String())
		}
		inner, behind, _ := strings.Cut(rest, "}")
		if text, ok := v.macro(inner); ok && len(inner) < len(rest) {
			b.WriteString(text)
			name = behind
		} else {
			b.WriteByte('{')
			name = rest
		}
	}
}

func (v *view) macro(name string) (string, bool) {
	switch name {
	case "mac":
		return cmp.Or(string(v.MAC), string(v.ID)), true
	case "MAC":
		return cmp.Or(v.MAC.Upper(), string(v.ID)), true
	case "mac_":
		return cmp.Or(strings.ReplaceAll(v.MAC.Colons(), ":", "_"), string(v.ID)), true
	case "mac:":
		return cmp.Or(v.MAC.Colons(), string(v.ID)), true
	case "id":
		return string(v.ID), true
	case "model":
		return v.Name, true
	case "MODEL":
		return strings.ToUpper(v.Name), true
	case "lower model":
		return strings.ToLower(v.Name), true
	}
	text, ok := v.model.Columns[name]
	return text, ok
}

func (v *view) warn(setting, text string) {
	if v.read == nil {
		return
	}
	w := commands.Warning{Setting: setting, Model: v.Name, Text: text}
	if !slices.Contains(v.warnings, w) {
		v.warnings = append(v.warnings, w)
	}
}

// derived are settings the server fills in or the engine itself honours; nobody wishes them.
var derived = map[string]bool{"http_base_url": true, "ip": true, "http_port": true, "tftp_port": true, "config_version": true, "locale": true, "timezone": true}

// switches tells which settings mean nothing while another is off.
var switches = map[string]string{"dns_": "dns_enabled", "ntp_": "ntp_enabled", "vlan_": "vlan_enabled", "syslog_": "syslog_enabled", "ldap_": "ldap_enabled"}

// warnUnread warns of every setting somebody gave and no template asked for.
func (v *view) warnUnread(given domain.Settings) {
	for _, path := range given.Paths() {
		top, rest, nested := strings.Cut(path, ".")
		switch {
		case top == "funckeys", derived[top], v.read[asked{noLine, path}], strings.HasPrefix(top, "X_"), strings.HasPrefix(top, "XX_"),
			isEmpty(given.Get(path)), noWish(path, given.Get(path)), v.readByLines(path), v.idle(top), top == "firmware_release" && v.released && v.read[asked{noLine, "firmware_url"}], top == "protocol" && given[top] == "SIP":
			continue
		case top == "sip_lines" && nested:
			n, _, _ := strings.Cut(rest, ".")
			if i, err := strconv.Atoi(n); err == nil && (i < 1 || i > v.Accounts || !v.Lines[i-1].Used) {
				continue
			}
		}
		v.warn(path, fmt.Sprintf("the %s does not have this setting; it is left out", v.title()))
	}
}

// noWish tells whether the value of a setting asks for what a phone without the setting does anyway; defaults filled in come here too.
func noWish(path string, value any) bool {
	switch path[strings.LastIndexByte(path, '.')+1:] {
	case "srtp_mode", "sip_srtp_mode", "shared":
		return value == "disabled"
	case "transport", "sip_transport":
		return value == "udp"
	}
	return false
}

func isEmpty(v any) bool {
	m, isMap := v.(map[string]any)
	l, isList := v.([]any)
	return v == nil || v == "" || isMap && len(m) == 0 || isList && len(l) == 0
}

// readByLines tells whether a setting has reached a line under another name: one for all lines as the line's own, a
// proxy as the registrar it is by default. Without lines nothing is wished.
func (v *view) readByLines(path string) bool {
	if n, key, ok := strings.Cut(strings.TrimPrefix(path, "sip_lines."), "."); ok && strings.HasPrefix(path, "sip_lines.") {
		return v.readLine(n, key) || v.readLine(n, strings.Replace(key, "proxy", "registrar", 1))
	}
	key := strings.TrimPrefix(path, "sip_")
	if path == "exten_voicemail" {
		key = "voicemail"
	}
	if path == key && path != "codecs" && path != "dial_plan" && path != "ringtone" {
		return false
	}
	used, other := false, strings.Replace(key, "proxy", "registrar", 1)
	for _, l := range v.Lines {
		used = used || l.Used
		if n := strconv.Itoa(l.N); v.readLine(n, key) || v.readLine(n, other) {
			return true
		}
	}
	return !used
}

// readLine tells whether a template asked for a setting of line n.
func (v *view) readLine(n, key string) bool {
	i, err := strconv.Atoi(n)
	return err == nil && strconv.Itoa(i) == n && v.read[asked{i, key}] || v.read[asked{noLine, "sip_lines." + n + "." + key}]
}

// idle tells whether the switch of a setting is off.
func (v *view) idle(top string) bool {
	for prefix, sw := range switches {
		if strings.HasPrefix(top, prefix) && !v.on(sw, false) {
			return true
		}
	}
	return false
}

// directory is the URL of wazo's directory service for the phone's owner (wazo-provd.md §2.5), "" when host or owner
// is missing. kind is "input", "lookup" or "menu".
func (v *view) directory(kind, vendor string) string {
	host, user := v.get("X_xivo_phonebook_ip"), v.get("X_xivo_user_uuid")
	if host == "" || user == "" {
		return ""
	}
	return fmt.Sprintf("%s://%s/0.1/directories/%s/%s/%s?xivo_user_uuid=%s", cmp.Or(v.get("X_xivo_phonebook_scheme"), "http"),
		hostport(host, cmp.Or(v.get("X_xivo_phonebook_port"), "9498")), kind, url.PathEscape(cmp.Or(v.get("X_xivo_phonebook_profile"), "default")),
		vendor, url.QueryEscape(user))
}

func (v *view) ask(a asked) {
	if v.read != nil {
		v.read[a] = true
	}
}

// get is the text form of a setting, "" when not set: numbers in decimal, lists joined by commas.
func (v *view) get(path string) string {
	v.ask(asked{noLine, path})
	return textOf(v.settings.Get(path))
}

func (v *view) on(path string, otherwise bool) bool {
	v.ask(asked{noLine, path})
	if b, ok := v.settings.Get(path).(bool); ok {
		return b
	}
	return otherwise
}

func textOf(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int:
		return strconv.Itoa(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	case []any:
		texts := make([]string, len(v))
		for i := range v {
			texts[i] = textOf(v[i])
		}
		return strings.Join(texts, ",")
	}
	return ""
}

func (l *Line) value(key string) any {
	l.view.ask(asked{l.N, key})
	return l.settings[key]
}

// Get is the text form of a setting of the line, "" when not set.
func (l *Line) Get(key string) string { return textOf(l.value(key)) }

// Has tells whether the setting is there and not empty.
func (l *Line) Has(key string) bool { return l.Get(key) != "" }

// On tells whether the setting is true.
func (l *Line) On(key string) bool {
	b, _ := l.value(key).(bool)
	return b
}

// Items is the setting as a list of text.
func (l *Line) Items(key string) []string { return itemsOf(l.value(key)) }

// Pointer is the setting's path, for pick and warn.
func (l *Line) Pointer(key string) string { return "sip_lines." + strconv.Itoa(l.N) + "." + key }

func itemsOf(v any) []string {
	l, _ := v.([]any)
	out := make([]string, 0, len(l))
	for _, e := range l {
		out = append(out, textOf(e))
	}
	return out
}

// Setting is the key's path, for pick and warn.
func (k *Key) Setting() string { return "funckeys." + keyName(k.Module, k.N) }
