package plugins

import (
	"archive/tar"
	"archive/zip"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"ledgerline/commands"
	"ledgerline/domain"
)

// Limits of vendors' files: one file, and what an archive of them unpacks to. Both well above what phones take today.
const (
	maxFile          = 2 << 30
	maxUnpackedFiles = 4 << 30
	maxBundleFiles   = 2000
)

// Bundles implements commands.Packages.
func (d *Depot) Bundles(plugin string) ([]commands.FileBundle, error) {
	p, err := d.Set.Package(commands.PluginRef{Name: plugin})
	if err != nil {
		return nil, err
	}
	out := make([]commands.FileBundle, len(p.Firmware.Bundles))
	for i, b := range p.Firmware.Bundles {
		out[i] = commands.FileBundle{ID: b.ID, Kind: b.Kind, Release: b.Release, Description: b.Description, Models: b.Models}
		for _, f := range b.Files {
			out[i].Size += f.Size
		}
	}
	return out, nil
}

// FetchFiles implements commands.Packages.
func (d *Depot) FetchFiles(ctx context.Context, f commands.FetchFiles, p *commands.Progress) (got domain.PluginFiles, err error) {
	pkg, err := d.Set.Package(commands.PluginRef{Name: f.Plugin})
	if err != nil {
		return got, err
	}
	if f.Data != nil {
		return d.upload(ctx, pkg, f, p)
	}
	i := slices.IndexFunc(pkg.Firmware.Bundles, func(b Bundle) bool { return b.ID == f.Bundle })
	if i < 0 {
		return got, fmt.Errorf("%w: %s names no bundle %s", commands.ErrNoPackage, f.Plugin, f.Bundle)
	}
	b := pkg.Firmware.Bundles[i]
	got = domain.PluginFiles{Bundle: b.ID, Kind: b.Kind, Release: b.Release, Models: b.Models}
	all := pkg.withDepends(b, nil)
	download, install := p.Part("download"), p.Part("install")
	var parts []*commands.Progress
	for _, b := range all {
		for _, file := range b.Files {
			parts = append(parts, download.Part(""))
			parts[len(parts)-1].Size(file.Size)
		}
	}
	sums := make([][]string, len(all))
	for i, b := range all {
		for _, file := range b.Files {
			part := parts[0]
			parts = parts[1:]
			sum, err := d.download(ctx, file, part)
			if err == nil && part.Step().Current == 0 {
				part.Add(file.Size) // it was here already
			}
			part.Done(err)
			if err != nil {
				return got, err
			}
			sums[i] = append(sums[i], sum)
			got.Source = withoutUser(file.URL)
		}
	}
	download.Done(nil)
	install.Expect(int64(len(all)))
	for i, b := range all {
		files, err := d.unfold(ctx, pkg, b, sums[i])
		if err != nil {
			return got, err
		}
		got.Files = append(got.Files, files...)
		install.Add(1)
	}
	return got, checkFiles(got.Files)
}

// withDepends is a bundle behind those it depends on, each once.
func (p *Package) withDepends(b Bundle, before []Bundle) []Bundle {
	has := func(id string) bool { return slices.ContainsFunc(before, func(o Bundle) bool { return o.ID == id }) }
	if has(b.ID) {
		return before
	}
	before = append(before, Bundle{ID: b.ID}) // holds its place, should they depend on each other
	at := len(before) - 1
	for _, id := range b.Depends {
		if i := slices.IndexFunc(p.Firmware.Bundles, func(o Bundle) bool { return o.ID == id }); i >= 0 {
			before = p.withDepends(p.Firmware.Bundles[i], before)
		}
	}
	before[at] = b
	return before
}

// unfold says which files what was fetched of a bundle is to phones; sums are of its files, in their order.
func (d *Depot) unfold(ctx context.Context, pkg *Package, b Bundle, sums []string) (out []domain.PluginFile, err error) {
	fetched := node{}
	for i, file := range b.Files {
		if len(b.Steps) > 0 {
			info, err := os.Stat(d.filePath(sums[i]))
			if err != nil {
				return nil, err
			}
			fetched[file.Name] = domain.PluginFile{SHA256: sums[i], Size: info.Size()}
			continue
		}
		name := file.Path
		if name == "" {
			name = pkg.targetOf(b.Kind, b.Models, b.Release)
		}
		if name == "" && file.Unpack == "" {
			name = path.Base(file.URL)
		}
		files, err := d.place(ctx, sums[i], name, file.Unpack, file.Pick)
		if err != nil {
			return nil, err
		}
		out = append(out, files...)
	}
	if len(b.Steps) > 0 {
		return d.carryOut(ctx, b.Steps, fetched)
	}
	return out, nil
}

// targetOf is the path of a bundle whose models all have the same; "" else.
func (p *Package) targetOf(kind string, models []string, release string) string {
	if len(models) == 0 {
		return ""
	}
	m, _ := p.Model(models[0])
	name := p.target(kind, m, release)
	for _, other := range models[1:] {
		if m, _ := p.Model(other); p.target(kind, m, release) != name {
			return ""
		}
	}
	return name
}

// upload keeps an operator's own file.
func (d *Depot) upload(ctx context.Context, pkg *Package, f commands.FetchFiles, p *commands.Progress) (domain.PluginFiles, error) {
	got := domain.PluginFiles{Bundle: f.Bundle, Kind: f.Kind, Release: f.Release, Models: f.Models, Source: "upload"}
	if got.Kind == "" {
		got.Kind = "other"
	}
	if f.Source != "" {
		got.Source = withoutUser(f.Source)
	}
	if name, ok := pkg.knowsAll(f.Models); !ok {
		return got, &commands.InvalidError{Field: "models", Rule: "names " + name + ", which the plugin does not know"}
	}
	name := f.Path
	if name == "" {
		name = pkg.targetOf(got.Kind, f.Models, f.Release)
	}
	if name == "" && f.Unpack == "" || name != "" && !fs.ValidPath(strings.TrimSuffix(name, "/")) {
		return got, &commands.InvalidError{Field: "path", Rule: "must say under which name phones find the file"}
	}
	sum, size, err := d.take(ctx, io.TeeReader(f.Data, addTo{p}))
	if err != nil {
		return got, err
	}
	if size == 0 {
		return got, refused("the file is empty")
	}
	if got.Files, err = d.place(ctx, sum, name, f.Unpack, nil); err != nil {
		return got, err
	}
	return got, checkFiles(got.Files)
}

type addTo struct{ p *commands.Progress }

func (a addTo) Write(b []byte) (int, error) {
	a.p.Add(int64(len(b)))
	return len(b), nil
}

func checkFiles(files []domain.PluginFile) error {
	seen := map[string]bool{}
	for _, f := range files {
		if seen[f.Path] {
			return refused("two files named %q", f.Path)
		}
		seen[f.Path] = true
	}
	if len(files) == 0 {
		return refused("it holds no file that counts")
	}
	return nil
}

func (d *Depot) filePath(sum string) string { return filepath.Join(d.Dir, filesDir, sum) }

// has tells whether a file is kept.
func (d *Depot) has(sum string) bool {
	_, err := os.Stat(d.filePath(sum))
	return err == nil
}

// File implements commands.Packages.
func (d *Depot) File(plugin, path string) (domain.PluginFiles, domain.PluginFile, bool) {
	if facts, ok := d.facts.Load(plugin); ok {
		if files, f, ok := facts.(domain.Plugin).File(path); ok {
			return files, f, true
		}
	}
	if p, err := d.Set.Package(commands.PluginRef{Name: plugin}); err == nil {
		if f, ok := p.static[path]; ok {
			return domain.PluginFiles{Bundle: "static", Kind: "other", Release: p.Version, Source: "package"}, f, true
		}
	}
	return domain.PluginFiles{}, domain.PluginFile{}, false
}

// Open implements commands.Packages.
func (d *Depot) Open(sum string) (io.ReadSeekCloser, error) {
	if b, err := hex.DecodeString(sum); err != nil || len(b) != sha256.Size {
		return nil, commands.ErrNoPackage
	}
	f, err := os.Open(d.filePath(sum))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, commands.ErrNoPackage
	}
	return f, err
}

// download fetches a file of a known sum, and answers its SHA-256. What was fetched before an interruption is kept and gone
// on from.
func (d *Depot) download(ctx context.Context, file BundleFile, p *commands.Progress) (sum string, err error) {
	d.keeping.Lock()
	defer d.keeping.Unlock()
	name := file.SHA256
	if name == "" { // which file has that sum is written down beside them
		name = "sha1-" + file.SHA1
		if known, err := os.ReadFile(d.filePath(name)); err == nil && d.has(string(known)) {
			return string(known), nil
		}
	} else if d.has(name) {
		return name, nil
	}
	part := d.filePath(name) + ".part"
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", fmt.Errorf("keep a file: %w", err)
	}
	defer f.Close()
	from, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return "", fmt.Errorf("keep a file: %w", err)
	}
	err = d.copy(ctx, file.URL, from, maxFile, f, p)
	if errors.Is(err, errNoRange) && from > 0 {
		if _, err = f.Seek(0, io.SeekStart); err == nil {
			err = f.Truncate(0)
		}
		if err == nil {
			err = d.copy(ctx, file.URL, 0, maxFile, f, p)
		}
	}
	if err != nil {
		return "", err
	}
	h, h1 := sha256.New(), sha1.New()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	if _, err := io.Copy(io.MultiWriter(h, h1), f); err != nil {
		return "", fmt.Errorf("read what was fetched: %w", err)
	}
	sum = hex.EncodeToString(h.Sum(nil))
	if file.SHA256 != "" && sum != file.SHA256 {
		return "", errors.Join(refused("%s has SHA-256 %s, not %s", withoutUser(file.URL), sum, file.SHA256), os.Remove(part))
	}
	if got := hex.EncodeToString(h1.Sum(nil)); file.SHA256 == "" && got != file.SHA1 {
		return "", errors.Join(refused("%s has SHA-1 %s, not %s", withoutUser(file.URL), got, file.SHA1), os.Remove(part))
	}
	if err := f.Sync(); err != nil {
		return "", err
	}
	if err := os.Rename(part, d.filePath(sum)); err != nil || file.SHA256 != "" {
		return sum, err
	}
	return sum, renameio.WriteFile(d.filePath(name), []byte(sum), 0o600)
}

// take keeps what r has to say, under its sum.
func (d *Depot) take(ctx context.Context, r io.Reader) (sum string, size int64, err error) {
	f, err := os.CreateTemp(filepath.Join(d.Dir, filesDir), "new-")
	if err != nil {
		return "", 0, fmt.Errorf("keep a file: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	h := sha256.New()
	size, err = io.Copy(io.MultiWriter(f, h), io.LimitReader(contextReader{ctx, r}, maxFile+1))
	switch {
	case err != nil:
		return "", 0, fmt.Errorf("keep a file: %w", err)
	case size > maxFile:
		return "", 0, refused("larger than %d bytes", maxFile)
	}
	sum = hex.EncodeToString(h.Sum(nil))
	if err := f.Sync(); err != nil {
		return "", 0, err
	}
	return sum, size, os.Rename(f.Name(), d.filePath(sum))
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}

// place says which files the one kept under sum is to phones: itself under name, or what it unpacks to, below name.
func (d *Depot) place(ctx context.Context, sum, name, unpack string, pick []string) ([]domain.PluginFile, error) {
	info, err := os.Stat(d.filePath(sum))
	if err != nil {
		return nil, err
	}
	if unpack == "" {
		return []domain.PluginFile{{Path: name, SHA256: sum, Size: info.Size()}}, nil
	}
	var out []domain.PluginFile
	left := min(int64(maxUnpackedFiles), max(ratioFree, maxRatio*info.Size()))
	one := func(inner string, r io.Reader) error {
		base := path.Base(inner)
		if len(pick) > 0 && !slices.ContainsFunc(pick, func(p string) bool { return matches(p, inner) || matches(p, base) }) {
			return nil
		}
		if !packable(inner) {
			return refused("it holds a file named %q", inner)
		}
		if len(out) >= maxBundleFiles {
			return refused("more than %d files in it", maxBundleFiles)
		}
		limited := &io.LimitedReader{R: r, N: left + 1}
		sum, size, err := d.take(ctx, limited)
		if left -= size; err == nil && left < 0 {
			err = refused("it unpacks to too much")
		}
		out = append(out, domain.PluginFile{Path: path.Join(name, inner), SHA256: sum, Size: size})
		return err
	}
	switch unpack {
	case "zip":
		err = eachZip(d.filePath(sum), one)
	default:
		err = eachTar(d.filePath(sum), unpack, one)
	}
	return out, err
}

func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

func eachZip(name string, one func(string, io.Reader) error) error {
	z, err := zip.OpenReader(name)
	if err != nil {
		return refused("no zip: %v", err)
	}
	defer z.Close()
	if len(z.File) > maxFiles {
		return refused("more than %d entries", maxFiles)
	}
	for _, f := range z.File {
		switch {
		case f.FileInfo().IsDir():
			continue
		case !f.Mode().IsRegular():
			return refused("%q is no plain file", f.Name)
		}
		r, err := f.Open()
		if err != nil {
			return refused("%q: %v", f.Name, err)
		}
		err = one(f.Name, r)
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	return nil
}

// eachTar goes through a tar, tar.gz or tar.bz2.
func eachTar(name, kind string, one func(string, io.Reader) error) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	var r io.Reader = f
	switch kind {
	case "tar.gz":
		if r, err = gzip.NewReader(f); err != nil {
			return refused("no tar.gz: %v", err)
		}
	case "tar.bz2":
		r = bzip2.NewReader(f)
	}
	// What is not picked is read over as well, and counts.
	t := tar.NewReader(io.LimitReader(r, maxUnpackedFiles))
	for n := 0; ; n++ {
		h, err := t.Next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return refused("no tar: %v", err)
		case n > maxFiles:
			return refused("more than %d entries", maxFiles)
		case h.Typeflag == tar.TypeDir:
			continue
		case h.Typeflag != tar.TypeReg:
			return refused("%q is no plain file", h.Name)
		}
		if err := one(strings.TrimPrefix(h.Name, "./"), t); err != nil {
			return err
		}
	}
}

// Keep implements commands.Packages.
func (d *Depot) Keep(ctx context.Context, plugin string, f domain.PluginFiles) error {
	if !slices.ContainsFunc(f.Files, func(file domain.PluginFile) bool { return !d.has(file.SHA256) }) {
		return nil
	}
	if isURL(f.Source) {
		got, err := d.FetchFiles(ctx, commands.FetchFiles{Plugin: plugin, Bundle: f.Bundle}, nil)
		if err == nil && !slices.Equal(got.Files, f.Files) {
			err = refused("%s holds other files than were installed", f.Bundle)
		}
		return err
	}
	for _, file := range f.Files {
		if d.has(file.SHA256) {
			continue
		}
		sum, _, err := d.take(ctx, &parts{ctx: ctx, d: d, sum: file.SHA256})
		if err == nil && sum != file.SHA256 {
			err = refused("%s is not what was installed", file.Path)
		}
		if err != nil {
			return fmt.Errorf("restore %s: %w", file.Path, err)
		}
	}
	return nil
}

// parts reads a file an operator gave from where its parts are kept.
type parts struct {
	ctx  context.Context
	d    *Depot
	sum  string
	n    int
	part []byte
}

func (p *parts) Read(b []byte) (n int, err error) {
	if len(p.part) == 0 {
		p.part, err = p.d.Part(p.ctx, p.sum, p.n)
		if errors.Is(err, commands.ErrNoBlob) && p.n > 0 {
			return 0, io.EOF
		}
		if err != nil {
			return 0, err
		}
		p.n++
	}
	n = copy(b, p.part)
	p.part = p.part[n:]
	return n, nil
}
