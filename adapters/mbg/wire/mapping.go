// Package wire is what travels between engine and gateway: the mapping file that names paths, fields and errors, and the
// bodies as trees, in JSON, XML or forms. The client (adapters/mbg) and the simulator read the same mapping, each from
// its side.
//
// Not here: HTTP, signatures (adapters/mbg/oauth), what a SIP user means.
package wire

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"ledgerline/adapters/mbg/oauth"
	"ledgerline/domain"
)

// Generic is the text of the embedded mapping, the simulator's language.
//
//go:embed generic.yaml
var Generic string

// MaxMapping bounds a mapping file, in bytes.
const MaxMapping = 64 << 10

// Mapping is one mapping file: how one family of gateway software is spoken to. Every path and name in it is data,
// for the vendor publishes none of them.
type Mapping struct {
	Name    string `yaml:"mapping"`
	Version int    `yaml:"version"`
	HTTP    struct {
		RequireHeader  string   `yaml:"require_header"`
		SignBaseURL    string   `yaml:"sign_base_url"`
		ConnectTimeout Duration `yaml:"connect_timeout"`
		RequestTimeout Duration `yaml:"request_timeout"`
		MinInterval    Duration `yaml:"min_interval"`
		RetryFirst     Duration `yaml:"retry_first"`
		RetryMax       Duration `yaml:"retry_max"`
		ProbeInterval  Duration `yaml:"probe_interval"`
		UnclearWait    Duration `yaml:"unclear_wait"`
	} `yaml:"http"`
	OAuth struct {
		SignatureMethod string    `yaml:"signature_method"`
		SendIn          string    `yaml:"send_in"`
		Realm           string    `yaml:"realm"`
		Callback        string    `yaml:"callback"`
		VersionParam    bool      `yaml:"version_param"`
		RequestToken    Operation `yaml:"request_token"`
		AccessToken     Operation `yaml:"access_token"`
		TokenReply      string    `yaml:"token_reply"`
		LifetimeMonths  int       `yaml:"lifetime_months"`
		ClockSkewMax    Duration  `yaml:"clock_skew_max"`
	} `yaml:"oauth"`
	Codec struct {
		Request  string            `yaml:"request"`
		Response string            `yaml:"response"`
		XMLRoot  map[string]string `yaml:"xml_root"`
	} `yaml:"codec"`
	Operations map[string]Operation        `yaml:"operations"`
	Fields     map[string]map[string]Field `yaml:"fields"`
	Errors     struct {
		Code    []string            `yaml:"code"`
		Message []string            `yaml:"message"`
		Classes map[string][]string `yaml:"classes"`
	} `yaml:"errors"`
	Defaults struct {
		Availability string `yaml:"availability"`
		Description  string `yaml:"description"`
	} `yaml:"defaults"`

	patterns map[string][]*regexp.Regexp
	sign     *url.URL
	tree     *yaml.Node
}

// Operation is one call. Enabled is of those that are off unless said.
type Operation struct {
	Enabled   *bool   `yaml:"enabled"`
	Method    string  `yaml:"method"`
	Path      string  `yaml:"path"`
	OK        []int   `yaml:"ok"`
	Gone      []int   `yaml:"gone"`
	Duplicate []int   `yaml:"duplicate"`
	Items     string  `yaml:"items"`
	Item      string  `yaml:"item"`
	IDFrom    string  `yaml:"id_from"`
	Expires   string  `yaml:"expires"`
	Wrap      string  `yaml:"wrap"`
	Send      string  `yaml:"send"`
	Paging    *Paging `yaml:"paging"`
}

// Paging is how a list is read in pieces.
type Paging struct {
	Style  string `yaml:"style"` // offset, page
	Offset string `yaml:"offset"`
	Page   string `yaml:"page"`
	Limit  string `yaml:"limit"`
	Size   int    `yaml:"size"`
	Total  string `yaml:"total"`
}

// Field is one member of a record on the wire.
type Field struct {
	Wire   string            `yaml:"wire"`
	Access string            `yaml:"access"` // "", read, write
	Type   string            `yaml:"type"`   // "", bool
	True   any               `yaml:"true"`
	False  any               `yaml:"false"`
	Max    int               `yaml:"max"`
	Enum   map[string]string `yaml:"enum"`
}

// Duration is "5s" in YAML.
type Duration time.Duration

// UnmarshalYAML reads "5s".
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if err != nil || v < 0 || v > 24*time.Hour {
		return fmt.Errorf("line %d: %q is not a duration such as 5s", n.Line, n.Value)
	}
	*d = Duration(v)
	return nil
}

// Or is the duration, or other for none.
func (d Duration) Or(other time.Duration) time.Duration {
	if d == 0 {
		return other
	}
	return time.Duration(d)
}

// minInterval is between two requests where a mapping says nothing.
const minInterval = 100 * time.Millisecond

// ErrMapping: a mapping file breaks a rule; the text names lines and rules.
var ErrMapping = errors.New("mapping")

// ParseMapping reads and checks a mapping file. An error wraps ErrMapping and has one line per finding, each
// beginning with "line N:".
func ParseMapping(text string) (*Mapping, error) {
	if len(text) > MaxMapping {
		return nil, fmt.Errorf("%w is larger than %d bytes", ErrMapping, MaxMapping)
	}
	m := &Mapping{}
	m.HTTP.MinInterval = Duration(minInterval)
	dec := yaml.NewDecoder(bytes.NewReader([]byte(text)))
	dec.KnownFields(true)
	if err := dec.Decode(m); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: the file is empty", ErrMapping)
		}
		return nil, fmt.Errorf("%w: %s", ErrMapping, strings.TrimPrefix(strings.ReplaceAll(err.Error(), " into wire.", " into "), "yaml: "))
	}
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: the file holds more than one document", ErrMapping)
	}
	m.tree = &yaml.Node{}
	if err := yaml.Unmarshal([]byte(text), m.tree); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMapping, err)
	}
	return m, m.check()
}

// line is where a key stands, or the nearest one above it.
func (m *Mapping) line(path ...string) int {
	n, at := m.tree, 1
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	for _, key := range path {
		found := false
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				at, n, found = n.Content[i].Line, n.Content[i+1], true
				break
			}
		}
		if !found {
			break
		}
	}
	return at
}

// What a mapping must, and may, describe.
var (
	needed     = []string{"ping", "list_icps", "list_users", "get_user", "create_user", "update_user", "delete_user"}
	optional   = []string{"find_user", "token_status", "token_renew"}
	icpFields  = []string{"id", "name", "address"}
	userFields = []string{"id", "enabled", "description", "icp_id", "availability", "set_username", "set_password", "icp_username", "icp_password"}
	mustMap    = []string{"id", "icp_id", "set_username", "set_password", "icp_username", "icp_password"}
	// Placeholder finds {names} in a path.
	Placeholder = regexp.MustCompile(`\{[^}]*\}`)
)

func (m *Mapping) check() error {
	var errs []error
	bad := func(path []string, format string, args ...any) {
		errs = append(errs, fmt.Errorf("line %d: %s %s", m.line(path...), strings.Join(path, "."), fmt.Sprintf(format, args...)))
	}
	at := func(path ...string) []string { return path }
	choice := func(v string, path []string, of ...string) {
		if !slices.Contains(of, v) {
			bad(path, "must be one of: %s", strings.Join(of, " "))
		}
	}
	if m.Name == "" || domain.CheckID(m.Name) != nil {
		bad(at("mapping"), "must be a name: %s", domain.ErrBadID)
	}
	if m.Version < 1 {
		bad(at("version"), "must be 1 or more")
	}
	choice(m.OAuth.SignatureMethod, at("oauth", "signature_method"), oauth.SHA1, oauth.SHA256, oauth.Plaintext)
	choice(m.OAuth.SendIn, at("oauth", "send_in"), oauth.InHeader, oauth.InQuery, oauth.InBody)
	choice(m.OAuth.TokenReply, at("oauth", "token_reply"), "form", "json")
	choice(m.Codec.Request, at("codec", "request"), "json", "xml", "form")
	choice(m.Codec.Response, at("codec", "response"), "json", "xml")
	if m.OAuth.LifetimeMonths < 1 || m.OAuth.LifetimeMonths > 120 {
		bad(at("oauth", "lifetime_months"), "must be 1 to 120")
	}
	if m.Codec.Request == "xml" && m.Codec.XMLRoot["sip_user"] == "" {
		bad(at("codec", "xml_root"), "must name sip_user")
	}
	if m.HTTP.SignBaseURL != "" {
		u, err := url.Parse(m.HTTP.SignBaseURL)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" {
			bad(at("http", "sign_base_url"), "must be a URL such as https://mbg.example.net")
		}
		m.sign = u
	}
	m.checkOperation(at("oauth", "request_token"), m.OAuth.RequestToken, bad)
	m.checkOperation(at("oauth", "access_token"), m.OAuth.AccessToken, bad)
	for _, name := range needed {
		if _, ok := m.Operations[name]; !ok {
			bad(at("operations"), "must describe %s", name)
		}
	}
	for name, o := range m.Operations {
		if !slices.Contains(needed, name) && !slices.Contains(optional, name) {
			bad(at("operations", name), "is not known; there are: %s", strings.Join(slices.Concat(needed, optional), " "))
			continue
		}
		m.checkOperation(at("operations", name), o, bad)
		m.checkShape(name, o, bad)
	}
	m.checkFields(bad)
	m.checkErrors(bad)
	for _, p := range Placeholder.FindAllString(m.Defaults.Description, -1) {
		if p != "{extension}" && p != "{display_name}" {
			bad(at("defaults", "description"), "has %s; there are {extension} and {display_name}", p)
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	if len(errs) > 0 {
		return fmt.Errorf("%w: %w", ErrMapping, errors.Join(errs...))
	}
	return nil
}

type complain func(path []string, format string, args ...any)

func (m *Mapping) checkOperation(path []string, o Operation, bad complain) {
	if !slices.Contains([]string{"GET", "POST", "PUT", "PATCH", "DELETE"}, o.Method) {
		bad(append(path, "method"), "must be GET, POST, PUT, PATCH or DELETE")
	}
	if !strings.HasPrefix(o.Path, "/") {
		bad(append(path, "path"), "must begin with /")
	} else if _, err := url.ParseRequestURI(Placeholder.ReplaceAllString(o.Path, "x")); err != nil {
		bad(append(path, "path"), "is not a path: %s", err)
	}
	for _, list := range [][]int{o.OK, o.Gone, o.Duplicate} {
		for _, s := range list {
			if s < 200 || s > 599 {
				bad(path, "names the status %d, which is none", s)
			}
		}
	}
	if p := o.Paging; p != nil {
		if p.Style != "offset" && p.Style != "page" || p.Size < 1 || p.Size > 10_000 || p.Limit == "" || p.Style == "offset" && p.Offset == "" || p.Style == "page" && p.Page == "" {
			bad(append(path, "paging"), "must have style offset (with offset) or page (with page), limit, and size 1 to 10000")
		}
	}
}

// checkShape wants of each operation what it needs to be read.
func (m *Mapping) checkShape(name string, o Operation, bad complain) {
	path := []string{"operations", name}
	if len(o.OK) == 0 {
		bad(path, "must say which statuses are ok")
	}
	want := map[string]string{"get_user": "{id}", "update_user": "{id}", "delete_user": "{id}", "find_user": "{set_username}"}[name]
	for _, p := range Placeholder.FindAllString(o.Path, -1) {
		if p != want {
			bad(append(path, "path"), "has %s, which is not known here", p)
		}
	}
	if want != "" && !strings.Contains(o.Path, want) {
		bad(append(path, "path"), "must hold %s", want)
	}
	pointer := func(key, v string) {
		if !strings.HasPrefix(v, "/") {
			bad(append(path, key), "must be a pointer such as /items")
		}
	}
	switch name {
	case "list_icps", "list_users", "find_user":
		pointer("items", o.Items)
	case "get_user":
		pointer("item", o.Item)
	case "create_user":
		pointer("id_from", o.IDFrom)
	case "update_user":
		if o.Send != "full" && o.Send != "changed" {
			bad(append(path, "send"), "must be full or changed")
		}
	case "token_status":
		pointer("expires", o.Expires)
	}
}

func (m *Mapping) checkFields(bad complain) {
	known := map[string][]string{"icp": icpFields, "sip_user": userFields}
	for kind, fields := range m.Fields {
		if known[kind] == nil {
			bad([]string{"fields", kind}, "is not known; there are: icp sip_user")
			continue
		}
		for name, f := range fields {
			path := []string{"fields", kind, name}
			if !slices.Contains(known[kind], name) {
				bad(path, "is not known; there are: %s", strings.Join(known[kind], " "))
			}
			if f.Wire == "" {
				bad(path, "must have wire, its name on the wire")
			}
			if f.Access != "" && f.Access != "read" && f.Access != "write" {
				bad(append(path, "access"), "must be read or write, or absent for both")
			}
			if f.Type != "" && f.Type != "bool" {
				bad(append(path, "type"), "must be bool, or absent for text")
			}
			if strings.HasPrefix(f.Wire, "/") && f.Access != "read" && kind == "sip_user" {
				bad(append(path, "wire"), "can be a pointer only with access: read")
			}
			if f.Max < 0 {
				bad(append(path, "max"), "must not be negative")
			}
		}
	}
	for _, name := range icpFields[:1] {
		if _, ok := m.Fields["icp"][name]; !ok {
			bad([]string{"fields", "icp"}, "must map %s", name)
		}
	}
	if _, ok := m.Fields["icp"]["address"]; !ok {
		bad([]string{"fields", "icp"}, "must map address")
	}
	for _, name := range mustMap {
		if _, ok := m.Fields["sip_user"][name]; !ok {
			bad([]string{"fields", "sip_user"}, "must map %s", name)
		}
	}
	if f := m.Fields["sip_user"]["availability"]; m.Defaults.Availability != "" && len(f.Enum) > 0 && f.Enum[m.Defaults.Availability] == "" {
		bad([]string{"defaults", "availability"}, "is not in fields.sip_user.availability.enum")
	}
}

func (m *Mapping) checkErrors(bad complain) {
	known := []string{"duplicate", "weak_password", "licence", "invalid", "permission"}
	m.patterns = map[string][]*regexp.Regexp{}
	for class, patterns := range m.Errors.Classes {
		path := []string{"errors", "classes", class}
		if !slices.Contains(known, class) {
			bad(path, "is not a class; there are: %s", strings.Join(known, " "))
		}
		for _, p := range patterns {
			re, err := regexp.Compile(p)
			if err != nil {
				bad(path, "%q is not a pattern: %s", p, err)
				continue
			}
			m.patterns[class] = append(m.patterns[class], re)
		}
	}
	for key, list := range map[string][]string{"code": m.Errors.Code, "message": m.Errors.Message} {
		for _, p := range list {
			if !strings.HasPrefix(p, "/") && !strings.HasPrefix(p, "header:") && p != "text" {
				bad([]string{"errors", key}, "%q must be a pointer, header:NAME or text", p)
			}
		}
	}
}

// Matches tells whether a text of the gateway speaks of a class.
func (m *Mapping) Matches(class, text string) bool {
	return slices.ContainsFunc(m.patterns[class], func(re *regexp.Regexp) bool { return re.MatchString(text) })
}

// SignURL is what is signed instead of the gateway's address; nil for that.
func (m *Mapping) SignURL() *url.URL { return m.sign }

// On tells whether the mapping describes an operation, and does not switch it off.
func (m *Mapping) On(name string) bool {
	o, ok := m.Operations[name]
	return ok && (o.Enabled == nil || *o.Enabled)
}

// Selected is the mapping as an event tells it.
func (m *Mapping) Selected(text string) domain.GatewayMappingSelected {
	sum := sha256.Sum256([]byte(text))
	return domain.GatewayMappingSelected{Name: m.Name, Version: m.Version, SHA256: hex.EncodeToString(sum[:]), Text: text, LifetimeMonths: m.OAuth.LifetimeMonths}
}
