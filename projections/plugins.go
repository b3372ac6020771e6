package projections

import (
	"context"
	"maps"
	"slices"

	"ledgerline/domain"
)

// Plugin is one plugin as readers see it.
type Plugin struct {
	Name     domain.PluginID `json:"name"`
	Current  string          `json:"current"` // what new devices get; empty for none
	Pinned   bool            `json:"pinned"`
	Versions []PluginVersion `json:"versions"` // oldest first, uninstalled ones too
	// Bundles are the files phones may fetch, by name.
	Bundles []domain.PluginFiles `json:"bundles"`
	// DeviceUpgrades are those under way.
	DeviceUpgrades []domain.PluginDeviceUpgradeStarted `json:"device_upgrades"`
	Head
}

// PluginVersion is one version of a plugin.
type PluginVersion struct {
	domain.PluginArchive
	State string `json:"state"` // installed, uninstalled
}

var plugins = newNoun("plugin", "plugins", 1, []string{"live INTEGER NOT NULL", "known INTEGER NOT NULL"},
	func(_ string, d *Doc[domain.Plugin]) []any {
		return []any{flag(d.State.Newest() != ""), flag(len(d.State.Versions) > 0)}
	})

func pluginRow(key string, d *Doc[domain.Plugin]) Plugin {
	s := d.State
	p := Plugin{Name: domain.PluginID(key), Current: s.Current, Pinned: s.Pinned != "", Versions: []PluginVersion{}, Bundles: []domain.PluginFiles{},
		DeviceUpgrades: []domain.PluginDeviceUpgradeStarted{}, Head: d.Head}
	for _, a := range s.Versions {
		v := PluginVersion{a, "installed"}
		if s.Gone[a.Version] {
			v.State = "uninstalled"
		}
		p.Versions = append(p.Versions, v)
	}
	slices.SortFunc(p.Versions, func(a, b PluginVersion) int { return domain.CompareVersions(a.Version, b.Version) })
	for _, name := range slices.Sorted(maps.Keys(s.Bundles)) {
		p.Bundles = append(p.Bundles, s.Bundles[name])
	}
	for _, id := range slices.Sorted(maps.Keys(s.DeviceUpgrades)) {
		p.DeviceUpgrades = append(p.DeviceUpgrades, s.DeviceUpgrades[id])
	}
	return p
}

// PluginByName finds a plugin, also one of which nothing is installed any more.
func PluginByName(ctx context.Context, q Querier, name domain.PluginID) (Plugin, bool, error) {
	return one(ctx, q, plugins, pluginRow, "key = ?", string(name))
}

// ListPlugins lists plugins by name; with all, those too of which nothing is installed any more.
func ListPlugins(ctx context.Context, q Querier, all bool, p Page) (Listed[Plugin], error) {
	var c clause
	c.is(present(all))
	return list(ctx, q, plugins, pluginRow, "key", c, p)
}
