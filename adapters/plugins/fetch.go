package plugins

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"code.dny.dev/ssrf"

	"ledgerline/commands"
	"ledgerline/domain"
)

const (
	maxIndex     = 16 << 20
	maxRedirects = 3
	// idleTime is how long a source may say nothing.
	idleTime = 30 * time.Second
)

// index is index.json: what a source of packages offers.
type index struct {
	Packages []indexed `json:"packages"`
}

type indexed struct {
	commands.PackageOffer
	// File is the archive's place, relative to the index, or a URL.
	File string `json:"file"`
	// SHA1 is what an index of wazo-provd's tells in place of a SHA-256.
	SHA1 string `json:"-"`
}

// parseIndex reads index.json, or the plugins.db of wazo-provd.
func parseIndex(b []byte) (index, error) {
	var x index
	var entries map[string]wazoInfo
	if !bytes.Contains(b, []byte(`"packages"`)) && json.Unmarshal(b, &entries) == nil {
		return parseWazoIndex(entries)
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return x, refused("the index: %v", err)
	}
	for i, p := range x.Packages {
		sum, err := hex.DecodeString(p.SHA256)
		if err != nil || len(sum) != 32 || domain.CheckID(p.Name) != nil || !isVersion(p.Version) || p.File == "" || p.Size < 0 {
			return x, refused("the index: packages[%d] must have name, version, file and sha256", i)
		}
	}
	return x, nil
}

// index is the one fetched last; empty when none was.
func (d *Depot) index() (index, error) {
	b, err := os.ReadFile(filepath.Join(d.Dir, indexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return index{}, nil
	}
	if err != nil {
		return index{}, fmt.Errorf("read the index: %w", err)
	}
	return parseIndex(b)
}

// MakeIndex makes the index of all archives (*.tar.gz) in dir.
func MakeIndex(dir fs.FS) ([]byte, error) {
	names, err := fs.Glob(dir, "*.tar.gz")
	if err != nil {
		return nil, err
	}
	x := index{Packages: []indexed{}}
	for _, name := range names {
		b, err := fs.ReadFile(dir, name)
		if err != nil {
			return nil, err
		}
		u, err := unpackAll(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		p, err := u.passing()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		offer := offerOf(p)
		offer.Size, offer.SHA256, offer.SignedBy = int64(len(b)), sumOf(b), u.signedBy()
		x.Packages = append(x.Packages, indexed{PackageOffer: offer, File: name})
	}
	return json.MarshalIndent(x, "", "  ")
}

// indexURL is the index's own place: a directory's is index.json in it.
func (d *Depot) indexURL() string {
	if u, err := url.Parse(d.Index); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		if strings.HasSuffix(u.Path, ".json") || strings.HasSuffix(u.Path, ".db") {
			return d.Index
		}
		return strings.TrimSuffix(d.Index, "/") + "/" + indexFile
	}
	if info, err := os.Stat(d.Index); err == nil && info.IsDir() {
		return filepath.Join(d.Index, indexFile)
	}
	return d.Index
}

// resolve finds the place of an archive the index names. An index on disk names files below its own directory, or URLs.
func (d *Depot) resolve(file string) (string, error) {
	if u, err := url.Parse(file); err == nil && u.Scheme != "" {
		return file, nil
	}
	if !fs.ValidPath(file) {
		return "", refused("the index names %q, which is no path", file)
	}
	base := d.indexURL()
	if isURL(base) {
		u, err := url.Parse(base)
		if err != nil {
			return "", err
		}
		return u.JoinPath("..", file).String(), nil
	}
	return filepath.Join(filepath.Dir(base), filepath.FromSlash(file)), nil
}

func isURL(s string) bool { return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://") }

// withoutUser is a source as it may be recorded: a URL without credentials and query, a file by its name.
func withoutUser(source string) string {
	u, err := url.Parse(source)
	if err != nil || !isURL(source) {
		return "file:" + filepath.Base(source)
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// newClient is the client for all fetching: guarded against private addresses, but for trusted hosts.
func (d *Depot) newClient() *http.Client {
	transport := d.Transport
	if transport == nil {
		transport = &guarded{trusted: d.trusts, guard: newTransport(ssrf.New(ssrf.WithAnyPort()).Safe), plain: newTransport(nil)}
	}
	return &http.Client{Transport: transport, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return errors.New("too many redirects")
		}
		return nil
	}}
}

// guarded chooses the transport by host, for each redirect anew.
type guarded struct {
	trusted      func(host string) bool
	guard, plain http.RoundTripper
}

func (g *guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && r.URL.Scheme != "http" {
		return nil, errors.New("neither http nor https")
	}
	if g.trusted(r.URL.Host) {
		return g.plain.RoundTrip(r)
	}
	return g.guard.RoundTrip(r)
}

func newTransport(control func(network, address string, c syscall.RawConn) error) http.RoundTripper {
	dialer := &net.Dialer{Timeout: 10 * time.Second, Control: control}
	return &http.Transport{DialContext: dialer.DialContext, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: idleTime,
		IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 2, ForceAttemptHTTP2: true}
}

// trusts tells whether the operator has set the host: as the index's own, or among TrustedHosts, with or without port.
func (d *Depot) trusts(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if u, err := url.Parse(d.Index); err == nil && isURL(d.Index) && u.Host == host {
		return true
	}
	return slices.Contains(d.TrustedHosts, host) || slices.Contains(d.TrustedHosts, name)
}

// get reads a source whole, at most limit bytes. A file is read only where the operator set its place: the index's.
func (d *Depot) get(ctx context.Context, source string, limit int64, p *commands.Progress) ([]byte, error) {
	var buf bytes.Buffer
	if err := d.copy(ctx, source, 0, limit, &buf, p); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// errNoRange: the source does not go on in the middle.
var errNoRange = errors.New("source does not take up again")

// copy writes a source to w from byte from on.
func (d *Depot) copy(ctx context.Context, source string, from, limit int64, w io.Writer, p *commands.Progress) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	body, size, err := d.reader(ctx, source, from)
	if err != nil {
		return err
	}
	defer body.Close()
	if size > limit {
		return refused("larger than %d bytes", limit)
	}
	p.Add(from)
	if size > 0 {
		p.Expect(from + size)
	}
	idle := time.AfterFunc(idleTime, cancel)
	defer idle.Stop()
	n, err := io.Copy(w, io.LimitReader(progressReader{body, p, idle}, limit+1-from))
	switch {
	case err != nil:
		return fmt.Errorf("fetch %s: %w", withoutUser(source), err)
	case from+n > limit:
		return refused("larger than %d bytes", limit)
	}
	return nil
}

func (d *Depot) reader(ctx context.Context, source string, from int64) (io.ReadCloser, int64, error) {
	if !isURL(source) {
		return d.openLocal(source)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, source, nil)
	if err != nil {
		return nil, 0, refused("%q is no URL", withoutUser(source))
	}
	req.Header.Set("User-Agent", "ledgerline")
	req.Header.Set("Accept-Encoding", "identity")
	if from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	resp, err := d.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, 0, fmt.Errorf("fetch %s: %w", withoutUser(source), err)
	}
	switch {
	case from > 0 && resp.StatusCode != http.StatusPartialContent:
		err = errNoRange
	case resp.StatusCode == http.StatusNotFound:
		err = fmt.Errorf("%w: %s is not there", commands.ErrNoPackage, withoutUser(source))
	case from == 0 && resp.StatusCode != http.StatusOK:
		err = fmt.Errorf("fetch %s: %s", withoutUser(source), resp.Status)
	}
	if err != nil {
		return nil, 0, errors.Join(err, resp.Body.Close())
	}
	return resp.Body, max(resp.ContentLength, 0), nil
}

// openLocal opens a file beside the index; no request can name any other file of this machine.
func (d *Depot) openLocal(name string) (io.ReadCloser, int64, error) {
	dir := filepath.Dir(d.indexURL())
	rel, err := filepath.Rel(dir, name)
	if d.Index == "" || isURL(d.Index) || err != nil || !filepath.IsLocal(rel) {
		return nil, 0, refused("%q is neither a URL nor a file beside the index", filepath.Base(name))
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, 0, fmt.Errorf("open the index's directory: %w", err)
	}
	defer root.Close()
	f, err := root.Open(filepath.ToSlash(rel))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("%w: %s is not there", commands.ErrNoPackage, rel)
	}
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

type progressReader struct {
	io.Reader
	p    *commands.Progress
	idle *time.Timer
}

func (r progressReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.p.Add(int64(n))
	r.idle.Reset(idleTime)
	return n, err
}
