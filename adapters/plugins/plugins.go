package plugins

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"

	"go.yaml.in/yaml/v3"

	"ledgerline/adapters/plugins/wire"
	"ledgerline/commands"
	"ledgerline/domain"
)

//go:embed builtin/*/*.yaml builtin/*/*.csv builtin/*/*.tmpl
var builtin embed.FS

// Builtin is the packages that come with the program, one directory each.
func Builtin() fs.FS {
	sub, err := fs.Sub(builtin, "builtin")
	if err != nil {
		panic("plugins: " + err.Error())
	}
	return sub
}

// ErrPackage: a package is damaged or says what it must not. The text names file and rule.
var ErrPackage = errors.New("bad plugin package")

// Limits of a package.
const (
	maxPackageFile = 1 << 20
	maxModels      = 4096
)

// Manifest is plugin.yaml.
type Manifest struct {
	Name        string `yaml:"name"`    // "yealink"; a domain id
	Version     string `yaml:"version"` // "1.0.0"
	Vendor      string `yaml:"vendor"`  // as phones print it
	Description string `yaml:"description"`
	// OUIs are the first six digits of the vendor's MAC addresses.
	OUIs []string `yaml:"ouis"`
	// Recognize lists the rules by which a request shows who asks, in order; the first of a kind that matches counts.
	Recognize []Rule `yaml:"recognize"`
	// ModelPrefixes are cut off a model's name before it is looked up ("SIP-").
	ModelPrefixes []string `yaml:"model_prefixes"`
	// FwLine finds the firmware line, a number, in a firmware version: '^\d+\.(\d+)\.' makes 86 of 66.86.0.15.
	FwLine string `yaml:"fw_line"`
	// FwLines are the lines the package knows; another one scores lower in association.
	FwLines []int     `yaml:"fw_lines"`
	Files   []FileRow `yaml:"files"`
	// DHCP is what a DHCP server is to tell the phones, for whoever configures one.
	DHCP []DHCPRule `yaml:"dhcp"`
	Sync Sync       `yaml:"sync"`
	// Syncs are other ways by name, for models whose column sync of models.csv names one; an empty one ("none: {}") is
	// for phones nobody can tell.
	Syncs map[string]Sync `yaml:"syncs"`
	// CodeEntry is how phones of the family ask for a provisioning code; nil for those without a browser.
	CodeEntry *CodeEntry `yaml:"code_entry"`
	// Repeated are the keys a file may hold more than once by design.
	Repeated []string `yaml:"repeated"`
	// Tables are vendor words by neutral ones, for the template functions table and pick.
	Tables map[string]map[string]string `yaml:"tables"`
}

// Rule is one way to recognise a request: exactly one of Path, Query, UserAgent, DHCP is a regular expression
// with the named groups mac, model, fw, sn, uuid, all optional.
type Rule struct {
	Path      string `yaml:"path"`
	Query     string `yaml:"query"`
	UserAgent string `yaml:"user_agent"`
	DHCP      string `yaml:"dhcp"` // vendor class, option 60
	// File is the name in the file table the path stands for, with the macros of FileRow.Path and, for the groups
	// of the expression, {1} {2} …; the path itself when empty.
	File string `yaml:"file"`
	// OUI: the rule counts only when the MAC is the vendor's; for names many vendors use.
	OUI bool `yaml:"oui"`
	// Model is the model such a request shows, when the expression has no group for it.
	Model string `yaml:"model"`
}

// FileRow is one file a phone may fetch.
type FileRow struct {
	// Path has macros: {mac} {MAC} {mac:} {mac_} {id} {model} {MODEL} {lower model}, or {x} for the column x of models.csv.
	Path     string   `yaml:"path"`
	Aliases  []string `yaml:"aliases"`
	Template string   `yaml:"template"`
	// When is a template; the file exists when it yields anything but blanks. Empty means always.
	When        string `yaml:"when"`
	ContentType string `yaml:"content_type"`
	// Format chooses the escaper and the parser: see wire.Formats.
	Format string `yaml:"format"`
	// Role: device files hold what is configured, guest files take their place for a phone nobody has
	// configured, common and boot files are there for both.
	Role string `yaml:"role"`
}

// DHCPRule is what a DHCP server answers to some phones of the family.
type DHCPRule struct {
	// Classes are what their vendor class (option 60) begins with, or ends with after a "*".
	Classes []string `yaml:"classes"`
	// OUI: phones with one of the package's OUIs are meant too, whatever their vendor class.
	OUI bool `yaml:"oui"`
	// Options are texts by option number; "43.2" is sub-option 2 of option 43. <url> stands for the server's URL,
	// <host> and <port> for its parts, <tftp> for the address of the TFTP server; all else is the phones' own to read.
	Options map[string]string `yaml:"options"`
}

// Sync says how a phone is told to fetch again.
type Sync struct {
	Method string `yaml:"method"` // "sip-notify"
	Event  string `yaml:"event"`  // "check-sync"
	Reboot string `yaml:"reboot"` // the Event that makes it restart as well
	// ContentType and Body go along with the message, where a family wants one.
	ContentType string `yaml:"content_type"`
	Body        string `yaml:"body"`
}

// Model is one row of models.csv.
type Model struct {
	Name       string
	Aliases    []string
	Accounts   int // SIP accounts
	Keys       int // programmable keys of the phone itself
	ExpModules int // expansion modules it can carry
	ExpKeys    int // keys of one module
	// Columns are the row's further columns by name.
	Columns map[string]string
}

// Package is one loaded plugin. Read-only, safe for concurrent use.
type Package struct {
	Manifest
	Models []Model
	// Firmware is firmware.yaml, zero without one.
	Firmware Firmware

	models  map[string]*Model
	unknown *Model
	rules   []compiledRule
	fwLine  *regexp.Regexp
	ouis    map[string]bool
	pool    *templatePool
	// static are the files below static/ that phones fetch as they are, by path; only a Depot keeps and serves them.
	static map[string]domain.PluginFile
}

// Ref is name and version.
func (p *Package) Ref() commands.PluginRef {
	return commands.PluginRef{Name: p.Name, Version: p.Version}
}

// Set is the packages loaded, several versions of one side by side. Packages come and go while it is used: every
// question is answered from one state of it. Safe for concurrent use.
type Set struct {
	now     atomic.Pointer[loaded]
	changes sync.Mutex
	// missing, if set, is asked once for a plugin of which a version that is not loaded is wanted; it may change the set.
	missing func(ctx context.Context, name string) error
}

// loaded is one state of a Set, never changed.
type loaded struct {
	packages []*Package // by name, then by version, newest last
	// current is the version new devices get; without an entry it is the newest that is not retired.
	current map[string]string
	// retired versions render for those who name them, and are offered to nobody.
	retired map[commands.PluginRef]bool
	offered []*Package // of each name the current one
	memo    memo
}

// Load reads every package in fsys: a directory with a plugin.yaml, at the root of an fs or one level below.
// The same name may come in several versions; the same version twice is an error, as is any damage (ErrPackage).
func Load(fsys ...fs.FS) (*Set, error) {
	var packages []*Package
	for _, f := range fsys {
		dirs, err := fs.Glob(f, "*/plugin.yaml")
		if err != nil {
			return nil, fmt.Errorf("list plugins: %w", err)
		}
		if _, err := fs.Stat(f, "plugin.yaml"); err == nil {
			dirs = append(dirs, "plugin.yaml")
		}
		for _, d := range dirs {
			p, err := loadPackage(f, path.Dir(d))
			if err != nil {
				return nil, fmt.Errorf("load plugin %s: %w", path.Dir(d), err)
			}
			packages = append(packages, p)
		}
	}
	s := newSet(packages...)
	packages = s.Packages()
	for i := 1; i < len(packages); i++ {
		if packages[i].Ref() == packages[i-1].Ref() {
			return nil, fmt.Errorf("%w: %s %s is there twice", ErrPackage, packages[i].Name, packages[i].Version)
		}
	}
	return s, nil
}

func newSet(packages ...*Package) *Set {
	s := &Set{}
	s.now.Store(newLoaded(packages, nil, nil))
	return s
}

func newLoaded(packages []*Package, current map[string]string, retired map[commands.PluginRef]bool) *loaded {
	l := &loaded{packages: slices.Clone(packages), current: current, retired: retired}
	slices.SortFunc(l.packages, func(a, b *Package) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), domain.CompareVersions(a.Version, b.Version))
	})
	for i, p := range l.packages {
		if i == 0 || l.packages[i-1].Name != p.Name {
			if offered := l.offer(p.Name); offered != nil {
				l.offered = append(l.offered, offered)
			}
		}
	}
	return l
}

// offer is the version of a plugin new devices get; nil when there is none.
func (l *loaded) offer(name string) *Package {
	var newest *Package
	for _, p := range l.packages {
		if p.Name == name && !l.retired[p.Ref()] {
			if newest = p; p.Version == l.current[name] {
				return p
			}
		}
	}
	return newest
}

// put makes packages, with what is said of the plugin they are of, part of the set. Those there are of the same version
// are replaced.
func (s *Set) put(name, current string, retired map[string]bool, packages ...*Package) {
	s.changes.Lock()
	defer s.changes.Unlock()
	was := s.now.Load()
	all := slices.DeleteFunc(slices.Clone(was.packages), func(p *Package) bool {
		return slices.ContainsFunc(packages, func(n *Package) bool { return n.Ref() == p.Ref() })
	})
	currents, gone := maps.Clone(was.current), maps.Clone(was.retired)
	if currents == nil {
		currents = map[string]string{}
	}
	if currents[name] = current; gone == nil {
		gone = map[commands.PluginRef]bool{}
	}
	maps.DeleteFunc(gone, func(r commands.PluginRef, _ bool) bool { return r.Name == name })
	for v := range retired {
		gone[commands.PluginRef{Name: name, Version: v}] = true
	}
	s.now.Store(newLoaded(append(all, packages...), currents, gone))
}

// Packages lists what is loaded, by name and version, retired versions too.
func (s *Set) Packages() []*Package { return slices.Clone(s.now.Load().packages) }

// Offered lists of each plugin the version new devices get.
func (s *Set) Offered() []*Package { return slices.Clone(s.now.Load().offered) }

// Package finds one; an empty version means the one new devices get.
func (s *Set) Package(ref commands.PluginRef) (*Package, error) {
	l := s.now.Load()
	if ref.Version == "" {
		if p := l.offer(ref.Name); p != nil {
			return p, nil
		}
	}
	for _, p := range l.packages {
		if p.Ref() == ref {
			return p, nil
		}
	}
	return nil, fmt.Errorf("plugin %q %q: %w", ref.Name, ref.Version, commands.ErrNoPlugin)
}

// SyncMethod is how a plugin's phones of a model are told to fetch again.
func (s *Set) SyncMethod(ref commands.PluginRef, model string) (commands.SyncMethod, error) {
	p, err := s.Package(ref)
	if err != nil {
		return commands.SyncMethod{}, err
	}
	m, _ := p.Model(model)
	if sync, ok := p.Syncs[m.Columns["sync"]]; ok {
		return commands.SyncMethod(sync), nil
	}
	return commands.SyncMethod(p.Sync), nil
}

// find is Package that asks for what is missing.
func (s *Set) find(ctx context.Context, ref commands.PluginRef) (*Package, error) {
	p, err := s.Package(ref)
	if err == nil || s.missing == nil {
		return p, err
	}
	if err := s.missing(ctx, ref.Name); err != nil {
		return nil, fmt.Errorf("load plugin %s: %w", ref.Name, err)
	}
	return s.Package(ref)
}

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrPackage}, args...)...)
}

func loadPackage(fsys fs.FS, dir string) (*Package, error) {
	p := &Package{models: map[string]*Model{}, ouis: map[string]bool{}}
	if err := readYAML(fsys, path.Join(dir, "plugin.yaml"), &p.Manifest); err != nil {
		return nil, err
	}
	if err := p.checkManifest(); err != nil {
		return nil, err
	}
	if err := p.readModels(fsys, path.Join(dir, "models.csv")); err != nil {
		return nil, err
	}
	if err := readYAML(fsys, path.Join(dir, "firmware.yaml"), &p.Firmware); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := p.checkFirmware(); err != nil {
		return nil, err
	}
	names, err := fs.Glob(fsys, path.Join(dir, "*.tmpl"))
	if err != nil {
		return nil, err
	}
	texts := map[string]string{}
	for _, name := range names {
		b, err := readFile(fsys, name)
		if err != nil {
			return nil, err
		}
		texts[path.Base(name)] = string(b)
	}
	p.pool, err = compileTemplates(p, texts)
	return p, err
}

func readFile(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPackageFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxPackageFile {
		return nil, bad("%s is larger than %d bytes", name, maxPackageFile)
	}
	return b, nil
}

func readYAML(fsys fs.FS, name string, into any) error {
	b, err := readFile(fsys, name)
	if err != nil {
		return err
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(into); err != nil {
		return bad("%s: %v", name, err)
	}
	return nil
}

var roles = []string{"device", "common", "boot", "guest"}

func (p *Package) checkManifest() error {
	switch {
	case domain.CheckID(p.Name) != nil:
		return bad("name %q %v", p.Name, domain.ErrBadID)
	case !isVersion(p.Version):
		return bad("version %q must be like 1.0.0", p.Version)
	case p.Vendor == "":
		return bad("vendor is missing")
	case len(p.Files) == 0 && len(p.Recognize) > 0:
		return bad("files is empty")
	}
	for _, o := range p.OUIs {
		if m, err := domain.ParseMAC(o + "000001"); err != nil || m.OUI() != o {
			return bad("oui %q must be six lower-case hex digits", o)
		}
		p.ouis[o] = true
	}
	for i, f := range p.Files {
		switch {
		case !slices.Contains(roles, f.Role):
			return bad("files[%d]: role %q must be one of %s", i, f.Role, strings.Join(roles, ", "))
		case !slices.Contains(wire.Formats(), f.Format):
			return bad("files[%d]: format %q must be one of %s", i, f.Format, strings.Join(wire.Formats(), ", "))
		case !fs.ValidPath(f.Path) || f.ContentType == "":
			return bad("files[%d]: path and content_type are needed", i)
		}
	}
	for name, sync := range p.Syncs {
		if err := sync.check(); err != nil {
			return fmt.Errorf("syncs.%s: %w", name, err)
		}
	}
	if err := p.Sync.check(); err != nil {
		return err
	}
	if err := p.CodeEntry.check(); err != nil {
		return err
	}
	for i, r := range p.DHCP {
		if err := r.check(); err != nil {
			return fmt.Errorf("dhcp[%d]: %w", i, err)
		}
	}
	if p.FwLine != "" {
		re, err := regexp.Compile(p.FwLine)
		if err != nil || re.NumSubexp() != 1 {
			return bad("fw_line must be a regular expression with one group")
		}
		p.fwLine = re
	}
	return p.compileRules()
}

var dhcpCode = regexp.MustCompile(`^(?:\d{1,3}|43\.\d{1,3})$`)

// check refuses what could not be written into the configuration of a DHCP server.
func (r DHCPRule) check() error {
	if len(r.Classes) == 0 || len(r.Options) == 0 {
		return bad("classes and options are needed")
	}
	for code, text := range r.Options {
		number, sub, _ := strings.Cut(code, ".")
		n, _ := strconv.Atoi(number)
		m, _ := strconv.Atoi(cmp.Or(sub, "1"))
		if !dhcpCode.MatchString(code) || n < 1 || n > 254 || m < 1 || m > 254 || text == "" || len(text) > 200 {
			return bad("option %s must be 1 to 254, or 43.1 to 43.254, with 1 to 200 characters", code)
		}
		r.Classes = append(r.Classes[:len(r.Classes):len(r.Classes)], text)
	}
	for _, text := range r.Classes {
		if text == "" || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' || c == '"' || c == '\\' }) {
			return bad("%q must be printable ASCII without quotes and backslashes", text)
		}
	}
	return nil
}

// check refuses what cannot stand in the header of a SIP message.
func (s Sync) check() error {
	switch {
	case s == Sync{}:
		return nil
	case s.Method != "sip-notify":
		return bad("sync.method %q must be sip-notify", s.Method)
	case s.Event == "" || strings.ContainsFunc(s.Event+s.Reboot+s.ContentType, unicode.IsControl):
		return bad("sync.event is needed, and no word of sync may hold control characters")
	case (s.Body == "") != (s.ContentType == ""):
		return bad("sync.body and sync.content_type need each other")
	}
	return nil
}

func isVersion(v string) bool {
	f := strings.Split(v, ".")
	return len(f) == 3 && !slices.ContainsFunc(f, func(s string) bool {
		n, err := strconv.Atoi(s)
		return err != nil || n < 0 || strconv.Itoa(n) != s
	})
}

// readModels reads models.csv: a header with at least model, then a row per model; the row "*" stands for models
// the table does not know.
func (p *Package) readModels(fsys fs.FS, name string) error {
	b, err := readFile(fsys, name)
	if err != nil {
		return err
	}
	r := csv.NewReader(bytes.NewReader(b))
	r.Comment = '#'
	r.TrimLeadingSpace = true
	rows, err := r.ReadAll()
	if err != nil || len(rows) < 2 || len(rows) > maxModels {
		return bad("models.csv must have a header and 1 to %d rows: %v", maxModels, err)
	}
	for i, row := range rows[1:] {
		m, err := readModel(rows[0], row)
		if err != nil {
			return bad("models.csv row %d: %v", i+1, err)
		}
		p.Models = append(p.Models, m)
	}
	for i := range p.Models {
		m := &p.Models[i]
		if m.Name == "*" {
			p.unknown = m
			continue
		}
		for _, n := range append([]string{m.Name}, m.Aliases...) {
			if _, twice := p.models[p.fold(n)]; twice {
				return bad("models.csv: %s is there twice", n)
			}
			p.models[p.fold(n)] = m
		}
	}
	if p.unknown == nil {
		return bad(`models.csv must have a row "*" for unknown models`)
	}
	p.Models = slices.DeleteFunc(slices.Clone(p.Models), func(m Model) bool { return m.Name == "*" })
	return nil
}

func readModel(header, row []string) (Model, error) {
	m := Model{Columns: map[string]string{}}
	counts := map[string]*int{"accounts": &m.Accounts, "keys": &m.Keys, "exp_modules": &m.ExpModules, "exp_keys": &m.ExpKeys}
	for i, col := range header {
		v := strings.TrimSpace(row[i])
		switch {
		case col == "model":
			m.Name = v
		case col == "aliases":
			m.Aliases = strings.Fields(strings.ReplaceAll(v, "|", " "))
		case counts[col] != nil:
			n, err := strconv.Atoi(cmp.Or(v, "0"))
			if err != nil || n < 0 || n > 4096 {
				return m, fmt.Errorf("%s must be a number from 0 to 4096", col)
			}
			*counts[col] = n
		default:
			m.Columns[col] = v
		}
	}
	if m.Name == "" {
		return m, errors.New("model is empty")
	}
	return m, nil
}

// fold makes one spelling of a model's name.
func (p *Package) fold(name string) string {
	for _, prefix := range p.ModelPrefixes {
		if len(name) > len(prefix) && strings.EqualFold(name[:len(prefix)], prefix) {
			name = name[len(prefix):]
			break
		}
	}
	return foldings.Replace(strings.ToUpper(name))
}

var foldings = strings.NewReplacer(" ", "", "-", "", "_", "")

// Model finds the row of a model's name; known is false for the row "*", which then bears the name asked for.
func (p *Package) Model(name string) (m Model, known bool) {
	if row := p.models[p.fold(name)]; row != nil {
		return *row, true
	}
	m = *p.unknown
	m.Name = name
	return m, false
}

// FirmwareLine is the firmware line of a version, 0 when it shows none.
func (p *Package) FirmwareLine(version string) int {
	if p.fwLine == nil {
		return 0
	}
	f := p.fwLine.FindStringSubmatch(version)
	if f == nil {
		return 0
	}
	n, _ := strconv.Atoi(f[1])
	return n
}

// FormatsOf lists the formats the file table gives a rendered path or alias, for whoever reads files back.
func (p *Package) FormatsOf(path string) []string {
	var out []string
	for _, row := range p.Files {
		for _, name := range append([]string{row.Path}, row.Aliases...) {
			if matchesMacros(name, path) && !slices.Contains(out, row.Format) {
				out = append(out, row.Format)
			}
		}
	}
	return out
}

var macro = regexp.MustCompile(`\\\{[^{}]+\\\}`)

// matchesMacros tells whether path may be what the macros of name expand to.
func matchesMacros(name, path string) bool {
	pattern := macro.ReplaceAllString(regexp.QuoteMeta(name), "[^/]*")
	ok, err := regexp.MatchString("^"+pattern+"$", path)
	return err == nil && ok
}
