package plugins_test

import (
	"archive/tar"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/adapters/plugins"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/tests/wazo"
)

// fileSection describes a file of a package.
func fileSection(id, url string, body []byte, more string) string {
	sum := sha1.Sum(body)
	return fmt.Sprintf("[file_%s]\nurl: %s\nsize: %d\nsha1sum: %s\n%s\n", id, url, len(body), hex.EncodeToString(sum[:]), more)
}

// Every action of a package's procedure does what the reference says; what needs a program or a login is left out, and told.
func TestWazoProcedures(t *testing.T) {
	archive := wazo.Zip(t, map[string]string{"fw/T54.rom": "rom of T54", "fw/readme.txt": "read me", "lang/fr.lang": "bonjour", "top.cfg": "top"})
	signed := append([]byte(strings.Repeat("s", 100)), 0x1f, 0x8b, 'g', 'z')
	files := map[string][]byte{"all.zip": archive, "image.sgn": signed}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(files[path.Base(r.URL.Path)]) }))
	defer server.Close()
	db := fileSection("zip", server.URL+"/all.zip", archive, "") + fileSection("sgn", server.URL+"/image.sgn", signed, "filename: renamed.sgn") +
		fileSection("auth", server.URL+"/all.zip", archive, "downloader: auth") + `
[pkg_fw]
version: 1.0
description: Firmware
description_fr: Micrologiciel
files: zip
install: one T54.rom

[install_one]
a-b: unzip $FILE1
b-c: include fw/$ARG1
c-d: cp fw/$ARG1 firmware/
b-e: exclude fw lang
b-f: cp lang
 langs/
b-g: cp fw/readme.txt notes.txt
b-h: null

[pkg_signed]
version: 2
description: Signed image
files: sgn
depends: fw
install: unsign
[install_unsign]
a-b: unsign $FILE1 image.gz

[pkg_rar]
version: 1
files: zip
install: rar
[install_rar]
a-b: unrar $FILE1
[pkg_auth]
version: 1
files: auth
install: one x
[pkg_loop]
version: 1
files: zip
install: loop
[install_loop]
a-b: unzip $FILE1
c-d: null
d-c: null
[pkg_outside]
version: 1
files: zip
install: outside
[install_outside]
a-b: cp $FILE1 ../../etc/
`
	a, ok := wazo.Plugin(t, "wazo-acme-1", map[string]any{"version": "1.2", "description": "Acme", "capabilities": map[string]any{
		"Acme, A1, 1.0": map[string]any{"lines": 2, "function_keys": 8, "type": "deskphone"}, "Acme, A2, *": map[string]any{"sip.lines": 4}, "nonsense": 1}},
		map[string]string{"pkgs/pkgs.db": db, "var/tftpboot/logo.png": "PNG", "var/tftpboot/a folder/x": "left out"})
	if !ok {
		return
	}
	b := newBench(t)
	b.install(t, commands.InstallPlugin{Archive: a, AllowUnsigned: true})
	var p commands.LoadedPackage
	for _, l := range b.depot.Loaded() {
		if l.Name == "wazo-acme-1" {
			p = l
		}
	}
	if p.Version != "1.2.0" || p.Vendor != "Acme" || !strings.Contains(p.Description, "of no family known here") {
		t.Errorf("installed %+v", p)
	}
	for _, left := range []string{"rar", "auth", "loop", "outside", "a folder/x"} {
		if !strings.Contains(p.Description, left) {
			t.Errorf("that %s was left out is not told: %s", left, p.Description)
		}
	}
	want := []commands.Capability{{Model: "A1", Lines: 2, Keys: 8, Type: "deskphone"}, {Model: "A2", Lines: 4}}
	if diff := cmp.Diff(want, p.Capabilities); diff != "" {
		t.Errorf("capabilities (-want +got):\n%s", diff)
	}
	for bundle, want := range map[string][]string{"fw": {"firmware/T54.rom", "langs/lang/fr.lang", "notes.txt", "top.cfg"},
		"signed": {"firmware/T54.rom", "image.gz", "langs/lang/fr.lang", "notes.txt", "top.cfg"}} {
		got, _, err := b.Service.InstallFiles(t.Context(), commands.InstallFiles{Plugin: "wazo-acme-1", Bundle: bundle}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var paths []string
		for _, f := range got.Files {
			paths = append(paths, f.Path)
		}
		slices.Sort(paths)
		if diff := cmp.Diff(want, paths); diff != "" {
			t.Errorf("bundle %s (-want +got):\n%s", bundle, diff)
		}
	}
	for name, want := range map[string]string{"firmware/T54.rom": "rom of T54", "image.gz": "\x1f\x8bgz", "notes.txt": "read me", "logo.png": "PNG"} {
		if got := b.phoneGets(t, "wazo-acme-1", name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if _, err := b.Service.RemoveFiles(t.Context(), commands.RemoveFiles{Plugin: "wazo-acme-1", Bundle: "signed"}); err != nil {
		t.Fatal(err)
	}
	if got := b.phoneGets(t, "wazo-acme-1", "notes.txt"); got != "read me" {
		t.Errorf("a file of the other package went too: %q", got)
	}
	if got := b.phoneGets(t, "wazo-acme-1", "image.gz"); got != "" {
		t.Errorf("a file taken away is still there: %q", got)
	}
	r, err := b.set.Render(t.Context(), commands.Render{Plugin: commands.PluginRef{Name: "wazo-acme-1"}, MAC: "0015651a2b3c", Model: "A1"})
	if err != nil || len(r.Files) != 0 {
		t.Errorf("a plugin of no family makes %v, %v", r.Files, err)
	}
	// What a sum does not confirm is not kept.
	files["image.sgn"] = []byte("something else")
	c := newBench(t)
	c.install(t, commands.InstallPlugin{Archive: a, AllowUnsigned: true})
	if _, _, err := c.Service.InstallFiles(t.Context(), commands.InstallFiles{Plugin: "wazo-acme-1", Bundle: "signed"}, nil); !errors.Is(err, commands.ErrPackageRefused) {
		t.Errorf("a file of another sum: %v", err)
	}
}

// phoneGets is the file a plugin's phones find under a path; "" for none.
func (b *bench) phoneGets(t testing.TB, plugin, name string) string {
	t.Helper()
	_, f, ok := b.depot.File(plugin, name)
	if !ok {
		return ""
	}
	r, err := b.depot.Open(f.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text := make([]byte, f.Size)
	if _, err := r.Read(text); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A plugin of a family we have makes the same files as ours, under its own name; its own models are known.
func TestWazoPluginOfAFamily(t *testing.T) {
	a, ok := wazo.Plugin(t, "wazo-yealink-v86", map[string]any{"version": "3.1.4", "description": "Yealink", "capabilities": map[string]any{
		"Yealink, T54W, 96.86.0.75": map[string]any{"lines": 16}, "Yealink, T99X, 1": map[string]any{"lines": 3}}}, map[string]string{"var/tftpboot/ringtone.wav": "RIFF"})
	if !ok {
		return
	}
	b := newBench(t)
	if _, _, err := b.Service.InstallPlugin(t.Context(), commands.InstallPlugin{Archive: a}, nil); !errors.Is(err, commands.ErrPackageRefused) {
		t.Errorf("unsigned, and nobody asked for that: %v", err)
	}
	b.install(t, commands.InstallPlugin{Archive: a, AllowUnsigned: true})
	render := func(plugin, model string) commands.Rendered {
		t.Helper()
		r, err := b.set.Render(t.Context(), commands.Render{Plugin: commands.PluginRef{Name: plugin}, MAC: "0015651a2b3c", Model: model, BaseURL: "http://192.0.2.1/",
			Settings: domain.Settings{"sip_lines": map[string]any{"1": map[string]any{"username": "101", "password": "p", "proxy_ip": "10.0.0.1"}}}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if diff := cmp.Diff(render("yealink", "T54W").Files, render("wazo-yealink-v86", "T54W").Files); diff != "" {
		t.Errorf("other files than ours:\n%s", diff)
	}
	if len(render("wazo-yealink-v86", "T99X").Files) == 0 {
		t.Error("a model only theirs knows gets no file")
	}
	if b.phoneGets(t, "wazo-yealink-v86", "ringtone.wav") != "RIFF" || b.phoneGets(t, "yealink", "ringtone.wav") != "" {
		t.Error("a static file is for the plugin's phones alone")
	}
}

// Every name of wazo-provd's stable set that has a family here finds it.
func TestFamilies(t *testing.T) {
	var ours []string
	for _, p := range newBench(t).set.Offered() {
		ours = append(ours, p.Name)
	}
	for name, want := range map[string]string{"wazo-yealink-v86": "yealink", "xivo-aastra-3.3.1-SP4": "aastra-mitel", "wazo-digium-1.4": "digium-sangoma", "xivo-technicolor-ST2030": "technicolor-thomson",
		"xivo-cisco-spa3102-5.1.10": "cisco-spa", "xivo-cisco-sccp-legacy": "cisco-sccp", "wazo-polycom-5.9": "polycom", "wazo-snom-10.1": "snom", "wazo-fanvil-56": "fanvil",
		"wazo-gigaset-N720": "gigaset", "xivo-panasonic-KX": "panasonic", "xivo-patton-SN4112": "patton", "wazo-htek-2.6": "htek", "wazo-avaya-9600": "avaya", "xivo-linksys-spa942": "cisco-spa",
		"wazo-alcatel-myriad": "alcatel-lucent", "xivo-nobody-1": ""} {
		if got := plugins.Family(name, ours); got != want {
			t.Errorf("%s is of family %q, want %q", name, got, want)
		}
	}
}

// What leads elsewhere, unpacks to too much or is no plugin is refused whole.
func TestWazoAttacks(t *testing.T) {
	b := newBench(t)
	begun := len(b.Log.Events())
	info := wazo.Entry{Name: "p/plugin-info", Body: `{"version": "1.0"}`}
	for name, entries := range map[string][]wazo.Entry{
		"traversal":          {info, {Name: "p/var/tftpboot/../../../evil", Body: "x"}},
		"absolute":           {info, {Name: "/etc/cron.d/evil", Body: "x"}},
		"above":              {info, {Name: "../evil", Body: "x"}},
		"symbolic link":      {info, {Name: "p/var/tftpboot/link", Type: tar.TypeSymlink, Link: "/etc/passwd"}},
		"hard link":          {info, {Name: "p/var/tftpboot/link", Type: tar.TypeLink, Link: "p/plugin-info"}},
		"device":             {info, {Name: "p/var/tftpboot/null", Type: tar.TypeChar}},
		"two folders":        {info, {Name: "q/plugin-info", Body: "{}"}},
		"bomb":               {info, {Name: "p/var/tftpboot/zeros", Body: strings.Repeat("\x00", 8<<20)}},
		"no plugin-info":     {{Name: "p/entry.py", Body: "x"}},
		"no JSON":            {{Name: "p/plugin-info", Body: "version: 1"}},
		"an odd version":     {{Name: "p/plugin-info", Body: `{"version": "one"}`}},
		"an id that is none": {{Name: "-p$/plugin-info", Body: `{"version": "1.0"}`}},
		"nothing":            {},
	} {
		a, ok := wazo.Archive(t, entries...)
		if !ok {
			return
		}
		if _, _, err := b.Service.InstallPlugin(t.Context(), commands.InstallPlugin{Archive: a, AllowUnsigned: true}, nil); !errors.Is(err, commands.ErrPackageRefused) {
			t.Errorf("%s: %v, want ErrPackageRefused", name, err)
		}
		if n := len(b.Log.Events()); n != begun {
			t.Errorf("%s: %d events", name, n-begun)
		}
	}
	for _, damaged := range [][]byte{[]byte("BZh9"), []byte("BZh91AY&SYnothing")} {
		if _, _, err := b.Service.InstallPlugin(t.Context(), commands.InstallPlugin{Archive: damaged, AllowUnsigned: true}, nil); !errors.Is(err, commands.ErrPackageRefused) {
			t.Errorf("damaged: %v", err)
		}
	}
}
