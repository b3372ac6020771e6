package plugins

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/renameio/v2"

	"ledgerline/commands"
	"ledgerline/domain"
)

// Options of a Depot. Dir and Set are needed.
type Options struct {
	// Dir holds the index fetched last, unpacked packages and vendors' files; made if missing. It is a copy of what the
	// log, the blobs and the sources have, and may be deleted.
	Dir string
	Set *Set
	// Index is where the index of packages is: a URL, a directory or a file; empty for none. What it names on the same host
	// is fetched without the guard.
	Index string
	// Keys may sign packages.
	Keys Keys
	// TrustedHosts ("mirror.example:8080", "192.0.2.7") are fetched from without the guard against private addresses.
	TrustedHosts []string
	// Archive reads an archive kept by its SHA-256; Part part n, from 0, of a file an operator gave, commands.ErrNoBlob behind
	// the last; History a plugin's facts.
	Archive func(ctx context.Context, sha256 string) ([]byte, error)
	Part    func(ctx context.Context, sha256 string, n int) ([]byte, error)
	History func(ctx context.Context, name domain.PluginID) (domain.Plugin, error)
	// Transport is for tests; nil means the guarded one for all but trusted hosts.
	Transport http.RoundTripper
}

// Depot implements commands.Packages: it gets packages, keeps vendors' files, and loads what is installed into a Set. Safe
// for concurrent use.
type Depot struct {
	Options
	client *http.Client

	syncing sync.Mutex
	sums    map[commands.PluginRef]string // of what is loaded; "" for what the Set began with
	keeping sync.Mutex
	facts   sync.Map // domain.Plugin by name, as synced last
}

var _ commands.Packages = (*Depot)(nil)

// NewDepot makes a depot over o.Set, which it asks for what is missing from then on.
func NewDepot(o Options) (*Depot, error) {
	for _, dir := range []string{o.Dir, filepath.Join(o.Dir, packagesDir), filepath.Join(o.Dir, filesDir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make the plugins directory: %w", err)
		}
	}
	d := &Depot{Options: o, sums: map[commands.PluginRef]string{}}
	d.client = d.newClient()
	if o.History != nil && o.Archive != nil {
		o.Set.missing = func(ctx context.Context, name string) error {
			p, err := o.History(ctx, domain.PluginID(name))
			if err != nil || len(p.Versions) == 0 {
				return err
			}
			return d.Sync(ctx, p)
		}
	}
	return d, nil
}

const (
	packagesDir = "packages"
	filesDir    = "files"
	indexFile   = "index.json"
)

// Archives are the packages in directories of fsys, packed: the same bytes in every build of the same files. source is
// what is recorded of where they are from.
func Archives(fsys fs.FS, source string) ([]commands.FetchedPackage, error) {
	dirs, err := fs.Glob(fsys, "*/plugin.yaml")
	if err != nil {
		return nil, err
	}
	var out []commands.FetchedPackage
	for _, name := range dirs {
		sub, err := fs.Sub(fsys, filepath.ToSlash(filepath.Dir(name)))
		if err != nil {
			return nil, err
		}
		var m Manifest
		if err := readYAML(sub, "plugin.yaml", &m); err != nil {
			return nil, err
		}
		data, err := pack(sub, m.Name, m.Version, gzip.NoCompression) // compressors change between releases
		if err != nil {
			return nil, fmt.Errorf("pack %s: %w", m.Name, err)
		}
		out = append(out, commands.FetchedPackage{Plugin: domain.PluginID(m.Name), Data: data,
			Archive: domain.PluginArchive{Version: m.Version, Vendor: m.Vendor, SHA256: sumOf(data), Size: int64(len(data)), Source: source}})
	}
	return out, nil
}

// Adopted tells the depot that what the Set began with is this archive.
func (d *Depot) Adopted(p commands.FetchedPackage) {
	d.syncing.Lock()
	defer d.syncing.Unlock()
	d.sums[commands.PluginRef{Name: string(p.Plugin), Version: p.Archive.Version}] = p.Archive.SHA256
}

// Sync implements commands.Packages.
func (d *Depot) Sync(ctx context.Context, p domain.Plugin) error {
	if len(p.Versions) == 0 {
		return nil
	}
	d.syncing.Lock()
	defer d.syncing.Unlock()
	var fresh []*Package
	var errs []error
	for version, a := range p.Versions {
		ref := commands.PluginRef{Name: string(p.ID), Version: version}
		if d.sums[ref] == a.SHA256 {
			continue
		}
		loaded, err := d.load(ctx, ref, a.SHA256)
		if err != nil {
			errs = append(errs, fmt.Errorf("load plugin %s %s: %w", ref.Name, ref.Version, err))
			continue
		}
		fresh = append(fresh, loaded)
		d.sums[ref] = a.SHA256
	}
	d.Set.put(string(p.ID), p.Current, p.Gone, fresh...)
	d.facts.Store(string(p.ID), p)
	return errors.Join(errs...)
}

// load reads a package from its unpacked copy, made from the archive if need be.
func (d *Depot) load(ctx context.Context, ref commands.PluginRef, sum string) (*Package, error) {
	archive, err := d.Archive(ctx, sum)
	if err != nil {
		return nil, err
	}
	if sumOf(archive) != sum {
		return nil, refused("its archive is not what was installed")
	}
	p, err := d.open(archive, sum)
	if err == nil && p.Ref() != ref {
		err = refused("its archive holds %s %s", p.Name, p.Version)
	}
	return p, err
}

// open unpacks an archive beside the others and loads it from there. What cannot be loaded leaves nothing behind.
func (d *Depot) open(archive []byte, sum string) (*Package, error) {
	u, err := unpackAll(archive)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(d.Dir, packagesDir, sum)
	p, err := u.load(dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return p, d.keepStatic(u, p)
}

// keepStatic keeps the files of a package that phones fetch as they are beside the vendors'.
func (d *Depot) keepStatic(u unpacked, p *Package) error {
	for name, b := range u.contents {
		path, is := strings.CutPrefix(name, staticDir)
		if !is {
			continue
		}
		sum := sumOf(b)
		if !d.has(sum) {
			if _, _, err := d.take(context.Background(), bytes.NewReader(b)); err != nil {
				return err
			}
		}
		if p.static == nil {
			p.static = map[string]domain.PluginFile{}
		}
		p.static[path] = domain.PluginFile{Path: path, SHA256: sum, Size: int64(len(b))}
	}
	return nil
}

// Loaded implements commands.Packages.
func (d *Depot) Loaded() []commands.LoadedPackage {
	l := d.Set.now.Load()
	out := make([]commands.LoadedPackage, len(l.packages))
	for i, p := range l.packages {
		out[i] = commands.LoadedPackage{PackageOffer: offerOf(p), Current: slices.Contains(l.offered, p), Retired: l.retired[p.Ref()]}
	}
	return out
}

func offerOf(p *Package) commands.PackageOffer {
	o := commands.PackageOffer{Name: p.Name, Version: p.Version, Vendor: p.Vendor, Description: p.Description}
	for _, m := range p.Models {
		o.Capabilities = append(o.Capabilities, commands.Capability{Model: m.Name, Lines: m.Accounts, Keys: m.Keys, ExpModules: m.ExpModules, ExpKeys: m.ExpKeys, Type: m.Columns["type"]})
	}
	return o
}

// Fetch implements commands.Packages.
func (d *Depot) Fetch(ctx context.Context, f commands.FetchPackage, p *commands.Progress) (got commands.FetchedPackage, err error) {
	defer func() { p.Done(err) }()
	var source, want string
	switch {
	case len(f.Archive) > 0:
		got.Data, source = f.Archive, "upload"
		p.Add(int64(len(f.Archive)))
	case f.Source != "":
		if got.Data, err = d.get(ctx, f.Source, MaxArchive, p); err != nil {
			return got, err
		}
		source = withoutUser(f.Source)
	default:
		var from string
		if from, want, err = d.offered(f.Name, f.Version); err != nil {
			return got, err
		}
		// The operator has set an index of wazo-provd's, which signs nothing; its SHA-1 is all there is, and data all that is read.
		f.AllowUnsigned = f.AllowUnsigned || len(want) == 2*sha1.Size
		if got.Data, err = d.get(ctx, from, MaxArchive, p); err != nil {
			return got, err
		}
		source = withoutUser(from)
	}
	if want != "" && sumOf(got.Data) != want && sha1Of(got.Data) != want {
		return got, refused("its sum is not what the index says")
	}
	if isWazo(got.Data) {
		if got.Data, err = fromWazo(got.Data); err != nil {
			return got, err
		}
	}
	u, err := unpackAll(got.Data)
	if err != nil {
		return got, err
	}
	signer, err := u.signer(d.Keys)
	if err != nil {
		return got, err
	}
	if signer == "" && !f.AllowUnsigned {
		return got, refused("no trusted key has signed it")
	}
	if f.Name != "" && f.Name != u.name || f.Version != "" && f.Version != u.version {
		return got, refused("it is %s %s, not %s %s", u.name, u.version, f.Name, f.Version)
	}
	loaded, err := d.open(got.Data, sumOf(got.Data))
	if err != nil {
		return got, err
	}
	got.Plugin = domain.PluginID(u.name)
	got.Archive = domain.PluginArchive{Version: u.version, Vendor: loaded.Vendor, SHA256: sumOf(got.Data), Size: int64(len(got.Data)), Source: source, SignedBy: signer, Unsigned: signer == ""}
	return got, nil
}

func sha1Of(b []byte) string {
	sum := sha1.Sum(b)
	return hex.EncodeToString(sum[:])
}

// offered finds where the index has a package, and its sum.
func (d *Depot) offered(name, version string) (from, sum string, err error) {
	index, err := d.index()
	if err != nil {
		return "", "", err
	}
	var best *indexed
	for i, p := range index.Packages {
		if p.Name == name && (version == "" || p.Version == version) && (best == nil || domain.CompareVersions(p.Version, best.Version) > 0) {
			best = &index.Packages[i]
		}
	}
	if best == nil {
		return "", "", fmt.Errorf("%w: the index has no %s", commands.ErrNoPackage, strings.TrimSpace(name+" "+version))
	}
	from, err = d.resolve(best.File)
	return from, cmp.Or(best.SHA256, best.SHA1), err
}

// Offers implements commands.Packages.
func (d *Depot) Offers(context.Context) ([]commands.PackageOffer, error) {
	index, err := d.index()
	out := make([]commands.PackageOffer, len(index.Packages))
	for i, p := range index.Packages {
		out[i] = p.PackageOffer
	}
	slices.SortFunc(out, func(a, b commands.PackageOffer) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), domain.CompareVersions(a.Version, b.Version))
	})
	return out, err
}

// HasIndex tells whether there is an index to update.
func (d *Depot) HasIndex() bool { return d.Index != "" }

// UpdateIndex implements commands.Packages.
func (d *Depot) UpdateIndex(ctx context.Context, p *commands.Progress) (err error) {
	defer func() { p.Done(err) }()
	if d.Index == "" {
		return commands.ErrNoIndex
	}
	b, err := d.get(ctx, d.indexURL(), maxIndex, p)
	if err != nil {
		return err
	}
	if _, err := parseIndex(b); err != nil {
		return err
	}
	if err := renameio.WriteFile(filepath.Join(d.Dir, indexFile), b, 0o600); err != nil {
		return fmt.Errorf("keep the index: %w", err)
	}
	return nil
}
