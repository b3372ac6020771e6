package plugins

import (
	"encoding/hex"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"

	"ledgerline/adapters/plugins/wire"
	"ledgerline/domain"
)

// Firmware is firmware.yaml: what files the vendor has for its phones beside their configuration, and under which names
// phones ask for them. It names files, it holds none.
type Firmware struct {
	Targets []Target `yaml:"targets"`
	Bundles []Bundle `yaml:"bundles"`
}

// Target says where phones find the file of a kind: of several the first whose Models fit. With one of kind firmware, the
// setting firmware_release becomes firmware_url wherever templates ask for that.
type Target struct {
	Kind   string   `yaml:"kind"`   // firmware, language, dictionary, other
	Models []string `yaml:"models"` // names or aliases of models.csv; empty for all
	// Path is the file's name with the macros of FileRow.Path and {release}: "{model}-{release}.rom". Of a language file
	// {release} is the language's name with the vendor.
	Path string `yaml:"path"`
}

// Bundle is a set of files that are fetched and taken away together.
type Bundle struct {
	ID          string       `yaml:"id"` // "t46s-66.86.0.15"; a domain id
	Kind        string       `yaml:"kind"`
	Release     string       `yaml:"release"`
	Description string       `yaml:"description"`
	Models      []string     `yaml:"models"`
	Files       []BundleFile `yaml:"files"`
	// Steps, where there are some, say what becomes of the files by their Name; Path, Unpack and Pick do not count then.
	Steps []Step `yaml:"steps,omitempty"`
	// Depends are other bundles whose files belong to this one too.
	Depends []string `yaml:"depends,omitempty"`
}

// BundleFile is one file to fetch.
type BundleFile struct {
	URL    string `yaml:"url"` // http or https
	SHA256 string `yaml:"sha256"`
	// SHA1 is for packages of wazo-provd, which tell no other; one of the two sums must be there.
	SHA1 string `yaml:"sha1,omitempty"`
	Size int64  `yaml:"size"` // bytes
	Name string `yaml:"name,omitempty"`
	// Path is where phones find it: a name, or a folder with a slash behind when the file is unpacked. Empty: as Targets say.
	Path string `yaml:"path"`
	// Unpack is zip, tar or tar.gz for an archive; Pick are the names within it that count (patterns of path.Match, on the
	// last part of the name too), all of them when empty.
	Unpack string   `yaml:"unpack"`
	Pick   []string `yaml:"pick"`
}

var (
	fileKinds = []string{"firmware", "language", "dictionary", "other"}
	unpackers = []string{"", "zip", "tar", "tar.gz"}
)

func (p *Package) checkFirmware() error {
	for i, t := range p.Firmware.Targets {
		if !slices.Contains(fileKinds, t.Kind) || !fs.ValidPath(t.Path) {
			return bad("firmware.yaml: targets[%d] must have a kind (%s) and a path", i, strings.Join(fileKinds, ", "))
		}
		if name, ok := p.knowsAll(t.Models); !ok {
			return bad("firmware.yaml: targets[%d] names model %s, which models.csv does not", i, name)
		}
	}
	seen := map[string]bool{}
	for i, b := range p.Firmware.Bundles {
		switch {
		case domain.CheckID(b.ID) != nil, seen[b.ID]:
			return bad("firmware.yaml: bundles[%d]: id %q must be unique, and %v", i, b.ID, domain.ErrBadID)
		case !slices.Contains(fileKinds, b.Kind):
			return bad("firmware.yaml: %s: kind must be one of %s", b.ID, strings.Join(fileKinds, ", "))
		case len(b.Files) == 0:
			return bad("firmware.yaml: %s has no files", b.ID)
		}
		seen[b.ID] = true
		if name, ok := p.knowsAll(b.Models); !ok {
			return bad("firmware.yaml: %s names model %s, which models.csv does not", b.ID, name)
		}
		for _, f := range b.Files {
			if err := f.check(); err != nil {
				return bad("firmware.yaml: %s: %v", b.ID, err)
			}
			if len(b.Steps) > 0 && !packable(f.Name) {
				return bad("firmware.yaml: %s: with steps every file must have a name", b.ID)
			}
		}
		if len(b.Steps) > 0 {
			if err := checkSteps(b.Steps); err != nil {
				return bad("firmware.yaml: %s: %v", b.ID, err)
			}
		}
		for _, other := range b.Depends {
			if other == b.ID || !slices.ContainsFunc(p.Firmware.Bundles, func(o Bundle) bool { return o.ID == other }) {
				return bad("firmware.yaml: %s depends on %q, which is not there", b.ID, other)
			}
		}
	}
	return nil
}

func (f BundleFile) check() error {
	u, err := url.Parse(f.URL)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return bad("%q is no http or https URL", f.URL)
	case !isSum(f.SHA256, 32) && (f.SHA256 != "" || !isSum(f.SHA1, 20)):
		return bad("sha256 of %s must be 64 lower-case hex digits", f.URL)
	case f.Path != "" && !fs.ValidPath(strings.TrimSuffix(f.Path, "/")):
		return bad("%q is no path", f.Path)
	case !slices.Contains(unpackers, f.Unpack):
		return bad("unpack must be zip, tar or tar.gz")
	}
	for _, pattern := range f.Pick {
		if _, err := path.Match(pattern, ""); err != nil {
			return bad("pick %q: %v", pattern, err)
		}
	}
	return nil
}

func isSum(s string, size int) bool {
	sum, err := hex.DecodeString(s)
	return err == nil && len(sum) == size && strings.ToLower(s) == s
}

func (p *Package) knowsAll(models []string) (unknown string, ok bool) {
	for _, m := range models {
		if p.models[p.fold(m)] == nil {
			return m, false
		}
	}
	return "", true
}

// target is where the phones of a model find the release of a kind; "" when the package has no rule.
func (p *Package) target(kind string, model Model, release string) string {
	for _, t := range p.Firmware.Targets {
		if t.Kind != kind || len(t.Models) > 0 && !slices.ContainsFunc(t.Models, func(m string) bool { return p.fold(m) == p.fold(model.Name) || p.models[p.fold(m)].Name == model.Name }) {
			continue
		}
		v := &view{Name: model.Name, model: model, pkg: p}
		return v.expand(strings.ReplaceAll(t.Path, "{release}", strings.ReplaceAll(wire.FileName(release), "/", "_")))
	}
	return ""
}

// setFirmware makes the release wished for the URL templates ask for.
func (v *view) setFirmware() {
	release := textOf(v.settings["firmware_release"])
	if release == "" || textOf(v.settings["firmware_url"]) != "" {
		return
	}
	if name := v.pkg.target("firmware", v.model, release); name != "" {
		v.settings["firmware_url"], v.released = v.BaseURL+name, true
	}
}
