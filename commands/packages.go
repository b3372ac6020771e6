package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"ledgerline/domain"
)

// Packages gets plugin packages and vendors' files, and loads what the log says is installed: adapters/plugins. What is
// installed is decided from plugin streams, never asked here. Safe for concurrent use.
type Packages interface {
	// UpdateIndex fetches the index anew; on any error the one fetched before stays. Errors: ErrNoIndex, ErrPackageRefused.
	UpdateIndex(ctx context.Context, p *Progress) error
	// Offers lists what the index fetched last has, by name, then version; empty when none was fetched.
	Offers(ctx context.Context) ([]PackageOffer, error)
	// Fetch gets an archive, verifies signature, sums and limits, and tries it out; it changes nothing that is in use.
	// Errors: ErrNoPackage, ErrPackageRefused.
	Fetch(ctx context.Context, f FetchPackage, p *Progress) (FetchedPackage, error)
	// Sync makes what is loaded agree with the plugin's history: every version ever installed renders, those installed are
	// offered. A version that cannot be loaded is an error, and leaves the others as they are.
	Sync(ctx context.Context, p domain.Plugin) error
	// Loaded lists what is loaded, by name and version, retired versions too.
	Loaded() []LoadedPackage

	// Bundles lists the files the version of a plugin new devices get names for its phones. Errors: ErrNoPlugin.
	Bundles(plugin string) ([]FileBundle, error)
	// FetchFiles gets, verifies and keeps the files of a bundle. Errors: ErrNoPlugin, ErrNoPackage, ErrPackageRefused.
	FetchFiles(ctx context.Context, f FetchFiles, p *Progress) (domain.PluginFiles, error)
	// Keep makes sure the bytes of these files are here, fetching them again from where they came if they must.
	Keep(ctx context.Context, plugin string, f domain.PluginFiles) error
	// File finds what a plugin's phones fetch under path, as synced last.
	File(plugin, path string) (domain.PluginFiles, domain.PluginFile, bool)
	// Open opens a file kept, for reading anywhere in it. Errors: ErrNoPackage.
	Open(sha256 string) (io.ReadSeekCloser, error)
}

var (
	// ErrNoIndex: the server has no index of packages set.
	ErrNoIndex = errors.New("no package index is set")
	// ErrNoPackage: neither the index nor the source has such a package or bundle.
	ErrNoPackage = errors.New("no such package")
	// ErrPackageRefused: a package or file is damaged, not signed by a trusted key, or breaks a limit; the text tells which.
	ErrPackageRefused = errors.New("package is refused")
)

// MaxPluginArchive is the most bytes an archive may have: what a blob holds.
const MaxPluginArchive = 64 << 20

// PackageOffer is one package of an index.
type PackageOffer struct {
	Name        string `json:"name"`
	Version     string `json:"version"`
	Vendor      string `json:"vendor"`
	Description string `json:"description,omitempty"`
	Size        int64  `json:"size"` // of the archive, in bytes
	SHA256      string `json:"sha256"`
	// SignedBy are the names of the keys that signed it, as the index says; what counts is verified when it is fetched.
	SignedBy []string `json:"signed_by,omitempty"`
	// Capabilities are what the models it knows can do.
	Capabilities []Capability `json:"capabilities,omitempty"`
}

// Capability is what one model can do, as a package's table of models says.
type Capability struct {
	Model      string `json:"model"`
	Lines      int    `json:"lines"`
	Keys       int    `json:"keys"`
	ExpModules int    `json:"exp_modules,omitempty"`
	ExpKeys    int    `json:"exp_keys,omitempty"` // of one module
	// Type is wazo's: ata, conference, deskphone, dect, doorphone, gateway, generic, softphone; empty if the table says none.
	Type string `json:"type,omitempty"`
}

// LoadedPackage is one version of a plugin that is loaded.
type LoadedPackage struct {
	PackageOffer
	// Current is what new devices get. Retired versions are there for history only.
	Current bool `json:"current"`
	Retired bool `json:"retired,omitempty"`
}

// FetchPackage says which package to get: Archive itself, else Source, else the index's Name, at Version (empty: newest).
type FetchPackage struct {
	Name    string
	Version string
	Source  string // URL of an archive
	Archive []byte
	// AllowUnsigned lets a package in that no trusted key has signed.
	AllowUnsigned bool
}

// FetchedPackage is an archive that was verified and can be installed.
type FetchedPackage struct {
	Plugin  domain.PluginID
	Archive domain.PluginArchive
	Data    []byte
}

// FileBundle is one bundle of files a package names for its phones.
type FileBundle struct {
	ID          string   `json:"id"`
	Kind        string   `json:"kind"` // firmware, language, dictionary, other
	Release     string   `json:"release,omitempty"`
	Description string   `json:"description,omitempty"`
	Models      []string `json:"models,omitempty"`
	Size        int64    `json:"size"` // to fetch, in bytes
}

// FetchFiles says which files to get: those the package's bundle ID names or, with Data, this one file an operator has.
type FetchFiles struct {
	Plugin string
	Bundle string
	// The following describe Data. Path may be empty where the package has a rule for the kind.
	Kind    string
	Release string
	Models  []string
	Path    string
	Unpack  string // zip, tar or tar.gz: Data is an archive of files that go below Path
	Data    io.Reader
	Source  string // where Data is from; empty for an upload
}

// pluginSubject is under whose key archives are kept. They are no secret, and must be readable as long as the log is.
var pluginSubject = domain.Subject(domain.Master.Stream())

// PluginArchive is the archive of a plugin's version as it was installed. Errors: ErrNoBlob.
func (s *Service) PluginArchive(ctx context.Context, sha256 string) ([]byte, error) {
	return s.Blobs.Get(ctx, pluginSubject, sha256)
}

// Files an operator gives are kept in parts of this size, for a blob has a limit, and memory too.
const filePart = 8 << 20

// FilePart is part n, from 0, of a file an operator gave. Errors: ErrNoBlob; a part of less than 8 MiB, or none, is the last.
func (s *Service) FilePart(ctx context.Context, sha256 string, n int) ([]byte, error) {
	return s.Blobs.Get(ctx, pluginSubject, sha256+"."+strconv.Itoa(n))
}

// keepFile keeps a file an operator gave: it has no source to be fetched from again.
func (s *Service) keepFile(ctx context.Context, f domain.PluginFile) (err error) {
	r, err := s.Packages.Open(f.SHA256)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	part := make([]byte, min(filePart, f.Size))
	for n := 0; ; n++ {
		size, err := io.ReadFull(r, part)
		if errors.Is(err, io.EOF) || size == 0 {
			return nil
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		if err := s.Blobs.Put(ctx, pluginSubject, f.SHA256+"."+strconv.Itoa(n), part[:size]); err != nil {
			return fmt.Errorf("keep %s: %w", f.Path, err)
		}
	}
}

// Plugin is what the plugin's stream adds up to; the zero Plugin for one that was never installed.
func (s *Service) Plugin(ctx context.Context, name domain.PluginID) (domain.Plugin, error) {
	p, _, err := load[domain.Plugin](ctx, s.Log, name.Stream())
	return p, err
}

// InstallPlugin gets a package and installs it beside the versions there are.
type InstallPlugin struct {
	Name          string `json:"name" validate:"omitempty,id"`
	Version       string `json:"version" validate:"omitempty,max=64,text"`
	Source        string `json:"source" validate:"max=2000,text"`
	Archive       []byte `json:"-"`
	AllowUnsigned bool   `json:"allow_unsigned"`
	// Upgrade makes it what new devices get; without it, or when it is the first version, see domain.PluginInstalled.
	Upgrade bool `json:"upgrade"`
}

// Check is nil when the input's form is right. Errors: ErrInvalid.
func (in InstallPlugin) Check() error {
	if in.Name == "" && in.Source == "" && len(in.Archive) == 0 {
		return &InvalidError{"name", "is required"}
	}
	return check(in)
}

// InstallPlugin answers what was installed. With Upgrade, a version that is installed already is only made current. Errors:
// ErrInvalid, ErrNoPackage, ErrPackageRefused, domain.ErrPluginInstalled, domain.ErrPluginPinned, domain.ErrPluginNewest.
func (s *Service) InstallPlugin(ctx context.Context, in InstallPlugin, p *Progress) (PluginRef, Outcome, error) {
	if err := in.Check(); err != nil {
		return PluginRef{}, Outcome{}, err
	}
	if in.Upgrade && in.Version == "" && in.Name != "" && len(in.Archive) == 0 && in.Source == "" {
		in.Version = s.newestOffer(ctx, in.Name)
	}
	if in.Upgrade && in.Name != "" && in.Version != "" {
		have, err := s.Plugin(ctx, domain.PluginID(in.Name))
		if err != nil {
			return PluginRef{}, Outcome{}, err
		}
		if have.Installed(in.Version) {
			out, err := s.changePlugin(ctx, have.ID, func(p domain.Plugin) ([]domain.Event, error) { return p.Upgrade(in.Version) })
			return PluginRef{in.Name, in.Version}, out, err
		}
	}
	got, err := s.Packages.Fetch(ctx, FetchPackage{Name: in.Name, Version: in.Version, Source: in.Source, Archive: in.Archive, AllowUnsigned: in.AllowUnsigned}, p.Part("download"))
	if err != nil {
		return PluginRef{}, Outcome{}, err
	}
	out, err := s.keepPlugin(ctx, got, func(have domain.Plugin) ([]domain.Event, error) {
		events, err := have.Install(got.Plugin, got.Archive, false)
		if err != nil || !in.Upgrade {
			return events, err
		}
		for _, e := range events {
			have = have.Apply(e)
		}
		if have.Current == got.Archive.Version {
			return events, nil
		}
		upgraded, err := have.Upgrade(got.Archive.Version)
		return append(events, upgraded...), err
	})
	return PluginRef{string(got.Plugin), got.Archive.Version}, out, err
}

// newestOffer is the newest version of a plugin that is installed or on offer.
func (s *Service) newestOffer(ctx context.Context, name string) string {
	have, err := s.Plugin(ctx, domain.PluginID(name))
	if err != nil {
		return ""
	}
	newest := have.Newest()
	offers, err := s.Packages.Offers(ctx)
	if err != nil {
		return newest
	}
	for _, o := range offers {
		if o.Name == name && (newest == "" || domain.CompareVersions(o.Version, newest) > 0) {
			newest = o.Version
		}
	}
	return newest
}

// AdoptPlugin records that a package that came with the program is there, and keeps its bytes: a later program brings a
// later one, and devices made with this one go on with it. It is no news if it was recorded before.
func (s *Service) AdoptPlugin(ctx context.Context, got FetchedPackage) (Outcome, error) {
	have, err := s.Plugin(ctx, got.Plugin)
	if err != nil {
		return Outcome{}, err
	}
	if old, ok := have.Versions[got.Archive.Version]; ok && old.SHA256 == got.Archive.SHA256 {
		return Outcome{}, nil
	}
	return s.keepPlugin(ctx, got, func(have domain.Plugin) ([]domain.Event, error) {
		if have.Gone[got.Archive.Version] {
			return nil, nil // an operator took it away: a new program does not bring it back
		}
		events, err := have.Install(got.Plugin, got.Archive, true)
		if errors.Is(err, domain.ErrPluginInstalled) {
			err = nil
		}
		return events, err
	})
}

// keepPlugin keeps the archive's bytes before the fact is recorded, and loads it after.
func (s *Service) keepPlugin(ctx context.Context, got FetchedPackage, ask func(domain.Plugin) ([]domain.Event, error)) (Outcome, error) {
	if err := s.Blobs.Put(ctx, pluginSubject, got.Archive.SHA256, got.Data); err != nil {
		return Outcome{}, fmt.Errorf("keep the archive of %s: %w", got.Plugin, err)
	}
	return s.changePlugin(ctx, got.Plugin, ask)
}

// changePlugin decides over a plugin and loads what came of it.
func (s *Service) changePlugin(ctx context.Context, name domain.PluginID, ask func(domain.Plugin) ([]domain.Event, error)) (Outcome, error) {
	if domain.CheckID(string(name)) != nil {
		return Outcome{}, domain.ErrPluginUnknown
	}
	out, err := decide(ctx, s, name.Stream(), ask)
	if err != nil || len(out.Events) == 0 {
		return out, err
	}
	return out, s.SyncPlugin(ctx, name)
}

// SyncPlugin loads what the plugin's history says is there.
func (s *Service) SyncPlugin(ctx context.Context, name domain.PluginID) error {
	if s.Packages == nil {
		return nil
	}
	p, err := s.Plugin(ctx, name)
	if err != nil {
		return err
	}
	return s.Packages.Sync(ctx, p)
}

// UninstallPlugin takes a version away from new devices; an empty Version all of them. What history was made with stays
// readable. Without Force it is refused while devices use it; with Force these go on with it.
type UninstallPlugin struct {
	Name    string `json:"name" validate:"required,id"`
	Version string `json:"version" validate:"omitempty,max=64,text"`
	Force   bool   `json:"force"`
}

// UninstallPlugin answers its outcome. Errors: ErrInvalid, domain.ErrPluginUnknown, domain.ErrPluginInUse.
func (s *Service) UninstallPlugin(ctx context.Context, in UninstallPlugin) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	if !in.Force {
		head, err := s.Log.Head(ctx)
		if err != nil {
			return Outcome{}, err
		}
		used, err := s.Candidates.DevicesOfPlugin(ctx, head, domain.PluginDevices{Plugin: in.Name, Version: in.Version, Limit: 1})
		if err != nil {
			return Outcome{}, err
		}
		if len(used) > 0 {
			return Outcome{}, fmt.Errorf("%w, %s among them", domain.ErrPluginInUse, used[0])
		}
	}
	return s.changePlugin(ctx, domain.PluginID(in.Name), func(p domain.Plugin) ([]domain.Event, error) {
		versions := []string{in.Version}
		if in.Version == "" {
			if versions = p.InstalledVersions(); len(versions) == 0 {
				return nil, domain.ErrPluginUnknown
			}
		}
		var events []domain.Event
		for _, v := range versions {
			gone, err := p.Uninstall(v)
			if err != nil {
				return nil, err
			}
			events = append(events, gone...)
		}
		return events, nil
	})
}

// PinPlugin holds new devices at a version; an empty one lets go.
type PinPlugin struct {
	Name    string `json:"name" validate:"required,id"`
	Version string `json:"version" validate:"omitempty,max=64,text"`
}

// PinPlugin answers its outcome. Errors: ErrInvalid, domain.ErrPluginUnknown.
func (s *Service) PinPlugin(ctx context.Context, in PinPlugin) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return s.changePlugin(ctx, domain.PluginID(in.Name), func(p domain.Plugin) ([]domain.Event, error) { return p.Pin(in.Version) })
}

// InstallFiles makes files of a plugin's vendor (firmware, languages) available to its phones: a bundle the package
// names, or an operator's own file.
type InstallFiles struct {
	Plugin  string   `json:"plugin" validate:"required,id"`
	Bundle  string   `json:"bundle" validate:"required,id"`
	Kind    string   `json:"kind" validate:"omitempty,oneof=firmware language dictionary other"`
	Release string   `json:"release" validate:"max=64,text"`
	Models  []string `json:"models" validate:"max=500,dive,max=64,text"`
	Path    string   `json:"path" validate:"max=200,text"`
	Unpack  string   `json:"unpack" validate:"omitempty,oneof=zip tar tar.gz"`
	// Data is the file; nil for what the package's bundle names.
	Data io.Reader `json:"-"`
}

// InstallFiles answers the bundle as installed. Errors: ErrInvalid, ErrNoPlugin, ErrNoPackage, ErrPackageRefused, domain.ErrPathInUse.
func (s *Service) InstallFiles(ctx context.Context, in InstallFiles, p *Progress) (domain.PluginFiles, Outcome, error) {
	if err := check(in); err != nil {
		return domain.PluginFiles{}, Outcome{}, err
	}
	files, err := s.Packages.FetchFiles(ctx, FetchFiles{Plugin: in.Plugin, Bundle: in.Bundle, Kind: in.Kind, Release: in.Release, Models: in.Models, Path: in.Path,
		Unpack: in.Unpack, Data: in.Data}, p)
	if err != nil {
		return domain.PluginFiles{}, Outcome{}, err
	}
	if in.Data != nil {
		for _, f := range files.Files {
			if err := s.keepFile(ctx, f); err != nil {
				return files, Outcome{}, err
			}
		}
	}
	out, err := s.changePlugin(ctx, domain.PluginID(in.Plugin), func(p domain.Plugin) ([]domain.Event, error) { return p.InstallFiles(files) })
	return files, out, err
}

// RemoveFiles takes a bundle away from phones.
type RemoveFiles struct {
	Plugin string `json:"plugin" validate:"required,id"`
	Bundle string `json:"bundle" validate:"required,id"`
}

// RemoveFiles answers its outcome. Errors: ErrInvalid, domain.ErrBundleUnknown.
func (s *Service) RemoveFiles(ctx context.Context, in RemoveFiles) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return s.changePlugin(ctx, domain.PluginID(in.Plugin), func(p domain.Plugin) ([]domain.Event, error) { return p.RemoveFiles(in.Bundle) })
}
