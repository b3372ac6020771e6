package vault

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ledgerline/domain"
)

func TestMasterKeyForms(t *testing.T) {
	secret := make([]byte, keySize)
	for i := range secret {
		secret[i] = byte(251 - i*3) // its base64 has + and / in it
	}
	hexed := hex.EncodeToString(secret)
	for _, form := range []struct {
		what, content string
		want          error
	}{
		{"raw", string(secret), nil},
		{"hex", hexed, nil},
		{"hex with a line end", hexed + "\r\n", nil},
		{"upper-case hex", strings.ToUpper(hexed), nil},
		{"base64", base64.StdEncoding.EncodeToString(secret) + "\n", nil},
		{"base64 unpadded", base64.RawStdEncoding.EncodeToString(secret), nil},
		{"base64 for URLs", base64.URLEncoding.EncodeToString(secret), nil},
		{"empty", "", ErrBadMasterKey},
		{"31 bytes", string(secret[:31]), ErrBadMasterKey},
		{"33 bytes", string(secret) + "\n", ErrBadMasterKey},
		{"hex of 31 bytes", hexed[:62], ErrBadMasterKey},
		{"hex of 33 bytes", hexed + "00", ErrBadMasterKey},
		{"a pass phrase", "correct horse battery staple", ErrBadMasterKey},
		{"32 zeros", string(make([]byte, 32)), ErrBadMasterKey},
		{"hex of 32 equal bytes", strings.Repeat("ab", 32), ErrBadMasterKey},
		{"a large file", strings.Repeat("x", 1<<20), ErrBadMasterKey},
	} {
		path := filepath.Join(t.TempDir(), "key")
		writeFile(t, path, form.content, 0o600)
		got, err := ReadMasterKey(path)
		if !errors.Is(err, form.want) || form.want == nil && !bytes.Equal(got, secret) {
			t.Errorf("%s: key equal %v, %v; want %v", form.what, bytes.Equal(got, secret), err, form.want)
		}
		if err != nil && len(form.content) > 8 && strings.Contains(err.Error(), form.content[:8]) {
			t.Errorf("%s: the error shows what is in the file", form.what)
		}
	}
}

func FuzzMasterKey(f *testing.F) {
	f.Add([]byte(strings.Repeat("0123456789abcdef", 4) + "\n"))
	f.Add([]byte("AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="))
	f.Add([]byte("AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA"))
	f.Add([]byte("0123456789abcdef0123456789abcdef"))
	f.Fuzz(func(t *testing.T, content []byte) {
		secret, err := parseMasterKey(content)
		if (err == nil) != (len(secret) == keySize) {
			t.Fatalf("%d bytes, %v", len(secret), err)
		}
		if err != nil {
			return
		}
		again, err := parseMasterKey([]byte(hex.EncodeToString(secret)))
		if err != nil || !bytes.Equal(again, secret) {
			t.Fatalf("written as hex it is read as another key: %v", err)
		}
	})
}

func TestMasterKeyErrors(t *testing.T) {
	for _, c := range []struct {
		what    string
		prepare func(t *testing.T, dir string) Options
		want    error
		text    string
	}{
		{"another key", func(t *testing.T, dir string) Options {
			writeFile(t, filepath.Join(dir, keyFileName), randomHex(), 0o600)
			return Options{Dir: dir}
		}, ErrWrongMasterKey, "fingerprint"},
		{"another key, named", func(t *testing.T, dir string) Options {
			path := filepath.Join(t.TempDir(), "other.key")
			writeFile(t, path, randomHex(), 0o600)
			return Options{Dir: dir, MasterKeyFile: path}
		}, ErrWrongMasterKey, "other.key"},
		{"key gone", func(t *testing.T, dir string) Options {
			remove(t, filepath.Join(dir, keyFileName))
			return Options{Dir: dir}
		}, ErrMasterKeyLost, "restore the file"},
		{"named key gone", func(t *testing.T, dir string) Options {
			return Options{Dir: dir, MasterKeyFile: filepath.Join(dir, "nowhere.key")}
		}, ErrMasterKeyLost, "nowhere.key"},
		{"named key gone, new vault", func(t *testing.T, dir string) Options {
			return Options{Dir: t.TempDir(), MasterKeyFile: filepath.Join(dir, "nowhere.key")}
		}, ErrNoMasterKey, "urandom"},
		{"readable by the group", func(t *testing.T, dir string) Options {
			chmod(t, filepath.Join(dir, keyFileName), 0o640)
			return Options{Dir: dir}
		}, ErrKeyExposed, "chmod 600"},
		{"readable by all", func(t *testing.T, dir string) Options {
			chmod(t, filepath.Join(dir, keyFileName), 0o604)
			return Options{Dir: dir}
		}, ErrKeyExposed, "0604"},
		{"cut off", func(t *testing.T, dir string) Options {
			writeFile(t, filepath.Join(dir, keyFileName), randomHex()[:40], 0o600)
			return Options{Dir: dir}
		}, ErrBadMasterKey, "32 random bytes"},
	} {
		t.Run(c.what, func(t *testing.T) {
			dir := t.TempDir()
			v := open(t, Options{Dir: dir})
			manySubjects(t, v, 2)
			closeVault(t, v)
			o := c.prepare(t, dir)
			before := files(t, o.Dir)
			for name, try := range map[string]func() error{
				"Open":  func() error { _, err := Open(t.Context(), o); return err },
				"Check": func() error { _, err := Check(t.Context(), o); return err },
			} {
				err := try()
				if name == "Check" && errors.Is(c.want, ErrNoMasterKey) {
					continue // there is no vault to check
				}
				if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
					t.Errorf("%s: %v; want %v and %q in it", name, err, c.want, c.text)
				}
			}
			if _, err := os.Stat(filepath.Join(o.Dir, keyFileName)); err == nil && !strings.Contains(before, keyFileName) {
				t.Error("a key has been made")
			}
		})
	}
}

func TestNamedMasterKeyAndCredential(t *testing.T) {
	dir, credentials := t.TempDir(), t.TempDir()
	named := filepath.Join(credentials, credentialName)
	writeFile(t, named, randomHex(), 0o600)
	v := open(t, Options{Dir: dir, MasterKeyFile: named})
	sealed, err := v.Seal(t.Context(), "line-1", "geheim", "a")
	if err != nil {
		t.Fatal(err)
	}
	closeVault(t, v)
	if _, err := os.Stat(filepath.Join(dir, keyFileName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key was made beside the named one: %v", err)
	}

	chmod(t, named, 0o440) // as systemd's access list shows
	t.Setenv("CREDENTIALS_DIRECTORY", credentials)
	v = open(t, Options{Dir: dir})
	defer closeVault(t, v)
	if got, err := v.Open(t.Context(), sealed); err != nil || got != "geheim" {
		t.Errorf("Open with the credential = %q, %v; want the text", got, err)
	}
	if err := v.Rotate(t.Context(), nil); !errors.Is(err, ErrFixedMasterKey) {
		t.Errorf("Rotate of a credential: %v, want ErrFixedMasterKey", err)
	}
}

func TestRotate(t *testing.T) {
	dir := t.TempDir()
	v := open(t, Options{Dir: dir})
	subjects := manySubjects(t, v, 500)
	sealed, err := v.Seal(t.Context(), "line-7", "geheim", "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Erase(t.Context(), "line-3"); err != nil {
		t.Fatal(err)
	}
	old, oldPrint, oldKey := wrappedKeys(t, v), v.MasterFingerprint(), read(t, filepath.Join(dir, keyFileName))
	delete(old, "line-3")
	if got := found(t, dir, old); len(got) != len(subjects)-1 {
		t.Fatalf("%d old wrapped keys found before; the search proves nothing", len(got))
	}
	if err := v.Rotate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	wantFound(t, dir, old, nil)
	v.cache.clear()
	if got, err := v.Open(t.Context(), sealed); err != nil || got != "geheim" {
		t.Errorf("Open after Rotate = %q, %v; want the text", got, err)
	}
	report, err := v.Check(t.Context())
	wantReport(t, "after Rotate", report, err, CheckReport{MasterFingerprint: v.MasterFingerprint(), Live: 499, Destroyed: 1})
	if v.MasterFingerprint() == oldPrint {
		t.Error("the fingerprint has not changed")
	}
	closeVault(t, v)
	if strings.Contains(files(t, dir), nextSuffix) {
		t.Errorf("files left: %s", files(t, dir))
	}

	writeFile(t, filepath.Join(dir, keyFileName), string(oldKey), 0o600)
	if _, err := Open(t.Context(), Options{Dir: dir}); !errors.Is(err, ErrWrongMasterKey) {
		t.Errorf("Open with the old key: %v, want ErrWrongMasterKey", err)
	}
}

func TestRotateToAGivenKey(t *testing.T) {
	dir, real := t.TempDir(), t.TempDir()
	writeFile(t, filepath.Join(real, "k1"), randomHex(), 0o600)
	link := filepath.Join(dir, "link.key")
	if err := os.Symlink(filepath.Join(real, "k1"), link); err != nil {
		t.Fatal(err)
	}
	v := open(t, Options{Dir: dir, MasterKeyFile: link})
	defer closeVault(t, v)
	if err := v.Rotate(t.Context(), make([]byte, 31)); !errors.Is(err, ErrBadMasterKey) {
		t.Errorf("31 bytes: %v, want ErrBadMasterKey", err)
	}
	secret := bytes.Repeat([]byte("ab"), 16)
	if err := v.Rotate(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadMasterKey(link); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("the key file does not hold the given key: %v", err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced, not the file behind it: %v", err)
	}
}

// Stopped at any step, the vault opens with what is there, everything sealed opens, and nothing is left over.
func TestRotateStopped(t *testing.T) {
	stop := errors.New("power cut")
	for _, c := range []struct {
		step    string
		rotated bool
	}{
		{"next written", false},
		{"rewrapped", false}, // in the transaction, before its commit
		{"committed", true},
		{"replaced", true},
	} {
		t.Run(c.step, func(t *testing.T) {
			dir := t.TempDir()
			v := open(t, Options{Dir: dir})
			manySubjects(t, v, 20)
			sealed, err := v.Seal(t.Context(), "line-7", "geheim", "a")
			if err != nil {
				t.Fatal(err)
			}
			before := v.MasterFingerprint()
			v.crash = func(step string) error {
				if step == c.step {
					return stop
				}
				return nil
			}
			if err := v.Rotate(t.Context(), nil); !errors.Is(err, stop) {
				t.Fatalf("Rotate: %v, want it stopped", err)
			}
			closeVault(t, v)

			report, err := Check(t.Context(), Options{Dir: dir})
			if err != nil || report.Live != 20 || report.Bad != 0 {
				t.Errorf("Check = %+v, %v; want 20 live keys", report, err)
			}
			v = open(t, Options{Dir: dir})
			if got := v.MasterFingerprint() != before; got != c.rotated {
				t.Errorf("rotated is %v, want %v", got, c.rotated)
			}
			if got, err := v.Open(t.Context(), sealed); err != nil || got != "geheim" {
				t.Errorf("Open = %q, %v; want the text", got, err)
			}
			if strings.Contains(files(t, dir), nextSuffix) {
				t.Errorf("files left: %s", files(t, dir))
			}
			if err := v.Rotate(t.Context(), nil); err != nil {
				t.Errorf("rotating again: %v", err)
			}
			closeVault(t, v)
			v = open(t, Options{Dir: dir})
			defer closeVault(t, v)
			if got, err := v.Open(t.Context(), sealed); err != nil || got != "geheim" {
				t.Errorf("Open after rotating again = %q, %v; want the text", got, err)
			}
		})
	}
}

// A key file and no database yet: the place where a first start may be cut off.
func TestFirstStartCutOff(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, keyFileName), randomHex(), 0o600)
	writeFile(t, filepath.Join(dir, databaseName), "", 0o600)
	v := open(t, Options{Dir: dir})
	defer closeVault(t, v)
	if v.CreatedMasterKey() != "" {
		t.Error("a key was made though there is one")
	}
	if _, _, err := v.Ensure(t.Context(), domain.Subject("line-1")); err != nil {
		t.Error(err)
	}
}

func files(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func randomHex() string {
	secret := make([]byte, keySize)
	rand.Read(secret)
	return hex.EncodeToString(secret) + "\n"
}

func writeFile(t testing.TB, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

func chmod(t testing.TB, path string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
