package plugins

import (
	"archive/tar"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"crypto/sha1"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"ledgerline/commands"
	"ledgerline/domain"
)

// Plugins of wazo-provd (wazo-provd.md §4) are code and data in one archive, <id>-<version>.tar.bz2. Read is what is data:
// plugin-info, the capabilities in it, the package definitions pkgs/*.db and the static files below var/tftpboot. It becomes a
// package of ours of the same id, whose rules and templates are those of our own plugin of the family; with no such family it
// has none, and serves its static files and what its packages unpack to. Their code and templates are never looked at.

// isWazo tells a bzip2 archive, which only wazo-provd's plugins are.
func isWazo(archive []byte) bool { return bytes.HasPrefix(archive, []byte("BZh")) }

// wazoPlugin is one archive as read.
type wazoPlugin struct {
	id       string
	info     wazoInfo
	packages map[string]string // pkgs/*.db by name
	static   map[string][]byte // by path below var/tftpboot
	notes    []string          // what was left out
}

// wazoInfo is plugin-info, or an entry of plugins.db.
type wazoInfo struct {
	Filename     string                     `json:"filename"`
	Version      string                     `json:"version"`
	Description  string                     `json:"description"`
	Size         int64                      `json:"dsize"`
	SHA1         string                     `json:"sha1sum"`
	Capabilities map[string]json.RawMessage `json:"capabilities"`
}

// staticDir is where a package of ours keeps files that phones fetch as they are.
const staticDir = "static/"

// readWazo unpacks an archive, within the limits of our own, and refuses it whole for a name or an entry that leads elsewhere.
func readWazo(archive []byte) (wazoPlugin, error) {
	w := wazoPlugin{packages: map[string]string{}, static: map[string][]byte{}}
	if len(archive) > MaxArchive {
		return w, refused("larger than %d bytes", MaxArchive)
	}
	limit := min(int64(maxUnpacked), max(ratioFree, maxRatio*int64(len(archive))))
	limited := &io.LimitedReader{R: bzip2.NewReader(bytes.NewReader(archive)), N: limit + 1}
	t := tar.NewReader(limited)
	var info []byte
	for n := 0; ; n++ {
		h, err := t.Next()
		if err == io.EOF && limited.N > 0 {
			break
		}
		switch {
		case limited.N <= 0:
			return w, refused("it unpacks to more than %d bytes", limit)
		case err != nil:
			return w, refused("damaged: %v", err)
		case n > maxFiles:
			return w, refused("more than %d files", maxFiles)
		case h.Typeflag == tar.TypeDir:
			continue
		case h.Typeflag != tar.TypeReg:
			return w, refused("%q is neither a file nor a folder", h.Name)
		}
		name := strings.TrimPrefix(h.Name, "./")
		top, below, _ := strings.Cut(name, "/")
		if !fs.ValidPath(name) || below == "" || w.id != "" && top != w.id {
			return w, refused("%q is not below one folder named as the plugin", h.Name)
		}
		w.id = top
		keep, isStatic := strings.CutPrefix(below, "var/tftpboot/")
		pkgs, _ := path.Match("pkgs/*.db", below)
		if !isStatic && !pkgs && below != "plugin-info" {
			continue
		}
		b, err := io.ReadAll(t)
		if err != nil {
			return w, refused("damaged: %v", err)
		}
		switch {
		case pkgs:
			w.packages[below] = string(b)
		case !isStatic:
			info = b
		case packable(staticDir + keep):
			w.static[keep] = b
		default:
			w.notes = append(w.notes, fmt.Sprintf("file %q", keep))
		}
	}
	if domain.CheckID(w.id) != nil || json.Unmarshal(info, &w.info) != nil {
		return w, refused("it holds no plugin-info, or its name is no id")
	}
	var err error
	w.info.Version, err = wazoVersion(w.info.Version)
	return w, err
}

// wazoVersion is a version in our form, three numbers: "1.2" is 1.2.0.
func wazoVersion(v string) (string, error) {
	parts := strings.Split(v, ".")
	for len(parts) < 3 {
		parts = append(parts, "0")
	}
	if clean := strings.Join(parts, "."); isVersion(clean) {
		return clean, nil
	}
	return "", refused("version %.40q is not one to three numbers", v)
}

// capabilities are what the models can do, as far as the text tells: "Vendor, Model, version".
func (i wazoInfo) capabilities() (vendor string, out []commands.Capability) {
	for _, key := range slices.Sorted(maps.Keys(i.Capabilities)) {
		parts := strings.Split(key, ",")
		if len(parts) != 3 {
			continue
		}
		var can struct {
			Lines        int    `json:"lines"`
			OldLines     int    `json:"sip.lines"`
			FunctionKeys int    `json:"function_keys"`
			ExpModules   int    `json:"expansion_modules"`
			Type         string `json:"type"`
		}
		if json.Unmarshal(i.Capabilities[key], &can) != nil {
			continue
		}
		model := strings.TrimSpace(parts[1])
		if vendor == "" {
			vendor = strings.TrimSpace(parts[0])
		}
		if model == "" || model == "*" || slices.ContainsFunc(out, func(c commands.Capability) bool { return c.Model == model }) {
			continue
		}
		within := func(n int) int { return max(0, min(n, 4096)) }
		out = append(out, commands.Capability{Model: model, Lines: within(max(can.Lines, can.OldLines)), Keys: within(can.FunctionKeys), ExpModules: within(can.ExpModules), Type: can.Type})
	}
	return vendor, out
}

// families are words in the names of wazo-provd's plugins ("xivo-linksys-spa3102") that stand for a family of ours whose name
// is not in them.
var families = [][2]string{{"aastra", "aastra-mitel"}, {"mitel", "aastra-mitel"}, {"digium", "digium-sangoma"}, {"sangoma", "digium-sangoma"},
	{"technicolor", "technicolor-thomson"}, {"thomson", "technicolor-thomson"}, {"linksys", "cisco-spa"}, {"alcatel", "alcatel-lucent"},
	{"cisco-3102", "cisco-spa"}, {"cisco-7", "cisco-sccp"}, {"yeastar", "yeastar-ta"}}

// Family is the plugin of installed that serves the phones of wazo-provd's plugin name; "" for none.
func Family(name string, installed []string) string {
	name = strings.ToLower(name)
	best := ""
	for _, id := range installed {
		if strings.Contains(name, id) && len(id) > len(best) {
			best = id
		}
	}
	for _, f := range families {
		if best == "" && strings.Contains(name, f[0]) && slices.Contains(installed, f[1]) {
			best = f[1]
		}
	}
	return best
}

// fromWazo makes a package of ours of an archive of wazo-provd's: unsigned, packed.
func fromWazo(archive []byte) ([]byte, error) {
	w, err := readWazo(archive)
	if err != nil {
		return nil, err
	}
	ours := map[string][]byte{}
	dirs, err := fs.Glob(Builtin(), "*")
	if err != nil {
		return nil, err
	}
	m, f := Manifest{}, Firmware{}
	family := Family(w.id, dirs)
	vendor, can := w.info.capabilities()
	table := "model,aliases,accounts,keys,exp_modules,type\n*,,1,0,0,\n"
	if family != "" {
		sub, err := fs.Sub(Builtin(), family)
		if err != nil {
			return nil, err
		}
		if err := readYAML(sub, "plugin.yaml", &m); err != nil {
			return nil, err
		}
		if err := readYAML(sub, "firmware.yaml", &f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, pattern := range []string{"*.tmpl", "models.csv"} {
			names, err := fs.Glob(sub, pattern)
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				if ours[name], err = readFile(sub, name); err != nil {
					return nil, err
				}
			}
		}
		table = string(ours["models.csv"])
	} else {
		m.Vendor = vendor
		if m.Vendor == "" {
			m.Vendor = w.id
		}
	}
	bundles, notes := w.bundles()
	f.Bundles = append(bundles, slices.DeleteFunc(f.Bundles, func(b Bundle) bool {
		return slices.ContainsFunc(bundles, func(n Bundle) bool { return n.ID == b.ID })
	})...)
	m.Name, m.Version = w.id, w.info.Version
	m.Description = strings.TrimSpace(strings.Join(strings.Fields(w.info.Description), " "))
	if family != "" {
		m.Description += " (wazo-provd's packages and files; configuration by the rules of " + family + ")"
	} else {
		m.Description += " (of no family known here: packages and files only, no configuration is made)"
	}
	if notes = append(w.notes, notes...); len(notes) > 0 {
		m.Description += "; left out: " + strings.Join(notes[:min(len(notes), 20)], ", ")
	}
	if ours["models.csv"], err = withModels(table, can); err != nil {
		return nil, err
	}
	for name, v := range map[string]any{"plugin.yaml": m, "firmware.yaml": f} {
		if ours[name], err = yaml.Marshal(v); err != nil {
			return nil, err
		}
	}
	for name, b := range w.static {
		ours[staticDir+name] = b
	}
	return packContents(ours, m.Name, m.Version, gzip.NoCompression)
}

// withModels adds the models a table does not know, in its columns; what it says of unknown models counts for the others.
func withModels(table string, can []commands.Capability) ([]byte, error) {
	r := csv.NewReader(strings.NewReader(table))
	r.Comment, r.TrimLeadingSpace = '#', true
	rows, err := r.ReadAll()
	if err != nil {
		return nil, err
	}
	known, unknown := map[string]bool{}, rows[0]
	fold := func(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), "")) }
	for _, row := range rows[1:] {
		m, err := readModel(rows[0], row)
		if err != nil {
			return nil, err
		}
		if m.Name == "*" {
			unknown = row
		}
		for _, n := range append(m.Aliases, m.Name) {
			known[fold(n)] = true
		}
	}
	for _, c := range can {
		if known[fold(c.Model)] || strings.HasPrefix(c.Model, "#") {
			continue
		}
		known[fold(c.Model)] = true
		values := map[string]string{"model": c.Model, "aliases": "", "accounts": strconv.Itoa(c.Lines), "keys": strconv.Itoa(c.Keys), "exp_modules": strconv.Itoa(c.ExpModules), "type": c.Type}
		row := slices.Clone(unknown)
		for i, col := range rows[0] {
			if v, ok := values[col]; ok {
				row[i] = v
			}
		}
		rows = append(rows, row)
	}
	var b bytes.Buffer
	out := csv.NewWriter(&b)
	err = out.WriteAll(rows)
	return b.Bytes(), err
}

// bundles are the packages of the definitions, as far as they can be carried out here; notes tell of the others.
func (w wazoPlugin) bundles() (out []Bundle, notes []string) {
	sections := map[string]map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(w.packages)) {
		readINI(w.packages[name], sections)
	}
	for _, name := range slices.Sorted(maps.Keys(sections)) {
		id, is := strings.CutPrefix(name, "pkg_")
		if !is {
			continue
		}
		b, err := wazoBundle(id, sections, map[string]bool{})
		if err != nil {
			notes = append(notes, fmt.Sprintf("package %s (%v)", id, err))
			continue
		}
		out = append(out, b)
	}
	return out, notes
}

// readINI reads sections of keys, as Python's ConfigParser does: "key: value" or "key = value", continued by indented lines.
func readINI(text string, into map[string]map[string]string) {
	var section map[string]string
	last := ""
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "" || trimmed[0] == '#' || trimmed[0] == ';':
		case strings.HasPrefix(trimmed, "[") && strings.HasSuffix(trimmed, "]"):
			name := trimmed[1 : len(trimmed)-1]
			if section = into[name]; section == nil {
				section = map[string]string{}
				into[name] = section
			}
			last = ""
		case section == nil:
		case line[0] == ' ' || line[0] == '\t':
			if last != "" {
				section[last] += " " + trimmed
			}
		default:
			if i := strings.IndexAny(trimmed, ":="); i > 0 {
				last = strings.ToLower(strings.TrimSpace(trimmed[:i]))
				section[last] = strings.TrimSpace(trimmed[i+1:])
			}
		}
	}
}

// wazoBundle makes a bundle of one package and of those it depends on.
func wazoBundle(id string, sections map[string]map[string]string, under map[string]bool) (Bundle, error) {
	p := sections["pkg_"+id]
	b := Bundle{ID: id, Kind: wazoKind(id), Release: p["version"], Description: p["description"]}
	if p == nil || under[id] {
		return b, fmt.Errorf("depends on %s, which is not there", id)
	}
	if domain.CheckID(id) != nil {
		return b, domain.ErrBadID
	}
	var names []string
	for _, file := range strings.Fields(p["files"]) {
		f := sections["file_"+file]
		if d := f["downloader"]; d != "" && d != "default" {
			return b, errors.New("needs a login at its vendor")
		}
		name := f["filename"]
		if name == "" {
			name = path.Base(f["url"])
		}
		if !packable(name) || strings.Contains(name, "/") {
			return b, fmt.Errorf("file name %.40q", name)
		}
		size, err := strconv.ParseInt(f["size"], 10, 64)
		if err != nil || size < 0 {
			return b, fmt.Errorf("size of %s", file)
		}
		got := BundleFile{URL: f["url"], SHA1: strings.ToLower(f["sha1sum"]), Size: size, Name: name}
		if err := got.check(); err != nil {
			return b, err
		}
		names, b.Files = append(names, name), append(b.Files, got)
	}
	if len(names) == 0 {
		return b, errors.New("has no files")
	}
	call := strings.Fields(p["install"])
	if len(call) == 0 {
		return b, errors.New("has no procedure")
	}
	procedure := sections["install_"+call[0]]
	for _, edge := range slices.Sorted(maps.Keys(procedure)) {
		from, to, _ := strings.Cut(edge, "-")
		words := strings.Fields(procedure[edge])
		if len(words) == 0 {
			return b, errors.New("procedure " + call[0])
		}
		for i, word := range words {
			words[i] = substitute(word, names, call[1:])
		}
		b.Steps = append(b.Steps, Step{From: from, To: to, Do: words[0], Args: words[1:]})
	}
	if err := checkSteps(b.Steps); err != nil {
		return b, err
	}
	under = maps.Clone(under)
	under[id] = true
	for _, other := range strings.Fields(p["depends"]) {
		if _, err := wazoBundle(other, sections, under); err != nil {
			return b, err
		}
		b.Depends = append(b.Depends, other)
	}
	return b, nil
}

func wazoKind(id string) string {
	id = strings.ToLower(id)
	for _, k := range [][2]string{{"fw", "firmware"}, {"firmware", "firmware"}, {"lang", "language"}, {"dict", "dictionary"}} {
		if strings.Contains(id, k[0]) {
			return k[1]
		}
	}
	return "other"
}

// substitute puts $FILE1 … and $ARG1 … in a word.
func substitute(word string, files, args []string) string {
	for _, of := range []struct {
		name   string
		values []string
	}{{"$FILE", files}, {"$ARG", args}} {
		for n := len(of.values); n > 0; n-- {
			word = strings.ReplaceAll(word, of.name+strconv.Itoa(n), of.values[n-1])
		}
	}
	return word
}

// parseWazoIndex reads plugins.db.
func parseWazoIndex(entries map[string]wazoInfo) (index, error) {
	var x index
	for _, id := range slices.Sorted(maps.Keys(entries)) {
		e := entries[id]
		version, err := wazoVersion(e.Version)
		sum, sumErr := hex.DecodeString(e.SHA1)
		if err != nil || sumErr != nil || len(sum) != sha1.Size || domain.CheckID(id) != nil || !packable(e.Filename) || e.Size < 0 {
			continue // one entry that means nothing does not take the others away
		}
		vendor, can := e.capabilities()
		x.Packages = append(x.Packages, indexed{PackageOffer: commands.PackageOffer{Name: id, Version: version, Vendor: vendor, Description: e.Description, Size: e.Size,
			Capabilities: can}, File: e.Filename, SHA1: strings.ToLower(e.SHA1)})
	}
	if len(x.Packages) == 0 && len(entries) > 0 {
		return x, refused("the index names no plugin that could be fetched")
	}
	return x, nil
}
