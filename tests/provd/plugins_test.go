package provd_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"ledgerline/adapters/plugins"
)

// grammar is that of an operation's text (reference §1.10).
var grammar = regexp.MustCompile(`^(\w+\|)?(waiting|progress|success|fail)(;\d+(/\d+)?)?(\((\w+\|)?(waiting|progress|success|fail)(;\d+(/\d+)?)?(\((\w+\|)?(waiting|progress|success|fail)(;\d+(/\d+)?)?\))*\))*$`)

// withIndex gives the stand an index with one plugin in two versions, and its firmware.
func (s *stand) withIndex() {
	s.t.Helper()
	image := strings.Repeat("firmware", 5000)
	sum := sha256.Sum256([]byte(image))
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(image)) }))
	s.t.Cleanup(files.Close)
	signing, verifier, err := plugins.KeyGen(rand.Reader, "test.example")
	if err != nil {
		s.t.Fatal(err)
	}
	keys, err := plugins.ParseKeys(verifier)
	if err != nil {
		s.t.Fatal(err)
	}
	index := s.t.TempDir()
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	for _, version := range []string{"1.0.0", "1.1.0"} {
		archive, err := plugins.Pack(fstest.MapFS{
			"plugin.yaml": file("name: nokia\nversion: " + version + "\nvendor: Nokia\ndescription: Nokia phones\nfiles:\n- {path: '{mac}.cfg', template: device.tmpl, content_type: text/plain, format: yealink, role: device}\n" +
				"- {path: '{mac}.cfg', template: guest.tmpl, content_type: text/plain, format: yealink, role: guest}\nrecognize:\n- {user_agent: '^Nokia (?P<model>\\S+) (?P<mac>[0-9a-f]{12})'}\n"),
			"models.csv":  file("model,accounts,keys\nN95,2,8\n*,1,0\n"),
			"device.tmpl": file("#!version:1.0.0.1\n{{range .Lines}}user = {{.Get \"username\"}}\n{{end}}"),
			"guest.tmpl":  file("#!version:1.0.0.1\nguest = 1\n"),
			"firmware.yaml": file("targets: [{kind: firmware, path: \"{model}-{release}.rom\"}]\nbundles:\n- {id: n95-8.0, kind: firmware, release: \"8.0\", description: For the N95, models: [N95], files: [{url: \"" +
				files.URL + "/n95.rom\", sha256: \"" + hex.EncodeToString(sum[:]) + "\", size: 40000}]}\n"),
		}, ".")
		if err == nil {
			archive, err = plugins.Sign(archive, signing)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(index, "nokia-"+version+".tar.gz"), archive, 0o600)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	listed, err := plugins.MakeIndex(os.DirFS(index))
	if err == nil {
		err = os.WriteFile(filepath.Join(index, "index.json"), listed, 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.rig.Service.Packages, err = plugins.NewDepot(plugins.Options{Dir: s.t.TempDir(), Set: s.rig.Plugins, Index: index, Keys: keys, TrustedHosts: []string{"127.0.0.1"},
		Archive: s.rig.Service.PluginArchive, History: s.rig.Service.Plugin})
	if err != nil {
		s.t.Fatal(err)
	}
}

// finish follows an operation to its end, checks every text on the way, and answers the last.
func (s *stand) finish(r reply) string {
	s.t.Helper()
	at := strings.TrimPrefix(r.Header.Get("Location"), "/0.2")
	if at == "" || strings.Contains(at, "://") {
		s.t.Fatalf("Location is %q", r.Header.Get("Location"))
	}
	var text string
	rank := map[string]int{"waiting": 0, "progress": 1, "success": 2, "fail": 2}
	state := regexp.MustCompile(`waiting|progress|success|fail`)
	last := 0
	s.eventually("the operation ends", func() bool {
		text, _ = s.must(200, "GET", at, nil).json(s.t)["status"].(string)
		if !grammar.MatchString(text) {
			s.t.Fatalf("the text %q breaks the grammar", text)
		}
		now := rank[state.FindString(text)]
		if now < last {
			s.t.Fatalf("it went back to %q", text)
		}
		last = now
		return now == 2
	})
	s.must(204, "DELETE", at, nil)
	s.must(404, "GET", at, nil)
	return text
}

// A plugin's life: index, installation with progress, upgrade, files, removal.
func TestPluginLife(t *testing.T) {
	s := newStand(t)
	s.withIndex()
	pkgs := func(path string) object {
		p, _ := s.must(200, "GET", path, nil).json(t)["pkgs"].(object)
		return p
	}
	if p := pkgs("/pg_mgr/install/installable"); len(p) != 0 {
		t.Errorf("before the first update the index has %v", p)
	}
	s.must(400, "POST", "/pg_mgr/install/install", object{"id": "nokia"})
	if text := s.finish(s.must(201, "POST", "/pg_mgr/install/update", object{})); !strings.HasPrefix(text, "update|success;") {
		t.Errorf("the update ends as %q", text)
	}
	offer, _ := pkgs("/pg_mgr/install/installable")["nokia"].(object)
	if offer["version"] != "1.1.0" || offer["description"] != "Nokia phones" || offer["dsize"] == nil || offer["filename"] != nil {
		t.Errorf("on offer is %v", offer)
	}
	abilities, _ := offer["capabilities"].(object)["Nokia, N95, *"].(object)
	if abilities["lines"] != 2.0 || abilities["function_keys"] != 8.0 || abilities["type"] != "deskphone" {
		t.Errorf("the N95 can %v", abilities)
	}
	for _, verb := range []string{"install", "upgrade", "uninstall"} {
		s.must(400, "POST", "/pg_mgr/install/"+verb, object{})
		s.must(400, "POST", "/pg_mgr/install/"+verb, object{"id": "unknown"})
	}
	s.must(400, "POST", "/pg_mgr/install/upgrade", object{"id": "nokia"})
	s.must(400, "POST", "/pg_mgr/install/uninstall", object{"id": "nokia"})
	s.must(400, "POST", "/pg_mgr/reload", object{"id": "nokia"})
	s.must(404, "GET", "/pg_mgr/plugins/nokia", nil)

	if text := s.finish(s.must(201, "POST", "/pg_mgr/install/install", object{"id": "nokia"})); !regexp.MustCompile(`^install\|success\(download\|success;\d+/\d+\)$`).MatchString(text) {
		t.Errorf("the installation ends as %q", text)
	}
	s.must(400, "POST", "/pg_mgr/install/install", object{"id": "nokia"})
	if p := pkgs("/pg_mgr/install/installed"); p["nokia"] == nil || p["yealink"] == nil {
		t.Errorf("installed are %v", p)
	}
	plugs, _ := s.must(200, "GET", "/pg_mgr/plugins", nil).json(t)["plugins"].(object)
	equal(t, "the plugin", plugs["nokia"].(object), object{"links": []any{object{"rel": "pg.plugin", "href": "/0.2/pg_mgr/plugins/nokia"}}})
	info, _ := s.must(200, "GET", "/pg_mgr/plugins/nokia/info", nil).json(t)["plugin_info"].(object)
	if info["version"] != "1.1.0" || info["description"] != "Nokia phones" || info["capabilities"] == nil {
		t.Errorf("its info is %v", info)
	}
	s.finish(s.must(201, "POST", "/pg_mgr/install/upgrade", object{"id": "nokia"}))
	s.must(204, "POST", "/pg_mgr/reload", object{"id": "nokia"})

	// Its packages: files the vendor has.
	const install = "/pg_mgr/plugins/nokia/install"
	equal(t, "the packages on offer", pkgs(install+"/installable"), object{"n95-8.0": object{"version": "8.0", "description": "For the N95", "dsize": 40000.0}})
	if p := pkgs(install + "/installed"); len(p) != 0 {
		t.Errorf("installed are %v", p)
	}
	s.must(400, "POST", install+"/install", object{"id": "unknown"})
	s.must(400, "POST", install+"/uninstall", object{"id": "n95-8.0"})
	for range 2 { // again is allowed
		if text := s.finish(s.must(201, "POST", install+"/install", object{"id": "n95-8.0"})); !strings.HasPrefix(text, "install_pkg|success(download|success(success;40000/40000))(install|success") {
			t.Errorf("the package ends as %q", text)
		}
	}
	equal(t, "the packages installed", pkgs(install+"/installed"), object{"n95-8.0": object{"version": "8.0", "description": "For the N95"}})
	s.must(204, "POST", install+"/uninstall", object{"id": "n95-8.0"})
	if p := pkgs(install + "/installed"); len(p) != 0 {
		t.Errorf("installed are still %v", p)
	}
	s.must(404, "POST", install+"/upgrade", object{"id": "n95-8.0"})

	s.must(204, "POST", "/pg_mgr/install/uninstall", object{"id": "nokia"})
	s.must(404, "GET", "/pg_mgr/plugins/nokia/info", nil)
	s.must(400, "POST", "/pg_mgr/install/uninstall", object{"id": "nokia"})
}

// Without an index there is nothing to update, and nothing to install.
func TestNoIndex(t *testing.T) {
	s := newStand(t)
	if text := s.ask("POST", "/pg_mgr/install/update", object{}); text.StatusCode != 500 {
		t.Errorf("an update without a repository answers %d", text.StatusCode)
	}
	if p := s.must(200, "GET", "/pg_mgr/install/installable", nil).json(t)["pkgs"].(object); len(p) != 0 {
		t.Errorf("on offer are %v", p)
	}
}
