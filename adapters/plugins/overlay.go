package plugins

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"ledgerline/adapters/plugins/wire"
	"ledgerline/commands"
)

// overlayKey is the free setting with an administrator's own parameters: by plugin ("yealink") or plugin and model
// ("yealink/T46S"), then by parameter as the vendor names it. Being a free setting, it is sealed, and may hold secrets.
const overlayKey = "X_parameters"

// maxOverlay bounds the parameters of one phone, for each is a walk through its files.
const maxOverlay = 500

// parameters are those an administrator set for this phone, by name.
func (v *view) parameters() map[string]string {
	out := map[string]string{}
	all := v.object(overlayKey)
	add := func(set any) {
		m, _ := set.(map[string]any)
		for k, value := range m {
			out[k] = textOf(value)
		}
	}
	add(all[v.pkg.Name])
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if plugin, model, ok := strings.Cut(name, "/"); ok && plugin == v.pkg.Name && model != "" {
			if m, known := v.pkg.Model(model); known && v.known && m.Name == v.model.Name {
				add(all[name])
			}
		}
	}
	return out
}

// overlay writes an administrator's own parameters into the files, after the templates, by the formats' writers. One that a
// file has is changed there; one that none has is added to the phone's own file, with a warning, for it may be misspelt.
func (v *view) overlay(veiled *view, rows []FileRow, files []commands.File) {
	if v.Guest {
		return
	}
	wanted, hidden := v.parameters(), veiled.parameters()
	names := slices.Sorted(maps.Keys(wanted))
	if len(names) > maxOverlay {
		v.warn(overlayKey, fmt.Sprintf("more than %d parameters; those behind %s are left out", maxOverlay, names[maxOverlay-1]))
		names = names[:maxOverlay]
	}
	for _, name := range names {
		at, had := -1, false
		for i := range files {
			if had = rows[i].Role != "boot" && wire.Has(rows[i].Format, files[i].Data, name); had {
				at = i
				break
			}
			if at < 0 && rows[i].Role == "device" {
				at = i
			}
		}
		if at < 0 {
			v.warn(overlayKey, fmt.Sprintf("the %s has no file of its own for the parameter %s; it is left out", v.title(), name))
			continue
		}
		data, _, err := wire.Set(rows[at].Format, files[at].Data, name, wanted[name])
		var skeleton []byte
		if err == nil {
			skeleton, _, err = wire.Set(rows[at].Format, files[at].Skeleton, name, hidden[name])
		}
		switch {
		case errors.Is(err, wire.ErrNoSet):
			v.warn(overlayKey, fmt.Sprintf("files of format %s take no own parameters; %s is left out", rows[at].Format, name))
			continue
		case err != nil:
			v.warn(overlayKey, fmt.Sprintf("the parameter %q is no name this file can have; it is left out", name))
			continue
		case len(data) > maxOutput:
			v.warn(overlayKey, fmt.Sprintf("the file is full; the parameter %s is left out", name))
			continue
		case !had:
			v.warn(overlayKey, fmt.Sprintf("no file of the %s has a parameter %s; it is added to %s", v.title(), name, files[at].Path))
		}
		files[at].Data, files[at].Skeleton = data, skeleton
	}
}
