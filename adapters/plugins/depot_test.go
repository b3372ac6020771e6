package plugins_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"ledgerline/adapters/plugins"
	"ledgerline/commands"
	"ledgerline/commands/commandstest"
	"ledgerline/domain"
)

// nokia is a small package at a version; change alters its files.
func nokia(version string, change ...func(fstest.MapFS)) fstest.MapFS {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	m := fstest.MapFS{
		"plugin.yaml": file("name: nokia\nversion: " + version + "\nvendor: Nokia\nfiles:\n- {path: '{mac}.cfg', template: device.tmpl, content_type: text/plain, format: yealink, role: device}\n" +
			"- {path: '{mac}.cfg', template: guest.tmpl, content_type: text/plain, format: yealink, role: guest}\nrecognize:\n- {user_agent: '^Nokia (?P<model>\\S+) (?P<mac>[0-9a-f]{12})'}\n- {path: '^(?P<mac>[0-9a-f]{12})\\.cfg$'}\n"),
		"models.csv":  file("model,accounts,keys\nN95,1,0\n*,1,0\n"),
		"device.tmpl": file("#!version:1.0.0.1\nmade.by = " + version + "\nfirmware.url = {{get \"firmware_url\"}}\n{{range .Lines}}user = {{.Get \"username\"}}\n{{end}}"),
		"guest.tmpl":  file("#!version:1.0.0.1\nguest.by = " + version + "\n"),
	}
	for _, c := range change {
		c(m)
	}
	return m
}

func packed(t testing.TB, fsys fs.FS) []byte {
	t.Helper()
	b, err := plugins.Pack(fsys, ".")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// bench is a depot over commands and fakes.
type bench struct {
	*commandstest.Kit
	set   *plugins.Set
	depot *plugins.Depot
	dir   string
	key   string // signs
}

func newBench(t testing.TB, change ...func(*plugins.Options)) *bench {
	t.Helper()
	signing, verifier, err := plugins.KeyGen(rand.Reader, "test.example")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := plugins.ParseKeys("# whom we trust\n\n" + verifier + "\n")
	if err != nil {
		t.Fatal(err)
	}
	set, err := plugins.Load(plugins.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{Kit: commandstest.NewService(t), set: set, dir: t.TempDir(), key: signing}
	o := plugins.Options{Dir: b.dir, Set: set, Keys: keys, Archive: b.Service.PluginArchive, History: b.Service.Plugin, TrustedHosts: []string{"127.0.0.1"}}
	for _, c := range change {
		c(&o)
	}
	if b.depot, err = plugins.NewDepot(o); err != nil {
		t.Fatal(err)
	}
	b.Service.Packages, b.Service.Renderer, b.Service.Recognizer = b.depot, set, set
	return b
}

func (b *bench) signed(t testing.TB, fsys fs.FS) []byte {
	t.Helper()
	out, err := plugins.Sign(packed(t, fsys), b.key)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (b *bench) install(t testing.TB, in commands.InstallPlugin) {
	t.Helper()
	if _, _, err := b.Service.InstallPlugin(t.Context(), in, nil); err != nil {
		t.Fatal(err)
	}
}

// made is the version that makes a phone's files.
func (b *bench) made(t testing.TB, ref commands.PluginRef) string {
	t.Helper()
	r, err := b.set.Render(t.Context(), commands.Render{Plugin: ref, Model: "N95", MAC: "0015651a2b3c", Settings: domain.Settings{}})
	if err != nil {
		t.Fatal(err)
	}
	return r.Plugin.Version
}

// Versions stand side by side: the first is what new phones get, a later one is on offer until the upgrade, none ever goes
// from those who name it.
func TestVersionsSideBySide(t *testing.T) {
	b := newBench(t)
	asked := commands.Asked{UserAgent: "Nokia N95 0015651a2b3c"}
	if _, ok := b.set.Recognize(asked); ok {
		t.Fatal("recognised before it is there")
	}
	b.install(t, commands.InstallPlugin{Archive: b.signed(t, nokia("1.0.0"))})
	if r, ok := b.set.Recognize(asked); !ok || r.Plugin != "nokia" {
		t.Fatalf("recognised: %+v %v", r, ok)
	}
	b.install(t, commands.InstallPlugin{Archive: b.signed(t, nokia("1.10.0"))})
	b.install(t, commands.InstallPlugin{Archive: b.signed(t, nokia("1.2.0"))})
	want := func(what, current string) {
		t.Helper()
		if got := b.made(t, commands.PluginRef{Name: "nokia"}); got != current {
			t.Errorf("%s: new phones get %s, want %s", what, got, current)
		}
		if ref, ok := b.set.Associate(commands.Recognition{Vendor: "Nokia", Model: "N95"}); !ok || ref.Version != current {
			t.Errorf("%s: associated with %+v", what, ref)
		}
		for _, v := range []string{"1.0.0", "1.2.0", "1.10.0"} {
			if got := b.made(t, commands.PluginRef{Name: "nokia", Version: v}); got != v {
				t.Errorf("%s: %s renders as %s", what, v, got)
			}
		}
	}
	want("installed", "1.0.0")
	b.install(t, commands.InstallPlugin{Name: "nokia", Upgrade: true})
	want("upgraded", "1.10.0")
	if _, _, err := b.Service.InstallPlugin(t.Context(), commands.InstallPlugin{Name: "nokia", Upgrade: true}, nil); !errors.Is(err, domain.ErrPluginNewest) {
		t.Errorf("upgraded twice: %v", err)
	}
	if _, err := b.Service.PinPlugin(t.Context(), commands.PinPlugin{Name: "nokia", Version: "1.2.0"}); err != nil {
		t.Fatal(err)
	}
	want("pinned", "1.2.0")
	if _, _, err := b.Service.InstallPlugin(t.Context(), commands.InstallPlugin{Name: "nokia", Upgrade: true}, nil); !errors.Is(err, domain.ErrPluginPinned) {
		t.Errorf("upgraded while pinned: %v", err)
	}
	for _, v := range []string{"1.2.0", "1.10.0"} {
		if _, err := b.Service.UninstallPlugin(t.Context(), commands.UninstallPlugin{Name: "nokia", Version: v}); err != nil {
			t.Fatal(err)
		}
	}
	want("uninstalled", "1.0.0")
	if _, err := b.Service.UninstallPlugin(t.Context(), commands.UninstallPlugin{Name: "nokia"}); err != nil {
		t.Fatal(err)
	}
	if r, ok := b.set.Recognize(asked); ok {
		t.Errorf("recognised when all is gone: %+v", r)
	}
	if got := b.made(t, commands.PluginRef{Name: "nokia", Version: "1.2.0"}); got != "1.2.0" {
		t.Errorf("history renders with %s", got)
	}
	if got := strings.Join(eventTypes(b), " "); got != "plugin.installed plugin.installed plugin.installed plugin.upgraded plugin.pinned plugin.uninstalled plugin.uninstalled plugin.uninstalled" {
		t.Errorf("recorded: %s", got)
	}
}

func eventTypes(b *bench) (names []string) {
	for _, r := range b.Log.Events() {
		if r.Stream.Category() == "plugin" {
			names = append(names, r.Type)
		}
	}
	return names
}

// Another replica, or this one after its directory was lost, has what the log and the blobs have.
func TestAnotherReplicaLoadsWhatIsInstalled(t *testing.T) {
	b := newBench(t)
	b.install(t, commands.InstallPlugin{Archive: b.signed(t, nokia("1.0.0"))})
	set, err := plugins.Load(plugins.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plugins.NewDepot(plugins.Options{Dir: t.TempDir(), Set: set, Archive: b.Service.PluginArchive, History: b.Service.Plugin}); err != nil {
		t.Fatal(err)
	}
	r, err := set.Render(t.Context(), commands.Render{Plugin: commands.PluginRef{Name: "nokia", Version: "1.0.0"}, Model: "N95", MAC: "0015651a2b3c"})
	if err != nil || len(r.Files) != 1 {
		t.Fatalf("%+v %v", r, err)
	}
}

// A package that is refused changes nothing.
func TestRefusedPackages(t *testing.T) {
	b := newBench(t)
	good := b.signed(t, nokia("1.0.0"))
	other, _, err := plugins.KeyGen(rand.Reader, "stranger.example")
	if err != nil {
		t.Fatal(err)
	}
	strange, err := plugins.Sign(packed(t, nokia("1.0.0")), other)
	if err != nil {
		t.Fatal(err)
	}
	entries := read(t, good)
	rewrite := func(change func([]entry) []entry) []byte { return write(t, change(append([]entry{}, entries...))) }
	for name, archive := range map[string][]byte{
		"unsigned":             packed(t, nokia("1.0.0")),
		"signed by a stranger": strange,
		"no archive":           []byte("hello"),
		"cut short":            good[:len(good)-20],
		"one byte changed":     rewrite(func(e []entry) []entry { e[1].data = bytes.ToUpper(e[1].data); return e }),
		"a file too many":      rewrite(func(e []entry) []entry { return append(e, entry{name: "x.tmpl"}) }),
		"a file missing":       rewrite(func(e []entry) []entry { return e[:len(e)-1] }),
		"a file twice":         rewrite(func(e []entry) []entry { return append(e, e[1]) }),
		"manifest not first":   rewrite(func(e []entry) []entry { e[0], e[1] = e[1], e[0]; return e }),
		"a link":               rewrite(func(e []entry) []entry { e[1].link = "/etc/passwd"; return e }),
		"manifest of its own": rewrite(func(e []entry) []entry {
			e[0].data = bytes.Replace(e[0].data, []byte("nokia"), []byte("nokla"), 1)
			return e
		}),
		"a path out of it": write(t, []entry{{name: "MANIFEST", data: []byte("ledgerline plugin package v1\nname nokia\nversion 1.0.0\nfile " + strings.Repeat("0", 64) + " 0 ../x\n")}, {name: "../x"}}),
		"a bomb":           write(t, []entry{{name: "MANIFEST", data: []byte("ledgerline plugin package v1\nname nokia\nversion 1.0.0\nfile " + zeros + " 10000000 x.tmpl\n")}, {name: "x.tmpl", data: make([]byte, 10_000_000)}}),
	} {
		if _, _, err := b.Service.InstallPlugin(t.Context(), commands.InstallPlugin{Archive: archive}, nil); !errors.Is(err, commands.ErrPackageRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := eventTypes(b); len(got) > 0 {
		t.Errorf("recorded: %v", got)
	}
	if left, _ := filepath.Glob(filepath.Join(b.dir, "packages", "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	b.install(t, commands.InstallPlugin{Archive: packed(t, nokia("1.0.0")), AllowUnsigned: true})
	p, err := b.Service.Plugin(t.Context(), "nokia")
	if err != nil || !p.Versions["1.0.0"].Unsigned || p.Versions["1.0.0"].SignedBy != "" {
		t.Errorf("an operator's own decision is recorded: %+v %v", p.Versions, err)
	}
}

var zeros = func() string { sum := sha256.Sum256(make([]byte, 10_000_000)); return hex.EncodeToString(sum[:]) }()

func TestPackRefuses(t *testing.T) {
	for name, change := range map[string]func(fstest.MapFS){
		"a template that does not parse": func(m fstest.MapFS) { m["device.tmpl"].Data = []byte("{{") },
		"a file name with a blank":       func(m fstest.MapFS) { m["a b.tmpl"] = &fstest.MapFile{} },
		"a file named as the manifest":   func(m fstest.MapFS) { m["MANIFEST"] = &fstest.MapFile{} },
		"firmware of an unknown model": func(m fstest.MapFS) {
			m["firmware.yaml"] = &fstest.MapFile{Data: []byte("targets: [{kind: firmware, models: [N96], path: x}]")}
		},
		"firmware without a sum": func(m fstest.MapFS) {
			m["firmware.yaml"] = &fstest.MapFile{Data: []byte("bundles: [{id: a, kind: firmware, files: [{url: 'https://x.example/a'}]}]")}
		},
		"firmware from a file": func(m fstest.MapFS) {
			m["firmware.yaml"] = &fstest.MapFile{Data: []byte("bundles: [{id: a, kind: firmware, files: [{url: 'file:///etc/passwd', sha256: '" + strings.Repeat("a", 64) + "'}]}]")}
		},
	} {
		if _, err := plugins.Pack(nokia("1.0.0", change), "."); err == nil {
			t.Errorf("packed with %s", name)
		}
	}
	if a, b := packed(t, nokia("1.0.0")), packed(t, nokia("1.0.0")); !bytes.Equal(a, b) {
		t.Error("packed twice, two archives")
	}
}

type entry struct {
	name, link string
	data       []byte
}

func read(t testing.TB, archive []byte) (out []entry) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, entry{name: h.Name, data: b})
	}
}

func write(t testing.TB, entries []entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Size: int64(len(e.data)), Mode: 0o644}
		if e.link != "" {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, e.link, 0
			e.data = nil
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// From an index, over HTTP or from a directory: listed, fetched with progress, checked against the index.
func TestIndex(t *testing.T) {
	source := t.TempDir()
	server := httptest.NewServer(http.FileServer(http.Dir(source)))
	defer server.Close()
	for name, where := range map[string]string{"URL": server.URL, "directory": source, "file": filepath.Join(source, "index.json")} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, func(o *plugins.Options) { o.Index, o.TrustedHosts = where, nil })
			put := func(name string, data []byte) {
				if err := os.WriteFile(filepath.Join(source, name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			put("nokia-1.0.0.tar.gz", b.signed(t, nokia("1.0.0")))
			put("nokia-1.1.0.tar.gz", b.signed(t, nokia("1.1.0")))
			index, err := plugins.MakeIndex(os.DirFS(source))
			if err != nil {
				t.Fatal(err)
			}
			put("index.json", index)
			if offers, err := b.depot.Offers(t.Context()); err != nil || len(offers) != 0 {
				t.Errorf("before the first update: %v %v", offers, err)
			}
			p := commands.NewProgress("update")
			if err := b.depot.UpdateIndex(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			if s := p.Step(); s.State != commands.StepSuccess || s.Current != int64(len(index)) {
				t.Errorf("progress %s of %d", s, len(index))
			}
			offers, err := b.depot.Offers(t.Context())
			if err != nil || len(offers) != 2 || offers[1].Version != "1.1.0" || offers[1].SignedBy[0] != "test.example" || offers[1].Capabilities[0].Model != "N95" {
				t.Fatalf("%+v %v", offers, err)
			}
			b.install(t, commands.InstallPlugin{Name: "nokia", Version: "1.0.0"})
			b.install(t, commands.InstallPlugin{Name: "nokia", Upgrade: true})
			if got := b.made(t, commands.PluginRef{Name: "nokia"}); got != "1.1.0" {
				t.Errorf("upgraded to %s", got)
			}
			if _, _, err := b.Service.InstallPlugin(t.Context(), commands.InstallPlugin{Name: "siemens"}, nil); !errors.Is(err, commands.ErrNoPackage) {
				t.Errorf("not in the index: %v", err)
			}
			put("nokia-1.1.0.tar.gz", b.signed(t, nokia("1.0.0")))
			if _, err := b.depot.Fetch(t.Context(), commands.FetchPackage{Name: "nokia"}, nil); !errors.Is(err, commands.ErrPackageRefused) {
				t.Errorf("another archive than the index says: %v", err)
			}
			put("index.json", []byte(`{"packages": [{"name": "x"}]}`))
			if err := b.depot.UpdateIndex(t.Context(), nil); !errors.Is(err, commands.ErrPackageRefused) {
				t.Errorf("damaged index: %v", err)
			}
			if offers, _ := b.depot.Offers(t.Context()); len(offers) != 2 {
				t.Errorf("the index before is lost: %v", offers)
			}
		})
	}
}

// What an administrator of the API names is fetched from the internet, not from this network; only the operator's own
// settings name hosts here. A redirect does not get around it.
func TestGuard(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	open := httptest.NewServer(http.RedirectHandler(server.URL+"/x", http.StatusFound))
	defer open.Close()
	b := newBench(t, func(o *plugins.Options) { o.TrustedHosts = []string{strings.TrimPrefix(open.URL, "http://")} })
	for _, source := range []string{server.URL + "/x.tar.gz", "http://[::ffff:127.0.0.1]:1/x", "http://169.254.169.254/latest", open.URL, "/etc/passwd", "file:///etc/passwd", "ftp://x.example/a"} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err := b.depot.Fetch(ctx, commands.FetchPackage{Source: source}, nil)
		if cancel(); err == nil || errors.Is(err, commands.ErrNoPackage) {
			t.Errorf("%s: %v", source, err)
		}
	}
}

// Firmware is fetched with what came before an interruption, checked, unpacked, and offered under the names the package says.
func TestBundles(t *testing.T) {
	image := bytes.Repeat([]byte("firmware "), 40_000)
	var zipped bytes.Buffer
	z := zip.NewWriter(&zipped)
	for name, text := range map[string]string{"lang/de.xml": "<de/>", "lang/fr.xml": "<fr/>", "README.txt": "hello"} {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, text)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	var ranges []string
	cut := true
	mux := http.NewServeMux()
	mux.HandleFunc("/n95.rom", func(w http.ResponseWriter, r *http.Request) {
		ranges = append(ranges, r.Header.Get("Range"))
		if cut {
			cut = false
			w.Header().Set("Content-Length", "360000")
			_, _ = w.Write(image[:100_000])
			panic(http.ErrAbortHandler)
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(image))
	})
	mux.HandleFunc("/lang.zip", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(zipped.Bytes()) })
	mux.HandleFunc("/wrong.rom", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("something else")) })
	server := httptest.NewServer(mux)
	defer server.Close()
	b := newBench(t)
	hash := func(b []byte) string { sum := sha256.Sum256(b); return hex.EncodeToString(sum[:]) }
	b.install(t, commands.InstallPlugin{Archive: b.signed(t, nokia("1.0.0", func(m fstest.MapFS) {
		m["firmware.yaml"] = &fstest.MapFile{Data: []byte(`
targets: [{kind: firmware, path: "{model}-{release}.rom"}]
bundles:
- {id: n95-8.0, kind: firmware, release: "8.0", models: [N95], files: [{url: "` + server.URL + `/n95.rom", sha256: "` + hash(image) + `", size: 360000}]}
- {id: wrong, kind: firmware, release: "8.1", models: [N95], files: [{url: "` + server.URL + `/wrong.rom", sha256: "` + hash(image) + `0", size: 1}]}
- {id: words, kind: language, files: [{url: "` + server.URL + `/lang.zip", sha256: "` + hash(zipped.Bytes()) + `", size: 1, unpack: zip, pick: ["*.xml"], path: "n95/"}]}
`)}
		m["firmware.yaml"].Data = bytes.Replace(m["firmware.yaml"].Data, []byte(hash(image)+`0"`), []byte(strings.Repeat("0", 64)+`"`), 1)
	}))})
	install := func(id string) (domain.PluginFiles, error) {
		f, _, err := b.Service.InstallFiles(t.Context(), commands.InstallFiles{Plugin: "nokia", Bundle: id}, nil)
		return f, err
	}
	if _, err := install("n95-8.0"); err == nil {
		t.Fatal("installed from half a file")
	}
	got, err := install("n95-8.0")
	if err != nil || len(got.Files) != 1 || got.Files[0] != (domain.PluginFile{Path: "N95-8.0.rom", SHA256: hash(image), Size: int64(len(image))}) {
		t.Fatalf("%+v %v", got, err)
	}
	if len(ranges) != 2 || ranges[1] == "" {
		t.Errorf("taken up again with %q", ranges)
	}
	if f, err := b.depot.Open(hash(image)); err != nil {
		t.Error(err)
	} else if data, _ := io.ReadAll(f); !bytes.Equal(data, image) || f.Close() != nil {
		t.Error("other bytes")
	}
	if _, err := install("wrong"); !errors.Is(err, commands.ErrPackageRefused) {
		t.Errorf("another sum: %v", err)
	}
	if _, err := install("none"); !errors.Is(err, commands.ErrNoPackage) {
		t.Errorf("no such bundle: %v", err)
	}
	words, err := install("words")
	if err != nil || len(words.Files) != 2 || !strings.HasPrefix(words.Files[0].Path, "n95/lang/") {
		t.Errorf("%+v %v", words, err)
	}
	own, _, err := b.Service.InstallFiles(t.Context(), commands.InstallFiles{Plugin: "nokia", Bundle: "odd", Kind: "firmware", Release: "../9", Models: []string{"n95"}, Data: strings.NewReader("x")}, nil)
	if err != nil || own.Files[0].Path != "N95-.._9.rom" {
		t.Errorf("a release that would be a path: %+v %v", own, err)
	}
	if _, _, err = b.Service.InstallFiles(t.Context(), commands.InstallFiles{Plugin: "nokia", Bundle: "own", Kind: "firmware", Release: "9.0", Models: []string{"n95"}, Data: strings.NewReader("x")}, nil); err != nil {
		t.Error(err)
	}
	r, err := b.set.Render(t.Context(), commands.Render{Plugin: commands.PluginRef{Name: "nokia"}, Model: "N95", MAC: "0015651a2b3c", BaseURL: "http://p.example/", Settings: domain.Settings{"firmware_release": "8.0"}})
	if err != nil || !bytes.Contains(r.Files[0].Data, []byte("firmware.url = http://p.example/N95-8.0.rom\n")) || len(r.Warnings) > 0 {
		t.Errorf("%s %v %v", r.Files[0].Data, r.Warnings, err)
	}
}

// nokias are phones of the plugin nokia at 1.0.0, of tenants acme and globex, two each, with 2.0.0 on offer, which cannot
// make files for locale xx.
func nokias(t *testing.T) *bench {
	b := newBench(t)
	b.install(t, commands.InstallPlugin{Archive: b.signed(t, nokia("1.0.0"))})
	b.install(t, commands.InstallPlugin{Archive: b.signed(t, nokia("2.0.0", func(m fstest.MapFS) {
		m["device.tmpl"].Data = append(m["device.tmpl"].Data, `{{if eq .Language "xx"}}{{index .Keys 99}}{{end}}`...)
	}))})
	ctx, s := t.Context(), b.Service
	for i, tenant := range []domain.TenantID{"acme", "globex"} {
		if _, _, err := s.CreateTenant(ctx, commands.CreateTenant{ID: tenant, Name: string(tenant)}); err != nil {
			t.Fatal(err)
		}
		for n := range 2 {
			mac := domain.MAC([]string{"0015651a2b01", "0015651a2b02", "0015651a2b03", "0015651a2b04"}[2*i+n])
			if _, _, err := s.DiscoverDevice(ctx, commands.DiscoverDevice{MAC: mac, Vendor: "Nokia", Model: "N95", Plugin: "nokia", TenantID: tenant, Added: "operator"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.react(t)
	return b
}

func (b *bench) react(t *testing.T) {
	t.Helper()
	if err := b.React(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// versions are those the phones' files were made with, in the order of their ids.
func (b *bench) versions(t *testing.T) (out []string) {
	t.Helper()
	for _, id := range []domain.DeviceID{"0015651a2b01", "0015651a2b02", "0015651a2b03", "0015651a2b04"} {
		d, _, err := b.Service.CurrentDevice(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, d.Config.PluginVersion)
	}
	return out
}

func (b *bench) settings(t *testing.T, tenant domain.TenantID, s domain.Settings) {
	t.Helper()
	if _, _, err := b.Service.DefineLayer(t.Context(), commands.DefineLayer{ID: domain.TenantLayer(tenant), TenantID: tenant, Settings: s}); err != nil {
		t.Fatal(err)
	}
	b.react(t)
}

// A new version comes to a phone by an order that names it, and no other way; a dry run shows the lines.
func TestDevicesMoveByOrderOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := nokias(t)
		b.install(t, commands.InstallPlugin{Name: "nokia", Upgrade: true})
		b.settings(t, "acme", domain.Settings{"locale": "de_DE"}) // files are made anew, by the old version
		if got := b.versions(t); !slices.Equal(got, []string{"1.0.0", "1.0.0", "1.0.0", "1.0.0"}) {
			t.Fatalf("%v", got)
		}
		if _, err := b.Service.UninstallPlugin(t.Context(), commands.UninstallPlugin{Name: "nokia", Version: "1.0.0"}); !errors.Is(err, domain.ErrPluginInUse) {
			t.Errorf("uninstalled while in use: %v", err)
		}
		order := commands.UpgradeDevices{Plugin: "nokia", TenantID: "globex"}
		plan, err := b.Service.DryRun(t.Context(), func(ctx context.Context, s *commands.Service) error {
			_, err := s.PlanDeviceUpgrade(ctx, order)
			return err
		})
		if err != nil || len(plan.Files) != 2 || !strings.Contains(plan.Files[0].Before, "made.by = 1.0.0") || !strings.Contains(plan.Files[0].After, "made.by = 2.0.0") {
			t.Errorf("planned: %+v %v", plan.Files, err)
		}
		id, _, err := b.Service.UpgradeDevices(t.Context(), order)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Service.UpgradeDevices(t.Context(), order); !errors.Is(err, domain.ErrUpgradeUnderWay) {
			t.Errorf("two at once: %v", err)
		}
		p := commands.NewProgress("upgrade_devices")
		if err := b.Service.CarryDeviceUpgrade(t.Context(), "nokia", id, p); err != nil {
			t.Fatal(err)
		}
		b.react(t)
		if got := b.versions(t); !slices.Equal(got, []string{"1.0.0", "1.0.0", "2.0.0", "2.0.0"}) {
			t.Errorf("%v", got)
		}
		if p.Step().Current != 2 {
			t.Errorf("progress %s", p.Step())
		}
		// The way back is the same order, to the older version.
		back, _, err := b.Service.UpgradeDevices(t.Context(), commands.UpgradeDevices{Plugin: "nokia", Version: "1.0.0", Devices: []domain.DeviceID{"0015651a2b03"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Service.CarryDeviceUpgrade(t.Context(), "nokia", back, nil); err != nil {
			t.Fatal(err)
		}
		b.react(t)
		if got := b.versions(t); !slices.Equal(got, []string{"1.0.0", "1.0.0", "1.0.0", "2.0.0"}) {
			t.Errorf("back: %v", got)
		}
	})
}

// An upgrade that cannot make a phone's files leaves that phone as it is, and ends after too many.
func TestDeviceUpgradeHalts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := nokias(t)
		b.settings(t, "acme", domain.Settings{"locale": "xx_XX"})
		id, _, err := b.Service.UpgradeDevices(t.Context(), commands.UpgradeDevices{Plugin: "nokia", Version: "2.0.0", All: true, HaltAfter: 2})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Service.CarryDeviceUpgrade(t.Context(), "nokia", id, nil); err == nil || !strings.Contains(err.Error(), "0015651a2b02: its files cannot be made") {
			t.Errorf("%v", err)
		}
		b.react(t)
		if got := b.versions(t); !slices.Equal(got, []string{"1.0.0", "1.0.0", "1.0.0", "1.0.0"}) {
			t.Errorf("%v", got)
		}
		p, _ := b.Service.Plugin(t.Context(), "nokia")
		if types := eventTypes(b); len(p.DeviceUpgrades) > 0 || types[len(types)-1] != "plugin.device_upgrade_ended" {
			t.Errorf("not over: %v", types)
		}
	})
}

// Phones of a tenant with hours are moved within them; others do not wait for them.
func TestDeviceUpgradeKeepsHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := nokias(t)
		now := b.Clock.Now().UTC()
		b.settings(t, "acme", domain.Settings{"timezone": "UTC", "resync_from": now.Add(2 * time.Hour).Format("15:04"), "resync_until": now.Add(3 * time.Hour).Format("15:04")})
		id, _, err := b.Service.UpgradeDevices(t.Context(), commands.UpgradeDevices{Plugin: "nokia", Version: "2.0.0", All: true})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- b.Service.CarryDeviceUpgrade(t.Context(), "nokia", id, nil) }()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		b.react(t)
		if got := b.versions(t); !slices.Equal(got, []string{"1.0.0", "1.0.0", "2.0.0", "2.0.0"}) {
			t.Errorf("before the hours: %v", got)
		}
		b.Clock.Advance(2*time.Hour + time.Minute)
		if err := <-done; err != nil {
			t.Error(err)
		}
		b.react(t)
		if got := b.versions(t); !slices.Equal(got, []string{"2.0.0", "2.0.0", "2.0.0", "2.0.0"}) {
			t.Errorf("in the hours: %v", got)
		}
	})
}

// Cancelled, it moves no more; stopped with its process, another one goes on.
func TestDeviceUpgradeCancelledAndResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := nokias(t)
		b.settings(t, "acme", domain.Settings{"resync_per_minute": 1})
		start := func() string {
			t.Helper()
			id, _, err := b.Service.UpgradeDevices(t.Context(), commands.UpgradeDevices{Plugin: "nokia", Version: "2.0.0", All: true, Wave: 1})
			if err != nil {
				t.Fatal(err)
			}
			return id
		}
		id := start()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Service.CarryDeviceUpgrade(ctx, "nokia", id, nil) }()
		synctest.Wait()
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("stopped: %v", err)
		}
		if got := b.versions(t); !slices.Equal(got, []string{"2.0.0", "1.0.0", "1.0.0", "1.0.0"}) {
			t.Errorf("stopped after one: %v", got)
		}
		go func() { done <- b.Service.CarryDeviceUpgrade(t.Context(), "nokia", id, nil) }()
		synctest.Wait()
		if _, err := b.Service.CancelDeviceUpgrade(t.Context(), "nokia", id); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := b.versions(t); !slices.Equal(got, []string{"2.0.0", "2.0.0", "1.0.0", "1.0.0"}) {
			t.Errorf("cancelled after another: %v", got)
		}
		if _, err := b.Service.CancelDeviceUpgrade(t.Context(), "nokia", id); !errors.Is(err, domain.ErrUpgradeUnknown) {
			t.Errorf("cancelled twice: %v", err)
		}
	})
}

// A phone gets its vendor's file by whatever way it gets its own, with what it is on record; a replica that was not given
// the file has it from its parts.
func TestVendorFilesAreServedAndOnRecord(t *testing.T) {
	b := nokias(t)
	image := bytes.Repeat([]byte("0123456789"), 1_000_000) // two parts
	if _, _, err := b.Service.InstallFiles(t.Context(), commands.InstallFiles{Plugin: "nokia", Bundle: "n95-8.0", Kind: "firmware", Release: "8.0", Path: "fw/n95.bin", Data: bytes.NewReader(image)}, nil); err != nil {
		t.Fatal(err)
	}
	asked := commands.ServeFile{Asked: commands.Asked{Path: "fw/n95.bin", UserAgent: "Nokia N95 0015651a2b01"}, Via: "mac", Transport: "http", IP: "192.0.2.1", Trusted: true}
	v, err := b.Service.ServeFile(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(v.Body)
	if err = errors.Join(err, v.Body.Close()); err != nil || !bytes.Equal(got, image) || v.File.Size != len(image) || v.Device != "0015651a2b01" {
		t.Errorf("%d bytes of %d for %s, %v", len(got), v.File.Size, v.Device, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	b.Service.Delivered(v)
	stop()
	_ = b.Service.RunDeliveries(ctx) // ends with ctx, once what was noted is recorded
	d, _, err := b.Service.CurrentDevice(t.Context(), "0015651a2b01")
	if sum := sha256.Sum256(image); err != nil || d.VendorFiles["fw/n95.bin"] != hex.EncodeToString(sum[:]) {
		t.Errorf("on record: %v %v", d.VendorFiles, err)
	}
	for name, other := range map[string]commands.Asked{"another vendor's phone": {Path: "fw/n95.bin", UserAgent: "Yealink SIP-T54W 96.86.0.70 00:15:65:1a:2b:aa"}, "no such file": {Path: "fw/n96.bin", UserAgent: "Nokia N95 0015651a2b01"}} {
		in := asked
		in.Asked = other
		if v, err := b.Service.ServeFile(t.Context(), in); !errors.Is(err, commands.ErrNoFile) {
			t.Errorf("%s: %+v %v", name, v.File, err)
		}
	}

	set, err := plugins.Load(plugins.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	replica, err := plugins.NewDepot(plugins.Options{Dir: t.TempDir(), Set: set, Archive: b.Service.PluginArchive, Part: b.Service.FilePart, History: b.Service.Plugin})
	if err != nil {
		t.Fatal(err)
	}
	p, err := b.Service.Plugin(t.Context(), "nokia")
	if err != nil {
		t.Fatal(err)
	}
	if err := replica.Keep(t.Context(), "nokia", p.Bundles["n95-8.0"]); err != nil {
		t.Fatal(err)
	}
	f, err := replica.Open(p.Bundles["n95-8.0"].Files[0].SHA256)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, image) {
		t.Errorf("the replica has %d bytes, %v", len(got), err)
	}
}

// What is wrong with a package is found, and said: a value that makes a setting, a case that comes out otherwise, secrets
// for guests, work without end.
func TestPluginTestFindsWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		file, text, want string
	}{
		"a value that is a name":   {"device.tmpl", "#!version:1.0.0.1\n{{get \"admin_username\"}} = 1\n", "no text brings a setting of its own"},
		"a setting twice":          {"device.tmpl", "#!version:1.0.0.1\na = 1\na = 2\n", "has a twice"},
		"not of its format":        {"device.tmpl", "#!version:1.0.0.1\nhello\n", "is not name = value"},
		"secrets for guests":       {"guest.tmpl", "#!version:1.0.0.1\npw = {{get \"admin_password\"}}\n", "guest file 001565aabbcc.cfg holds"},
		"without end":              {"device.tmpl", "#!version:1.0.0.1\n{{range seq 1 1000}}{{range seq 1 1000}}{{end}}{{end}}", "exceeds its budget"},
		"a case that is not so":    {"testdata/x.txtar", "-- render.yaml --\nmodel: N95\nmac: 0015651a2b3c\n-- out/0015651a2b3c.cfg --\nother\n", "+made.by = 1.0.0"},
		"a case of wrong settings": {"testdata/x.txtar", "-- render.yaml --\nmodel: N95\n-- settings.json --\n{\"locale\": \"x\"}\n", "locale"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, nokia("1.0.0", func(m fstest.MapFS) { m[c.file] = &fstest.MapFile{Data: []byte(c.text)} })); err != nil {
				t.Fatal(err)
			}
			report, err := plugins.Test(t.Context(), dir, false)
			if err != nil || !strings.Contains(strings.Join(report.Failed, "\n"), c.want) {
				t.Errorf("%v\n%s", err, strings.Join(report.Failed, "\n"))
			}
		})
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, nokia("1.0.0")); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "nokia.tar.gz")
	if err := os.WriteFile(archive, packed(t, nokia("1.0.0")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, archive} {
		if report, err := plugins.Test(t.Context(), name, false); err != nil || len(report.Failed) > 0 || len(report.Passed) != len(plugins.Checks) {
			t.Errorf("%s: %+v %v", name, report, err)
		}
	}
}

// Whatever an archive is, it is read or refused; what is read is what its manifest says.
func FuzzArchive(f *testing.F) {
	good := packed(f, nokia("1.0.0"))
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add(write(f, []entry{{name: "MANIFEST", data: []byte("ledgerline plugin package v1\nname a\nversion 1\nfile " + zeros + " 0 x\n\n— a b\n")}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, err := plugins.Identify(b); err != nil && !errors.Is(err, commands.ErrPackageRefused) {
			t.Errorf("%v", err)
		}
	})
}
