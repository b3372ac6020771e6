package blobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/tests/contract"
)

func TestContract(t *testing.T) {
	contract.Blobs(t, func(t testing.TB, place string, v commands.Vault) (commands.Blobs, func()) {
		b := open(t, place, v)
		return b, func() { closeBlobs(t, b) }
	})
}

// flip turns the last byte of the tag into another.
const flip = `UPDATE blobs SET ciphertext = unhex(substr(hex(ciphertext), 1, 2 * length(ciphertext) - 2)
	|| CASE substr(hex(ciphertext), -2) WHEN '00' THEN '01' ELSE '00' END) WHERE subject = 'device-1'`

const mac = "9f86d081884c7d659a2feaa0c55ad015"

// Changing the file can make a blob unreadable, never another one.
func TestForgeries(t *testing.T) {
	for what, statement := range map[string]string{
		"a bit flipped":               flip,
		"cut":                         `UPDATE blobs SET ciphertext = substr(ciphertext, 1, 5) WHERE subject = 'device-1'`,
		"another nonce":               `UPDATE blobs SET nonce = randomblob(12) WHERE subject = 'device-1'`,
		"no nonce":                    `UPDATE blobs SET nonce = NULL WHERE subject = 'device-1'`,
		"another key":                 `UPDATE blobs SET key_id = (SELECT key_id FROM blobs WHERE subject = 'device-2') WHERE subject = 'device-1'`,
		"moved to another mac":        `DELETE FROM blobs WHERE subject = 'device-1' AND mac = 'old'; UPDATE blobs SET mac = 'old' WHERE subject = 'device-1'`,
		"moved from another device":   `DELETE FROM blobs WHERE subject = 'device-1'; UPDATE blobs SET subject = 'device-1' WHERE subject = 'device-2'`,
		"older file of the same name": `UPDATE blobs SET (nonce, ciphertext) = (SELECT nonce, ciphertext FROM blobs WHERE mac = 'old') WHERE subject = 'device-1' AND mac <> 'old'`,
	} {
		t.Run(what, func(t *testing.T) {
			dir, v := t.TempDir(), &contract.MemoryVault{}
			b := open(t, dir, v)
			put(t, b, "device-1", mac, "account.1.password = geheim\n")
			put(t, b, "device-1", "old", "account.1.password = frueher\n")
			put(t, b, "device-2", mac, "account.1.password = anders\n")
			closeBlobs(t, b)
			tamper(t, dir, statement)
			b = open(t, dir, v)
			defer closeBlobs(t, b)
			name := mac
			if what == "moved to another mac" {
				name = "old"
			}
			if data, err := b.Get(t.Context(), "device-1", name); !errors.Is(err, commands.ErrForged) || data != nil {
				t.Errorf("Get = %d bytes, %v; want ErrForged", len(data), err)
			}
		})
	}
}

func TestNothingReadableInTheFile(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, &contract.MemoryVault{})
	const secret = "account.1.password = kanarienvogel-4711"
	put(t, b, "device-1", mac, secret)
	put(t, b, "device-1", "long", strings.Repeat(secret+"\n", 5000))
	closeBlobs(t, b)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v; want 0600", e.Name(), info.Mode(), err)
		}
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil || bytes.Contains(content, []byte("kanarien")) {
			t.Errorf("%s holds the secret, %v", e.Name(), err)
		}
	}
}

func TestLimits(t *testing.T) {
	b := open(t, t.TempDir(), &contract.MemoryVault{})
	defer closeBlobs(t, b)
	largest := make([]byte, MaxSize)
	if err := b.Put(t.Context(), "device-1", mac, append(largest, 0)); !errors.Is(err, ErrTooBig) {
		t.Errorf("one byte too many: %v, want ErrTooBig", err)
	}
	if err := b.Put(t.Context(), "device-1", mac, largest); err != nil {
		t.Fatal(err)
	}
	if data, err := b.Get(t.Context(), "device-1", mac); err != nil || len(data) != MaxSize {
		t.Errorf("the largest: %d bytes, %v", len(data), err)
	}
	long := strings.Repeat("x", 256)
	for _, at := range []struct {
		subject domain.Subject
		mac     string
	}{{"", mac}, {"device-1", ""}, {domain.Subject(long), mac}, {"device-1", long}} {
		if err := b.Put(t.Context(), at.subject, at.mac, nil); !errors.Is(err, ErrBadKey) {
			t.Errorf("Put under %.9q %.9q: %v, want ErrBadKey", at.subject, at.mac, err)
		}
	}
}

func TestContent(t *testing.T) {
	b := open(t, t.TempDir(), &contract.MemoryVault{})
	defer closeBlobs(t, b)
	sum, err := b.PutContent(t.Context(), "tenant-1", []byte("abc"))
	if want := "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; err != nil || sum != want {
		t.Fatalf("PutContent = %q, %v; want %q", sum, err, want)
	}
	if data, err := b.GetContent(t.Context(), "tenant-1", sum); err != nil || string(data) != "abc" {
		t.Errorf("GetContent = %q, %v", data, err)
	}
	if _, err := b.GetContent(t.Context(), "tenant-2", sum); !errors.Is(err, commands.ErrNoBlob) {
		t.Errorf("GetContent of another tenant: %v, want ErrNoBlob", err)
	}
	if _, err := b.Get(t.Context(), "tenant-1", sum); !errors.Is(err, commands.ErrNoBlob) {
		t.Errorf("content found as a file: %v, want ErrNoBlob", err)
	}
}

func TestEraseRemovesTheBytes(t *testing.T) {
	dir, v := t.TempDir(), &contract.MemoryVault{}
	b := open(t, dir, v)
	for i := range 20 {
		put(t, b, "device-1", fmt.Sprint(i), fmt.Sprint("file ", i))
	}
	put(t, b, "device-2", mac, "kept")
	sealed, err := b.row(t.Context(), "device-1", "7")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // erasing again is no error
		if err := b.Erase(t.Context(), "device-1"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Get(t.Context(), "device-1", "7"); !errors.Is(err, domain.ErrErased) {
		t.Errorf("Get: %v, want ErrErased", err)
	}
	stats, err := b.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kept, err := b.row(t.Context(), "device-2", mac)
	if err != nil {
		t.Fatal(err)
	}
	want := Stats{Blobs: 1, Erased: 20, ClearBytes: 4, StoredBytes: int64(len(kept.Ciphertext))}
	if diff := cmp.Diff(want, stats); diff != "" {
		t.Errorf("Stats (-want +got):\n%s", diff)
	}
	closeBlobs(t, b)
	content, err := os.ReadFile(filepath.Join(dir, databaseName))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(content, sealed.Ciphertext) || !bytes.Contains(content, kept.Ciphertext) {
		t.Error("blobs.db holds the erased ciphertext, or not the kept one")
	}
}

func TestStatsOfNothing(t *testing.T) {
	b := open(t, t.TempDir(), &contract.MemoryVault{})
	defer closeBlobs(t, b)
	if s, err := b.Stats(t.Context()); err != nil || s != (Stats{}) {
		t.Errorf("Stats = %+v, %v; want zeros", s, err)
	}
}

// A backup made while others write holds everything acknowledged before it began.
func TestBackupWhileWriting(t *testing.T) {
	v, restored := &contract.MemoryVault{}, t.TempDir()
	b := open(t, t.TempDir(), v)
	defer closeBlobs(t, b)
	const before = 100
	for i := range before {
		put(t, b, "device-1", fmt.Sprint(i), fmt.Sprint("file ", i))
	}
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := b.Put(ctx, "device-2", fmt.Sprint(w, "-", i), []byte("later")); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	path := filepath.Join(restored, databaseName)
	err := b.Backup(t.Context(), path)
	stop()
	writers.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Backup(t.Context(), path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Backup over a file: %v, want fs.ErrExist", err)
	}
	r := open(t, restored, v)
	defer closeBlobs(t, r)
	for i := range before {
		if data, err := r.Get(t.Context(), "device-1", fmt.Sprint(i)); err != nil || string(data) != fmt.Sprint("file ", i) {
			t.Fatalf("blob %d of the copy = %q, %v", i, data, err)
		}
	}
}

// After a failed write nothing is stored any more, and what is there is still served.
func TestDiskFailureStopsWriting(t *testing.T) {
	b := open(t, t.TempDir(), &contract.MemoryVault{})
	defer closeBlobs(t, b)
	put(t, b, "device-1", mac, "served")
	failing := func(*sqlite.Conn) error { return sqlite.ResultIOErrFsync.ToError() }
	if err := b.submit(t.Context(), &job{do: failing}); err == nil {
		t.Fatal("the failure was not answered")
	}
	if err := b.Put(t.Context(), "device-1", "new", nil); err == nil || !strings.Contains(err.Error(), "stopped writing") {
		t.Errorf("Put: %v, want a refusal", err)
	}
	if data, err := b.Get(t.Context(), "device-1", mac); err != nil || string(data) != "served" {
		t.Errorf("Get = %q, %v", data, err)
	}
}

func TestClosed(t *testing.T) {
	b := open(t, t.TempDir(), &contract.MemoryVault{})
	closeBlobs(t, b)
	closeBlobs(t, b)
	if err := b.Put(t.Context(), "device-1", mac, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Put: %v, want ErrClosed", err)
	}
	if _, err := b.Get(t.Context(), "device-1", mac); err == nil {
		t.Error("Get from closed blobs succeeded")
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	dir, v := t.TempDir(), &contract.MemoryVault{}
	closeBlobs(t, open(t, dir, v))
	tamper(t, dir, "PRAGMA user_version = 2")
	if _, err := Open(t.Context(), Options{Dir: dir, Sealer: v}); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("Open: %v, want ErrNewerFormat", err)
	}
}

func benchFile(i int64) []byte {
	var f bytes.Buffer
	fmt.Fprintf(&f, "#!version:1.0.0.1\n## device %d\n", i)
	for line := range 16 {
		for _, key := range []string{"enable", "label", "display_name", "user_name", "auth_name", "password", "sip_server.1.address"} {
			fmt.Fprintf(&f, "account.%d.%s = %x\n", line+1, key, i*int64(line+7))
		}
	}
	return f.Bytes()
}

// BenchmarkPut stores different files of about 4 KB from 64 callers, as a sweep does.
func BenchmarkPut(b *testing.B) {
	s := open(b, b.TempDir(), &contract.MemoryVault{})
	defer closeBlobs(b, s)
	var n atomic.Int64
	b.SetParallelism(32)
	b.SetBytes(int64(len(benchFile(1))))
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			i := n.Add(1)
			if err := s.Put(context.Background(), domain.Subject(fmt.Sprint("device-", i)), mac, benchFile(i)); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkGet(b *testing.B) {
	s := open(b, b.TempDir(), &contract.MemoryVault{})
	defer closeBlobs(b, s)
	if err := s.Put(b.Context(), "device-1", mac, benchFile(1)); err != nil {
		b.Fatal(err)
	}
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, err := s.Get(context.Background(), "device-1", mac); err != nil {
				b.Error(err)
			}
		}
	})
}

func open(t testing.TB, dir string, s Sealer) *Blobs {
	t.Helper()
	b, err := Open(t.Context(), Options{Dir: dir, Sealer: s})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func closeBlobs(t testing.TB, b *Blobs) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func put(t testing.TB, b *Blobs, subject domain.Subject, mac, data string) {
	t.Helper()
	if err := b.Put(t.Context(), subject, mac, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

// tamper changes closed blobs behind their back.
func tamper(t testing.TB, dir, statements string) {
	t.Helper()
	conn, err := sqlite.OpenConn(filepath.Join(dir, databaseName), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := sqlitex.ExecuteScript(conn, statements, nil); err != nil {
		t.Fatal(err)
	}
}
