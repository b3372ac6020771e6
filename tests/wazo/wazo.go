// Package wazo makes plugin archives and indexes as wazo-provd has them (wazo-provd.md §4.1), for tests.
package wazo

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// Entry is one entry of an archive; a zero Type is a plain file.
type Entry struct {
	Name, Body, Link string
	Type             byte
}

// Archive makes a tar.bz2. ok is false where there is no bzip2: then with CI=true the test fails, and else it says so.
func Archive(t testing.TB, entries ...Entry) (archive []byte, ok bool) {
	t.Helper()
	program, err := exec.LookPath("bzip2")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("bzip2 is not installed; .ci/run installs it")
		}
		t.Log("bzip2 is not installed: not tried")
		return nil, false
	}
	var plain bytes.Buffer
	w := tar.NewWriter(&plain)
	for _, e := range entries {
		h := &tar.Header{Name: e.Name, Typeflag: e.Type, Linkname: e.Link, Mode: 0o644, Size: int64(len(e.Body))}
		if e.Type == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.Body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-c")
	cmd.Stdin = &plain
	if archive, err = cmd.Output(); err != nil {
		t.Fatal(err)
	}
	return archive, true
}

// Plugin is Archive of a plugin with an id: what every one has, and files of its own by path below its folder.
func Plugin(t testing.TB, id string, info map[string]any, files map[string]string) (archive []byte, ok bool) {
	t.Helper()
	text, err := json.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	entries := []Entry{{Name: id + "/", Type: tar.TypeDir}, {Name: id + "/plugin-info", Body: string(text)},
		{Name: id + "/entry.py", Body: "raise SystemExit('code must not run')"}, {Name: id + "/templates/base.tpl", Body: "{{ 7 * 7 }}"}}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		entries = append(entries, Entry{Name: id + "/" + name, Body: files[name]})
	}
	return Archive(t, entries...)
}

// Index writes archives and their plugins.db to a directory.
func Index(t testing.TB, dir string, info map[string]map[string]any, archives map[string][]byte) {
	t.Helper()
	db := map[string]map[string]any{}
	for id, archive := range archives {
		sum := sha1.Sum(archive)
		name := id + "-" + info[id]["version"].(string) + ".tar.bz2"
		db[id] = maps.Clone(info[id])
		db[id]["filename"], db[id]["dsize"], db[id]["sha1sum"] = name, len(archive), hex.EncodeToString(sum[:])
		if err := os.WriteFile(filepath.Join(dir, name), archive, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(db)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "plugins.db"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Zip packs files.
func Zip(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		w, err := z.Create(name)
		if err == nil {
			_, err = w.Write([]byte(files[name]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
