package phonesim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"ledgerline/domain"
)

// Errors of booting.
var (
	// ErrNoFile: the server has no file for this phone, whatever the reason.
	ErrNoFile = errors.New("server has no file for this phone")
	// ErrCode: text cannot stand for a code in a URL (empty, longer than 64 characters, "." or "..").
	ErrCode = errors.New("code must be 1 to 64 characters")
	// ErrBadServer: a server's URL is not http, https or tftp with a host.
	ErrBadServer = errors.New("server must be an http, https or tftp URL")
	// ErrLost: the files sent the phone from server to server without an end.
	ErrLost = errors.New("provisioning servers point to each other")
)

// State is how far a phone has come.
type State string

const (
	// Booting: not booted yet, or booting for the first time.
	Booting State = "booting"
	// Unconfigured: booted without a line of its own (nothing, or a guest account).
	Unconfigured State = "unconfigured"
	// Configured: has at least one enabled account with user name and server.
	Configured State = "configured"
)

// CodeBy says how a code reaches the server.
type CodeBy int

const (
	// CodeInPath asks below <server>/c/<code>/. It is the zero value and the only way over TFTP.
	CodeInPath CodeBy = iota
	// CodeInBasic sends the code as the user name of HTTP Basic authentication, with an empty password.
	CodeInBasic
)

// Bounds of a boot.
const (
	// MaxBody is the largest file a phone takes, in bytes.
	MaxBody = 4 << 20
	// MaxFiles is how many files one boot may ask for.
	MaxFiles = 64
	maxDepth = 4 // of files that list files
	maxMoves = 3 // from server to server in one boot
)

// Config describes a phone. Zero values mean the default named with each field.
type Config struct {
	Vendor   string     // "yealink", "snom", "grandstream"
	Model    string     // the vendor's first model
	Firmware string     // what the model ships with
	MAC      domain.MAC // required
	// Server is the base URL: http://host[:port]/[path], https:// or tftp://host[:port]/[path].
	Server string
	// HTTP is the client to use, for its transport (trust, certificates, test doubles) and cookie jar; nil is
	// a client of the phone's own. Redirects are the phone's business either way.
	HTTP *http.Client `json:"-"`
	// Code is a provisioning code typed in before the first boot; empty for none.
	Code   string `json:"-"`
	CodeBy CodeBy
	// GuestUsers are user names of accounts that do not make a phone configured; nil means
	// "guest", "autoprov" and "anonymous".
	GuestUsers []string
	// Timeout bounds one HTTP exchange; 0 is 30 s.
	Timeout time.Duration
	// MaxWait bounds each wait that a busy server (503, 429) asks for; 0 is 10 s. A phone waits four times at most.
	MaxWait time.Duration
	// BlockSize is the TFTP block size asked for, 512 to 65464; 0 is 1428.
	BlockSize int
	// TFTPTimeout is how long one TFTP block is waited for before it is asked for again; 0 is 4 s.
	TFTPTimeout time.Duration
}

// Format shows which phone it is, and never the code.
func (c Config) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "%s %s %s %s at %s", c.Vendor, c.Model, c.Firmware, c.MAC, redact(c.Server))
}

func (c Config) identify() (behaviour, identity, error) {
	v, err := vendorNamed(c.Vendor)
	if err != nil {
		return v, identity{}, err
	}
	mac, err := domain.ParseMAC(string(c.MAC))
	if err != nil {
		return v, identity{}, err
	}
	id := identity{c.Model, c.Firmware, mac}
	if id.model == "" {
		id.model = v.Models[0].Name
	}
	if id.firmware == "" {
		id.firmware = v.Models[0].Firmware
		for _, m := range v.Models {
			if strings.EqualFold(m.Name, id.model) {
				id.firmware = m.Firmware
			}
		}
	}
	for _, text := range []string{id.model, id.firmware} {
		if len(text) > 64 || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == '?' || r == '#' || r == '%' }) {
			return v, id, fmt.Errorf("model and firmware %.80q must be plain words of at most 64 characters", text)
		}
	}
	return v, id, nil
}

// Phone is one simulated phone. Methods are safe for concurrent use; one boot runs at a time.
type Phone struct {
	cfg     Config
	vendor  behaviour
	id      identity
	fetcher *fetcher

	running sync.Mutex // held for a whole boot; guards cache and codeBase
	cache   map[string]remembered
	// codeBase is the server the code was entered for with CodeInBasic; credentials go nowhere else.
	codeBase, code string

	mu     sync.Mutex
	base   *url.URL
	state  State
	values Values
	parsed Parsed
}

// remembered is what a phone keeps of a file between boots.
type remembered struct {
	etag, modified, sha256 string
	size                   int64
	doc                    document
	refused                error
}

// New makes a phone that has just left the factory. Close releases what it holds. Errors: ErrUnknownVendor,
// domain.ErrBadMAC, ErrBadServer, ErrCode.
func New(c Config) (*Phone, error) {
	v, id, err := c.identify()
	if err != nil {
		return nil, err
	}
	c.Vendor, c.Model, c.Firmware, c.MAC = v.Name, id.model, id.firmware, id.mac
	if c.GuestUsers == nil {
		c.GuestUsers = []string{"guest", "autoprov", "anonymous"}
	}
	f, err := newFetcher(c, v.userAgent(id))
	if err != nil {
		return nil, err
	}
	p := &Phone{cfg: c, vendor: v, id: id, fetcher: f}
	if err := p.FactoryReset(); err != nil {
		return nil, err
	}
	if c.Code != "" {
		if err := p.enter(c.Code); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Close ends idle connections and waits for TFTP transfers abandoned by a cancelled boot, at most twice
// Config.TFTPTimeout.
func (p *Phone) Close() { p.fetcher.close() }

// FactoryReset forgets settings, server and files, as the reset on the phone's menu does. Config.Code is not
// entered again.
func (p *Phone) FactoryReset() error {
	p.running.Lock()
	defer p.running.Unlock()
	base, err := p.server(p.cfg.Server)
	if err != nil {
		return err
	}
	p.cache, p.codeBase, p.code = map[string]remembered{}, "", ""
	p.mu.Lock()
	defer p.mu.Unlock()
	p.base, p.state, p.values, p.parsed = base, Booting, nil, Parsed{}
	return nil
}

// MAC is the phone's address.
func (p *Phone) MAC() domain.MAC { return p.id.mac }

// Vendor is the vendor's name, with model and firmware as the phone reports them.
func (p *Phone) Vendor() (vendor string, m Model) {
	return p.vendor.Name, Model{p.id.model, p.id.firmware}
}

// UserAgent is what the phone sends with each HTTP request.
func (p *Phone) UserAgent() string { return p.fetcher.userAgent }

// State is how far the phone has come.
func (p *Phone) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// Parsed is what the phone's settings mean at present. Read-only.
func (p *Phone) Parsed() Parsed {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.parsed
}

// Server is where the phone fetches from at present, a code in it redacted.
func (p *Phone) Server() string { return redact(p.at().String()) }

func (p *Phone) at() *url.URL {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.base
}

// String names the phone and its state.
func (p *Phone) String() string {
	return fmt.Sprintf("%s %s %s (%s)", p.vendor.Name, p.id.model, p.id.mac, p.State())
}

// Format keeps every verb of fmt from reaching settings and code.
func (p *Phone) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(p.String())) }

// File is one request of a boot and its answer.
type File struct {
	Name string `json:"name"` // last part of the path
	Path string `json:"path"` // as asked for, a code in it redacted; it may carry a device secret
	// Status is the HTTP status; for TFTP 200, 404 (no such file), 403 (access violation) or 503.
	Status int    `json:"status"`
	Size   int64  `json:"size"`             // bytes; of the remembered file for 304
	SHA256 string `json:"sha256,omitempty"` // hex; of the remembered file for 304
	ETag   string `json:"etag,omitempty"`
	// Unchanged: 304, or the same bytes as last time.
	Unchanged bool `json:"unchanged,omitempty"`
	// Refused is why the phone does not use the file (ErrMalformed); nil if it does.
	Refused error `json:"-"`
	Body    Body  `json:"-"` // nil for 304 and errors

	modified string
}

// Found tells whether the server has the file.
func (f File) Found() bool { return f.Status == 200 || f.Status == 206 || f.Status == 304 }

// Body is a file's content. It holds secrets, so its text forms show the length only.
type Body []byte

// Format writes the length.
func (b Body) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "[%d bytes]", len(b)) }

// Result is the outcome of a boot or a poll.
type Result struct {
	State State `json:"state"`
	// Files are all requests, in order, also of those files that were not there.
	Files []File `json:"files"`
	// Changed: at least one file differed from what the phone had.
	Changed bool `json:"changed"`
	// Server is where the phone will fetch next time, a code in it redacted.
	Server string `json:"server"`
	Parsed Parsed `json:"parsed"`
}

// Boot asks for all files in the vendor's order and applies them; when they name another provisioning server it
// moves there and fetches again. Errors: ErrNoFile, ErrMalformed (other files are applied all the same),
// ErrBusy, ErrTooBig, ErrStatus, ErrLost, ctx's own, network errors. The Result tells what was done until then.
func (p *Phone) Boot(ctx context.Context) (Result, error) { return p.run(ctx, false) }

// Poll is what a phone does on a check-sync or its timer: like Boot, but unchanged files are not sent again
// (If-None-Match, If-Modified-Since) and nothing is applied if none has changed.
func (p *Phone) Poll(ctx context.Context) (Result, error) { return p.run(ctx, true) }

// Redeem types in a provisioning code and boots with it. A refused code is ErrNoFile: servers do not say why.
// The phone then goes on from where it was. Other errors as with Boot, and ErrCode.
func (p *Phone) Redeem(ctx context.Context, code string) (Result, error) {
	before := p.at()
	if err := p.enter(code); err != nil {
		return Result{State: p.State(), Server: p.Server()}, err
	}
	entered := p.at()
	res, err := p.run(ctx, false)
	if errors.Is(err, ErrNoFile) && p.at() == entered {
		p.leave(before)
		res.Server = p.Server()
		err = fmt.Errorf("redeem code: %w", err)
	}
	return res, err
}

// enter makes the code part of what the next boot asks with. Codes are entered at the configured server.
func (p *Phone) enter(code string) error {
	if code == "" || len(code) > 64 || code == "." || code == ".." {
		return ErrCode
	}
	p.running.Lock()
	defer p.running.Unlock()
	base, err := p.server(p.cfg.Server)
	if err != nil {
		return err
	}
	if p.cfg.CodeBy == CodeInBasic && base.Scheme != "tftp" {
		p.codeBase, p.code = base.String(), code
	} else {
		base = base.ResolveReference(&url.URL{Path: "./"}).JoinPath("c", url.PathEscape(code), "/")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.base = base
	return nil
}

// leave undoes enter.
func (p *Phone) leave(base *url.URL) {
	p.running.Lock()
	defer p.running.Unlock()
	p.codeBase, p.code = "", ""
	p.mu.Lock()
	defer p.mu.Unlock()
	p.base = base
}

// Head asks for a file's headers only (HTTP; over TFTP it is ErrBadServer). name is relative to the server.
func (p *Phone) Head(ctx context.Context, name string) (File, error) {
	return p.ask(ctx, name, request{method: http.MethodHead})
}

// Range asks for bytes first to last (inclusive, from 0) of a file, over HTTP. Status is 206 when the server
// honours it, 200 with the whole file when it does not.
func (p *Phone) Range(ctx context.Context, name string, first, last int64) (File, error) {
	return p.ask(ctx, name, request{method: http.MethodGet, byteRange: fmt.Sprintf("bytes=%d-%d", first, last)})
}

// Get asks for a file once without applying it.
func (p *Phone) Get(ctx context.Context, name string) (File, error) {
	return p.ask(ctx, name, request{method: http.MethodGet})
}

func (p *Phone) ask(ctx context.Context, name string, r request) (File, error) {
	p.running.Lock()
	defer p.running.Unlock()
	u, err := p.at().Parse(name)
	if err != nil {
		return File{}, fmt.Errorf("ask for %.80q: not a file name", name)
	}
	r.url, r.user = u, p.user()
	return p.fetcher.fetch(ctx, r)
}

// user is the name for HTTP Basic: the code, while the phone is at the server it was entered for.
func (p *Phone) user() string {
	if p.code == "" || p.at().String() != p.codeBase {
		return ""
	}
	return p.code
}

func (p *Phone) run(ctx context.Context, poll bool) (Result, error) {
	p.running.Lock()
	defer p.running.Unlock()
	var res Result
	err := p.boot(ctx, poll, &res)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == Booting && ctx.Err() == nil {
		p.state = Unconfigured
	}
	res.State, res.Parsed, res.Server = p.state, p.parsed, redact(p.base.String())
	if err != nil {
		return res, fmt.Errorf("boot %s %s: %w", p.id.model, p.id.mac, err)
	}
	return res, nil
}

// boot walks through the files, and on to the servers they name.
func (p *Phone) boot(ctx context.Context, poll bool, res *Result) error {
	var refused error
	for moves := 0; ; moves++ {
		b := &boot{phone: p, base: p.at(), poll: poll, fresh: map[string]remembered{}}
		err := p.vendor.order(ctx, b)
		res.Files = append(res.Files, b.files...)
		refused = errors.Join(refused, b.refused)
		if err != nil {
			return errors.Join(err, refused)
		}
		if !slices.ContainsFunc(b.files, File.Found) {
			return errors.Join(ErrNoFile, refused)
		}
		maps.Copy(p.cache, b.fresh)
		res.Changed = res.Changed || b.changed
		if !poll || b.changed {
			p.apply(b.docs)
		}
		next, err := p.next()
		switch {
		case err != nil:
			return errors.Join(err, refused)
		case next == nil:
			return refused
		case moves == maxMoves:
			return errors.Join(ErrLost, refused)
		}
		p.mu.Lock()
		p.base = next
		p.mu.Unlock()
	}
}

// apply makes the documents the phone's settings.
func (p *Phone) apply(docs []document) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.values = p.values.apply(docs)
	p.parsed = p.vendor.interpret(p.id, p.values)
	p.state = Unconfigured
	for _, a := range p.parsed.Accounts {
		if a.complete() && !slices.Contains(p.cfg.GuestUsers, a.UserName) {
			p.state = Configured
		}
	}
}

// next is the server the settings name, nil if the phone is there already.
func (p *Phone) next() (*url.URL, error) {
	named := p.Parsed().ProvisioningURL
	if named == "" {
		return nil, nil
	}
	u, err := p.server(named)
	if err != nil || u.String() == p.at().String() {
		return nil, err
	}
	return u, nil
}

// server reads a provisioning URL. What does not look like a file is a directory and gets its slash.
func (p *Phone) server(text string) (*url.URL, error) {
	u, err := url.Parse(p.vendor.expand(p.id, text))
	if err != nil {
		return nil, fmt.Errorf("%w: it does not parse", ErrBadServer)
	}
	if !fetchable(u) {
		return nil, fmt.Errorf("%w: scheme %.20q, host %.80q", ErrBadServer, u.Scheme, u.Host)
	}
	last := u.Path[strings.LastIndexByte(u.Path, '/')+1:]
	if u.RawQuery == "" && !strings.Contains(last, ".") && !strings.HasSuffix(u.Path, "/") {
		u.Path, u.RawPath = u.Path+"/", ""
	}
	u.User, u.Fragment = nil, ""
	return u, nil
}

func fetchable(u *url.URL) bool {
	return (u.Scheme == "http" || u.Scheme == "https" || u.Scheme == "tftp") && u.Hostname() != ""
}

// boot is one walk through the files at one server.
type boot struct {
	phone   *Phone
	base    *url.URL
	poll    bool
	files   []File
	docs    []document
	fresh   map[string]remembered
	changed bool
	refused error
}

// direct tells whether the server's URL names a file instead of a directory.
func (b *boot) direct() bool { return !strings.HasSuffix(b.base.Path, "/") }

// load asks for a file and, if it is there, reads it and what it includes. found is true also for a
// file that the phone refuses.
func (b *boot) load(ctx context.Context, name string) (found bool, err error) {
	return b.loadFrom(ctx, b.base, name, 0)
}

func (b *boot) loadFrom(ctx context.Context, base *url.URL, name string, depth int) (bool, error) {
	if len(b.files) == MaxFiles {
		return false, fmt.Errorf("more than %d files in one boot", MaxFiles)
	}
	u, err := base.Parse(name)
	if err != nil || !fetchable(u) {
		return false, fmt.Errorf("file %.80q: %w", name, ErrBadServer)
	}
	key := u.String()
	known, again := b.phone.cache[key]
	r := request{method: http.MethodGet, url: u, user: b.phone.user()}
	if b.poll && again {
		r.etag, r.modified = known.etag, known.modified
	}
	f, err := b.phone.fetcher.fetch(ctx, r)
	if err != nil {
		return false, err
	}
	if f.Status == http.StatusNotModified {
		f.SHA256, f.ETag, f.Size = known.sha256, known.etag, known.size
	}
	f.Unchanged = again && f.Found() && f.SHA256 == known.sha256
	if f.Found() && !f.Unchanged {
		known = remembered{sha256: f.SHA256, size: f.Size}
		known.doc, known.refused = b.phone.vendor.parse(b.phone.id, f.Body)
		b.changed = true
	}
	if f.Status == http.StatusOK {
		known.etag, known.modified = f.ETag, f.modified
	}
	if f.Found() {
		f.Refused = known.refused
		b.fresh[key] = known
	}
	b.files = append(b.files, f)
	if !f.Found() {
		return false, nil
	}
	if known.refused != nil {
		b.refused = errors.Join(b.refused, fmt.Errorf("%s: %w", f.Name, known.refused))
		return true, nil
	}
	b.docs = append(b.docs, known.doc)
	return true, b.follow(ctx, u, known.doc.include, depth+1)
}

// follow loads the files a file lists. One that is missing is passed over.
func (b *boot) follow(ctx context.Context, base *url.URL, names []string, depth int) error {
	if len(names) > 0 && depth > maxDepth {
		return fmt.Errorf("files include files more than %d deep", maxDepth)
	}
	for _, name := range names {
		if _, err := b.loadFrom(ctx, base, b.phone.vendor.expand(b.phone.id, name), depth); err != nil {
			return err
		}
	}
	return nil
}

// first loads the first of the files that is there.
func (b *boot) first(ctx context.Context, names ...string) (found bool, err error) {
	for _, name := range names {
		if found, err = b.load(ctx, name); found || err != nil {
			return found, err
		}
	}
	return false, nil
}

var codeInPath = regexp.MustCompile(`(^|/)c/[^/?]+`)

// redact hides the code in a path or URL.
func redact(path string) string { return codeInPath.ReplaceAllString(path, "${1}c/[code]") }
