package domain

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// PluginInstalled: a version of a plugin is there and can be used. Versions stand side by side: the first is what new
// devices get, a later one is only on offer until PluginUpgraded. The archive's bytes are kept by their SHA256.
type PluginInstalled struct {
	Plugin PluginID `json:"plugin"`
	PluginArchive
}

// PluginArchive is one archive of a plugin: what came, where from, and who vouched for it.
type PluginArchive struct {
	Version string `json:"version"`
	Vendor  string `json:"vendor"`
	SHA256  string `json:"sha256"` // hex, of the archive
	Size    int64  `json:"size"`   // bytes of the archive
	// Source is "builtin", "upload", or the URL, without credentials, it was fetched from.
	Source string `json:"source"`
	// SignedBy is the name of the trusted key whose signature was verified; empty for one that came with the program, and
	// for one an operator let in Unsigned.
	SignedBy string `json:"signed_by,omitempty"`
	Unsigned bool   `json:"unsigned,omitempty"`
}

// PluginUpgraded: new devices get version To from now on. Devices there are stay as they are, until they are moved.
type PluginUpgraded struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// PluginPinned: new devices get this version, and no upgrade changes that; an empty one ends it.
type PluginPinned struct {
	Version string `json:"version,omitempty"`
}

// PluginUninstalled: no new device gets this version. Its archive stays: history is rendered with it again.
type PluginUninstalled struct {
	Version string `json:"version"`
}

// PluginFilesInstalled: files of the plugin's vendor (firmware, languages) can be fetched by its phones.
type PluginFilesInstalled struct{ PluginFiles }

// PluginFiles is one bundle of files that belong together.
type PluginFiles struct {
	// Bundle names it within the plugin: "t46s-66.86.0.15".
	Bundle string `json:"bundle"`
	// Kind is "firmware", "language", "dictionary" or "other"; Release what phones call it: "66.86.0.15".
	Kind    string       `json:"kind"`
	Release string       `json:"release,omitempty"`
	Models  []string     `json:"models,omitempty"` // empty for all
	Files   []PluginFile `json:"files"`
	Source  string       `json:"source"` // "upload", or the URL, without credentials, it was fetched from
}

// PluginFile is one file phones may fetch.
type PluginFile struct {
	Path   string `json:"path"` // below the phone's base, no leading slash
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// PluginFilesRemoved: the bundle is gone; what phones fetched of it is in their history.
type PluginFilesRemoved struct {
	Bundle string `json:"bundle"`
}

// PluginDeviceUpgradeStarted: devices are to be moved to a version, in waves. What becomes of each stands in its own stream
// (DevicePluginPinned).
type PluginDeviceUpgradeStarted struct {
	UpgradeID string `json:"upgrade_id"`
	Version   string `json:"version"`
	// Which devices: all that the plugin serves, narrowed down by what is set.
	TenantID   TenantID   `json:"tenant_id,omitempty"`
	CategoryID CategoryID `json:"category_id,omitempty"`
	Devices    []DeviceID `json:"devices,omitempty"`
	Wave       int        `json:"wave"`       // devices moved before the next ones wait for them
	HaltAfter  int        `json:"halt_after"` // failures after which it ends
	// Synchronize: each phone is told to fetch.
	Synchronize bool `json:"synchronize,omitempty"`
}

// PluginDeviceUpgradeEnded: no more devices are moved. Moved and Failed count since the process that ended it began.
type PluginDeviceUpgradeEnded struct {
	UpgradeID string `json:"upgrade_id"`
	Outcome   string `json:"outcome"` // "completed", "halted" after too many failures, "cancelled" by somebody
	Moved     int    `json:"moved"`
	Failed    int    `json:"failed"`
	Detail    string `json:"detail,omitempty"` // the latest failure
}

// Outcomes of an upgrade of devices.
const (
	UpgradeCompleted = "completed"
	UpgradeHalted    = "halted"
	UpgradeCancelled = "cancelled"
)

func (PluginInstalled) EventType() string      { return "plugin.installed" }
func (PluginUpgraded) EventType() string       { return "plugin.upgraded" }
func (PluginPinned) EventType() string         { return "plugin.pinned" }
func (PluginUninstalled) EventType() string    { return "plugin.uninstalled" }
func (PluginFilesInstalled) EventType() string { return "plugin.files_installed" }
func (PluginFilesRemoved) EventType() string   { return "plugin.files_removed" }

func (PluginDeviceUpgradeStarted) EventType() string { return "plugin.device_upgrade_started" }
func (PluginDeviceUpgradeEnded) EventType() string   { return "plugin.device_upgrade_ended" }

var pluginEvents = []entry{of[PluginInstalled](), of[PluginUpgraded](), of[PluginPinned](), of[PluginUninstalled](),
	of[PluginFilesInstalled](), of[PluginFilesRemoved](), of[PluginDeviceUpgradeStarted](), of[PluginDeviceUpgradeEnded]()}

// PluginID names a plugin, "yealink".
type PluginID string

// Stream is where the plugin's facts stand.
func (id PluginID) Stream() StreamID { return Stream("plugin", string(id)) }

// Plugin is what a plugin stream adds up to. Its maps are never written to after Apply.
type Plugin struct {
	ID PluginID
	// Versions are all there ever were, each with the archive last installed; Gone are those uninstalled.
	Versions map[string]PluginArchive
	Gone     map[string]bool
	// Current is what new devices get, empty when there is none. Pinned is Current, if it is pinned.
	Current string
	Pinned  string
	// Bundles are the files phones may fetch.
	Bundles map[string]PluginFiles
	// DeviceUpgrades are those under way, by id.
	DeviceUpgrades map[string]PluginDeviceUpgradeStarted
}

// Apply returns the plugin after e.
func (p Plugin) Apply(e Event) Plugin {
	switch e := e.(type) {
	case PluginInstalled:
		p.ID, p.Versions, p.Gone = e.Plugin, put(p.Versions, e.Version, e.PluginArchive), without(p.Gone, e.Version)
		if p.Current == "" {
			p.Current = e.Version
		}
	case PluginUpgraded:
		p.Current = e.To
	case PluginPinned:
		if p.Pinned = e.Version; e.Version != "" {
			p.Current = e.Version
		}
	case PluginUninstalled:
		p.Gone = put(p.Gone, e.Version, true)
		if p.Current == e.Version {
			p.Current, p.Pinned = p.Newest(), ""
		}
	case PluginFilesInstalled:
		p.Bundles = put(p.Bundles, e.Bundle, e.PluginFiles)
	case PluginFilesRemoved:
		p.Bundles = without(p.Bundles, e.Bundle)
	case PluginDeviceUpgradeStarted:
		p.DeviceUpgrades = put(p.DeviceUpgrades, e.UpgradeID, e)
	case PluginDeviceUpgradeEnded:
		p.DeviceUpgrades = without(p.DeviceUpgrades, e.UpgradeID)
	}
	return p
}

func put[V any](m map[string]V, k string, v V) map[string]V {
	if m = maps.Clone(m); m == nil {
		m = make(map[string]V)
	}
	m[k] = v
	return m
}

func without[V any](m map[string]V, k string) map[string]V {
	m = maps.Clone(m)
	delete(m, k)
	return m
}

// Installed tells whether the version can be used for new devices.
func (p Plugin) Installed(version string) bool {
	_, known := p.Versions[version]
	return known && !p.Gone[version]
}

// InstalledVersions are the versions installed, the oldest first.
func (p Plugin) InstalledVersions() []string {
	var out []string
	for v := range p.Versions {
		if !p.Gone[v] {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, CompareVersions)
	return out
}

// Newest is the newest version installed, empty for none.
func (p Plugin) Newest() string {
	if all := p.InstalledVersions(); len(all) > 0 {
		return all[len(all)-1]
	}
	return ""
}

// CompareVersions orders versions like "1.10.2", part by part, parts that are numbers as numbers.
func CompareVersions(a, b string) int {
	fa, fb := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(fa), len(fb)) {
		na, aErr := strconv.Atoi(fa[i])
		nb, bErr := strconv.Atoi(fb[i])
		c := cmp.Compare(na, nb)
		if aErr != nil || bErr != nil {
			c = strings.Compare(fa[i], fb[i])
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(fa), len(fb))
}

var (
	ErrPluginUnknown   = errors.New("no such plugin")
	ErrPluginInstalled = errors.New("this version of the plugin is installed already")
	ErrPluginInUse     = errors.New("devices use this version of the plugin")
	ErrPluginPinned    = errors.New("plugin is pinned to a version")
	ErrPluginNewest    = errors.New("plugin is at this version already")
	ErrUpgradeUnknown  = errors.New("no such upgrade of devices is under way")
	ErrUpgradeUnderWay = errors.New("devices of this plugin are being moved; wait or cancel it")
	ErrBundleUnknown   = errors.New("no such bundle of files")
	ErrPathInUse       = errors.New("another bundle has a file of this path")
)

// Install adds a version. The same version again, with the same bytes, is ErrPluginInstalled; with other bytes only
// replace lets it in: the new bytes take the place of the old, which are kept.
func (p Plugin) Install(id PluginID, a PluginArchive, replace bool) ([]Event, error) {
	if old, ok := p.Versions[a.Version]; ok && !p.Gone[a.Version] && (!replace || old.SHA256 == a.SHA256) {
		return nil, ErrPluginInstalled
	}
	return []Event{PluginInstalled{id, a}}, nil
}

// Upgrade makes an installed version the one new devices get. It may be an older one: the way back.
func (p Plugin) Upgrade(to string) ([]Event, error) {
	switch {
	case !p.Installed(to):
		return nil, ErrPluginUnknown
	case p.Pinned != "":
		return nil, ErrPluginPinned
	case p.Current == to:
		return nil, ErrPluginNewest
	}
	return []Event{PluginUpgraded{p.Current, to}}, nil
}

// Pin holds new devices at an installed version; an empty one lets go.
func (p Plugin) Pin(version string) ([]Event, error) {
	switch {
	case len(p.Versions) == 0, version != "" && !p.Installed(version):
		return nil, ErrPluginUnknown
	case p.Pinned == version:
		return nil, nil
	}
	return []Event{PluginPinned{version}}, nil
}

// Uninstall takes a version away from new devices.
func (p Plugin) Uninstall(version string) ([]Event, error) {
	if !p.Installed(version) {
		return nil, ErrPluginUnknown
	}
	return []Event{PluginUninstalled{version}}, nil
}

// UpgradeDevices orders that devices be moved; one order at a time. The version may be an older one: the way back.
func (p Plugin) UpgradeDevices(u PluginDeviceUpgradeStarted) ([]Event, error) {
	switch {
	case !p.Installed(u.Version):
		return nil, ErrPluginUnknown
	case len(p.DeviceUpgrades) > 0:
		return nil, ErrUpgradeUnderWay
	}
	return []Event{u}, nil
}

// EndDeviceUpgrade ends one under way.
func (p Plugin) EndDeviceUpgrade(e PluginDeviceUpgradeEnded) ([]Event, error) {
	if _, ok := p.DeviceUpgrades[e.UpgradeID]; !ok {
		return nil, ErrUpgradeUnknown
	}
	return []Event{e}, nil
}

// InstallFiles makes a bundle available, in place of one of the same name. As it is already is no news.
func (p Plugin) InstallFiles(f PluginFiles) ([]Event, error) {
	if len(p.Versions) == 0 {
		return nil, ErrPluginUnknown
	}
	for name, other := range p.Bundles {
		if name == f.Bundle {
			continue
		}
		for _, theirs := range other.Files {
			if slices.ContainsFunc(f.Files, func(ours PluginFile) bool { return ours.Path == theirs.Path && ours.SHA256 != theirs.SHA256 }) {
				return nil, ErrPathInUse
			}
		}
	}
	if old, ok := p.Bundles[f.Bundle]; ok && old.Kind == f.Kind && old.Release == f.Release && slices.Equal(old.Models, f.Models) && slices.Equal(old.Files, f.Files) {
		return nil, nil
	}
	return []Event{PluginFilesInstalled{f}}, nil
}

// RemoveFiles takes a bundle away.
func (p Plugin) RemoveFiles(bundle string) ([]Event, error) {
	if _, ok := p.Bundles[bundle]; !ok {
		return nil, ErrBundleUnknown
	}
	return []Event{PluginFilesRemoved{bundle}}, nil
}

// File finds the file phones fetch under path.
func (p Plugin) File(path string) (PluginFiles, PluginFile, bool) {
	for _, name := range slices.Sorted(maps.Keys(p.Bundles)) {
		for _, f := range p.Bundles[name].Files {
			if f.Path == path {
				return p.Bundles[name], f, true
			}
		}
	}
	return PluginFiles{}, PluginFile{}, false
}

// Owner is the master tenant: plugins are everybody's.
func (p Plugin) Owner() TenantID { return Master }

// PluginDevices selects live devices by the plugin that serves them.
type PluginDevices struct {
	Plugin string // empty for any, and for none
	// Version: those whose files were last made with it; empty for any. Not: those last made with another one.
	Version string
	Not     string
	// Tenant, Category and Devices narrow it down; zero values do not.
	Tenant   TenantID
	Category CategoryID
	Devices  []DeviceID
	After    DeviceID // in the order of ids
	Limit    int
}

// Matches tells whether d, without After and Limit, is selected.
func (q PluginDevices) Matches(d Device) bool {
	return d.Live() == nil && (q.Plugin == "" || d.Plugin == q.Plugin) && (q.Version == "" || d.Version() == q.Version) && (q.Not == "" || d.Version() != q.Not) &&
		(q.Tenant == "" || d.TenantID == q.Tenant) && (q.Category == "" || d.CategoryID == q.Category) &&
		(len(q.Devices) == 0 || slices.Contains(q.Devices, d.ID))
}
