package vault

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/tests/contract"
)

func TestContract(t *testing.T) {
	contract.Vault(t, func(t testing.TB, place string) (commands.Vault, func()) {
		v := open(t, Options{Dir: place})
		return v, func() { closeVault(t, v) }
	})
}

// The fake that other packages test with is held to the same contract.
func TestContractOfMemoryVault(t *testing.T) {
	places := map[string]*contract.MemoryVault{}
	contract.Vault(t, func(_ testing.TB, place string) (commands.Vault, func()) {
		if places[place] == nil {
			places[place] = &contract.MemoryVault{}
		}
		return places[place], func() {}
	})
}

// Nobody's wrapped key may stay behind, however often the pages of the file were split before.
func TestErasedKeysAreInNoFile(t *testing.T) {
	dir := t.TempDir()
	v := open(t, Options{Dir: dir})
	subjects := manySubjects(t, v, 3000)
	wrapped := wrappedKeys(t, v)
	if got := found(t, dir, wrapped); len(got) != len(subjects) {
		t.Fatalf("before: %d of %d wrapped keys found in the files; the search proves nothing", len(got), len(subjects))
	}
	rand.Shuffle(len(subjects), func(i, j int) { subjects[i], subjects[j] = subjects[j], subjects[i] })
	erased := subjects[:200]
	for _, s := range erased {
		if err := v.Erase(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	wantFound(t, dir, wrapped, subjects[200:])
	closeVault(t, v)
	wantFound(t, dir, wrapped, subjects[200:])
}

func TestErasingManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	v := open(t, Options{Dir: dir})
	defer closeVault(t, v)
	subjects := manySubjects(t, v, 200)
	wrapped := wrappedKeys(t, v)
	var all sync.WaitGroup
	for _, s := range subjects[:150] {
		all.Go(func() {
			if err := v.Erase(t.Context(), s); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	wantFound(t, dir, wrapped, subjects[150:])
}

// A crash after the erasure was committed and before the files were cleared: opening clears them.
func TestOpenFinishesAnErasure(t *testing.T) {
	dir, copied := t.TempDir(), t.TempDir()
	v := open(t, Options{Dir: dir})
	manySubjects(t, v, 3)
	wrapped := wrappedKeys(t, v)
	if err := v.submit(t.Context(), &job{do: func(conn *sqlite.Conn) error { return destroyKey(conn, "line-1", time.Now()) }}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{databaseName, databaseName + "-wal", keyFileName} {
		copyFile(t, filepath.Join(dir, name), filepath.Join(copied, name))
	}
	closeVault(t, v)
	if !found(t, copied, wrapped)["line-1"] {
		t.Fatal("the crash image does not hold the wrapped key; the test proves nothing")
	}
	v = open(t, Options{Dir: copied})
	defer closeVault(t, v)
	wantFound(t, copied, wrapped, []domain.Subject{"line-0", "line-2"})
}

func TestEraseTellsWhenAReaderKeepsOldPages(t *testing.T) {
	dir := t.TempDir()
	v := open(t, Options{Dir: dir})
	defer closeVault(t, v)
	manySubjects(t, v, 2)
	wrapped := wrappedKeys(t, v)
	impatient := func(conn *sqlite.Conn) error { conn.SetBusyTimeout(time.Millisecond); return nil }
	if err := v.submit(t.Context(), &job{do: impatient}); err != nil {
		t.Fatal(err)
	}
	reader, err := sqlite.OpenConn(filepath.Join(dir, databaseName), sqlite.OpenReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	run(t, reader, "BEGIN")
	run(t, reader, "SELECT * FROM keys")
	if err := v.Erase(t.Context(), "line-0"); !errors.Is(err, ErrTraces) {
		t.Errorf("Erase beside a reader: %v, want ErrTraces", err)
	}
	if _, err := v.Seal(t.Context(), "line-0", "x", "a"); !errors.Is(err, domain.ErrErased) {
		t.Errorf("Seal: %v, want ErrErased all the same", err)
	}
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	if err := v.Erase(t.Context(), "line-0"); err != nil {
		t.Errorf("Erase again: %v", err)
	}
	wantFound(t, dir, wrapped, []domain.Subject{"line-1"})
}

// Another replica destroys the key: this one notices within 60 seconds, or at once when told.
func TestCacheAges(t *testing.T) {
	var now atomic.Int64
	now.Store(time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC).UnixNano())
	v := open(t, Options{Dir: t.TempDir(), Clock: func() time.Time { return time.Unix(0, now.Load()) }})
	defer closeVault(t, v)
	seal := func(s domain.Subject) error { _, err := v.Seal(t.Context(), s, "x", "a"); return err }
	for _, s := range []domain.Subject{"user-aged", "user-told"} {
		if err := seal(s); err != nil {
			t.Fatal(err)
		}
		elsewhere := func(conn *sqlite.Conn) error { return destroyKey(conn, s, v.clock()) }
		if err := v.submit(t.Context(), &job{do: elsewhere}); err != nil {
			t.Fatal(err)
		}
	}
	now.Add(int64(60*time.Second - 1))
	if err := seal("user-aged"); err != nil {
		t.Errorf("after 59.9 s: %v, want the cached key", err)
	}
	now.Add(1)
	if err := seal("user-aged"); !errors.Is(err, domain.ErrErased) {
		t.Errorf("after 60 s: %v, want ErrErased", err)
	}
	now.Add(-2)
	if err := seal("user-told"); err != nil {
		t.Errorf("before Forget: %v, want the cached key", err)
	}
	v.Forget("user-told")
	if err := seal("user-told"); !errors.Is(err, domain.ErrErased) {
		t.Errorf("after Forget: %v, want ErrErased", err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache(10, time.Minute)
	now := time.Now()
	for i := range 100 {
		c.put(&key{subject: domain.Subject(fmt.Sprint(i)), id: fmt.Sprint("id", i)}, now)
	}
	if len(c.subjects) != 10 || len(c.ids) != 10 {
		t.Errorf("%d subjects, %d ids; want 10 of each", len(c.subjects), len(c.ids))
	}
	c.sweep(now.Add(time.Minute))
	if len(c.subjects) != 0 || len(c.ids) != 0 {
		t.Errorf("after a sweep: %d subjects, %d ids; want none", len(c.subjects), len(c.ids))
	}
}

// A key read before an erasure must not come into the cache after it.
func TestCacheTakesNoStaleKey(t *testing.T) {
	c := newCache(10, time.Minute)
	generation := c.generation()
	c.forget("user-anna")
	if c.putIf(&key{subject: "user-anna", id: "1"}, time.Now(), generation) {
		t.Error("a key read before it was forgotten was kept")
	}
}

func TestOneProcessHasTheVault(t *testing.T) {
	dir := t.TempDir()
	v := open(t, Options{Dir: dir})
	if _, err := Open(t.Context(), Options{Dir: dir}); !errors.Is(err, ErrLocked) {
		t.Errorf("second Open: %v, want ErrLocked", err)
	}
	closeVault(t, v)
	closeVault(t, open(t, Options{Dir: dir}))
}

func TestClosed(t *testing.T) {
	v := open(t, Options{Dir: t.TempDir()})
	closeVault(t, v)
	closeVault(t, v)
	if err := v.Erase(t.Context(), "user-anna"); !errors.Is(err, ErrClosed) {
		t.Errorf("Erase: %v, want ErrClosed", err)
	}
	if _, err := v.Seal(t.Context(), "user-anna", "x", "a"); err == nil {
		t.Error("Seal in a closed vault succeeded")
	}
}

func TestBadSubjects(t *testing.T) {
	v := open(t, Options{Dir: t.TempDir()})
	defer closeVault(t, v)
	for _, s := range []domain.Subject{"", domain.Subject(strings.Repeat("x", 256))} {
		if _, _, err := v.Ensure(t.Context(), s); !errors.Is(err, ErrBadSubject) {
			t.Errorf("Ensure: %v, want ErrBadSubject", err)
		}
		if err := v.Erase(t.Context(), s); !errors.Is(err, ErrBadSubject) {
			t.Errorf("Erase: %v, want ErrBadSubject", err)
		}
	}
}

// After a failed write nothing is written any more, and what can be read is still read.
func TestDiskFailureStopsWriting(t *testing.T) {
	v := open(t, Options{Dir: t.TempDir()})
	defer closeVault(t, v)
	sealed, err := v.Seal(t.Context(), "line-1", "geheim", "a")
	if err != nil {
		t.Fatal(err)
	}
	failing := func(*sqlite.Conn) error { return sqlite.ResultIOErrFsync.ToError() }
	if err := v.submit(t.Context(), &job{do: failing}); err == nil {
		t.Fatal("the failure was not answered")
	}
	if _, _, err := v.Ensure(t.Context(), "line-2"); err == nil || !strings.Contains(err.Error(), "stopped writing") {
		t.Errorf("Ensure of a new key: %v, want a refusal", err)
	}
	if got, err := v.Open(t.Context(), sealed); err != nil || got != "geheim" {
		t.Errorf("Open = %q, %v; want the text", got, err)
	}
}

// A job that fails undoes its whole batch, and everybody in it is told.
func TestBatchIsAllOrNothing(t *testing.T) {
	v := open(t, Options{Dir: t.TempDir()})
	good := &job{
		do:    func(conn *sqlite.Conn) error { return destroyKey(conn, "line-1", time.Now()) },
		after: func() { t.Error("after ran for an undone batch") },
		done:  make(chan error, 1),
	}
	bad := &job{do: func(*sqlite.Conn) error { return errors.New("no") }, done: make(chan error, 1)}
	conn, err := sqlite.OpenConn(filepath.Join(v.dir, databaseName), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	if broken := v.commit(conn, []*job{good, bad}, nil); broken != nil {
		t.Errorf("the writer was stopped: %v", broken)
	}
	if <-good.done == nil || <-bad.done == nil {
		t.Error("somebody was told that his job is done")
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if _, created, err := v.Ensure(t.Context(), "line-1"); err != nil || !created {
		t.Errorf("Ensure = %v, %v; want the erasure undone", created, err)
	}
	closeVault(t, v)
}

func TestFilesOfAVault(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	v := open(t, Options{Dir: dir})
	if v.CreatedMasterKey() != filepath.Join(dir, keyFileName) {
		t.Errorf("CreatedMasterKey = %q, want the file that was made", v.CreatedMasterKey())
	}
	manySubjects(t, v, 5)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v; want 0600", e.Name(), info.Mode(), err)
		}
	}
	secret, err := ReadMasterKey(filepath.Join(dir, keyFileName))
	if err != nil {
		t.Fatal(err)
	}
	closeVault(t, v)
	for _, form := range [][]byte{secret, []byte(hex.EncodeToString(secret))} {
		if bytes.Contains(read(t, filepath.Join(dir, databaseName)), form) {
			t.Error("vault.db holds the master key")
		}
	}
	v = open(t, Options{Dir: dir})
	defer closeVault(t, v)
	if v.CreatedMasterKey() != "" {
		t.Errorf("CreatedMasterKey = %q for a key that was there", v.CreatedMasterKey())
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	closeVault(t, open(t, Options{Dir: dir}))
	tamper(t, dir, "PRAGMA user_version = 2")
	if _, err := Open(t.Context(), Options{Dir: dir}); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("Open: %v, want ErrNewerFormat", err)
	}
	if _, err := Check(t.Context(), Options{Dir: dir}); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("Check: %v, want ErrNewerFormat", err)
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	v := open(t, Options{Dir: dir})
	manySubjects(t, v, 7)
	if err := v.Erase(t.Context(), "line-3"); err != nil {
		t.Fatal(err)
	}
	want := CheckReport{MasterFingerprint: v.MasterFingerprint(), Live: 6, Destroyed: 1}
	open, err := v.Check(t.Context())
	wantReport(t, "open vault", open, err, want)
	beside, err := Check(t.Context(), Options{Dir: dir})
	wantReport(t, "beside the server", beside, err, want)
	closeVault(t, v)

	tamper(t, dir, `UPDATE wrapped SET bytes = (SELECT w.bytes FROM keys k JOIN wrapped w USING (id) WHERE subject = 'line-0')
		WHERE id IN (SELECT id FROM keys WHERE subject IN ('line-1', 'line-3'))`)
	want.Live, want.Destroyed, want.Bad, want.BadSubjects = 5, 0, 2, []domain.Subject{"line-1", "line-3"}
	closed, err := Check(t.Context(), Options{Dir: dir})
	slices.Sort(closed.BadSubjects)
	wantReport(t, "closed and damaged", closed, err, want)

	if _, err := Check(t.Context(), Options{Dir: t.TempDir()}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no vault: %v, want fs.ErrNotExist", err)
	}
}

func TestDamagedKeyIsNamed(t *testing.T) {
	dir := t.TempDir()
	v := open(t, Options{Dir: dir})
	manySubjects(t, v, 2)
	closeVault(t, v)
	tamper(t, dir, `UPDATE wrapped SET bytes = randomblob(60) WHERE id = (SELECT id FROM keys WHERE subject = 'line-1')`)
	v = open(t, Options{Dir: dir})
	defer closeVault(t, v)
	if _, err := v.Seal(t.Context(), "line-1", "x", "a"); err == nil || !strings.Contains(err.Error(), "line-1 is damaged") {
		t.Errorf("Seal: %v, want the damaged key named", err)
	}
	if _, err := v.Seal(t.Context(), "line-0", "x", "a"); err != nil {
		t.Errorf("the other key: %v", err)
	}
}

func TestBackup(t *testing.T) {
	dir, restored := t.TempDir(), t.TempDir()
	v := open(t, Options{Dir: dir})
	defer closeVault(t, v)
	manySubjects(t, v, 50)
	sealed, err := v.Seal(t.Context(), "line-7", "geheim", "a")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(restored, databaseName)
	if err := v.Backup(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the copy has mode %v, %v; want 0600", info.Mode(), err)
	}
	if err := v.Backup(t.Context(), path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Backup over a file: %v, want fs.ErrExist", err)
	}
	if err := v.Erase(t.Context(), "line-7"); err != nil {
		t.Fatal(err)
	}
	r := open(t, Options{Dir: restored, MasterKeyFile: filepath.Join(dir, keyFileName)})
	defer closeVault(t, r)
	if got, err := r.Open(t.Context(), sealed); err != nil || got != "geheim" {
		t.Errorf("Open from the copy made before the erasure = %q, %v; want the text", got, err)
	}
}

// Keys are read from the file while others are made and erased and the master key is replaced.
func TestEverythingAtOnce(t *testing.T) {
	v := open(t, Options{Dir: t.TempDir()})
	defer closeVault(t, v)
	v.cache.size = 4
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 60 {
				s := domain.Subject(fmt.Sprintf("line-%d", (i*7+n)%40))
				sealed, err := v.Seal(t.Context(), s, string(s), "a")
				if err != nil {
					t.Error(err)
					return
				}
				v.Forget(s)
				if got, err := v.Open(t.Context(), sealed); err != nil || got != string(s) {
					t.Errorf("Open = %q, %v; want %q", got, err, s)
				}
			}
		})
	}
	all.Go(func() {
		for range 5 {
			if err := v.Rotate(t.Context(), nil); err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
	if r, err := v.Check(t.Context()); err != nil || r.Live != 40 || r.Bad != 0 {
		t.Errorf("Check = %+v, %v; want 40 live keys", r, err)
	}
}

func open(t testing.TB, o Options) *Vault {
	t.Helper()
	v, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func closeVault(t testing.TB, v *Vault) {
	t.Helper()
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}

// manySubjects makes keys for line-0 … line-(n-1), many at once.
func manySubjects(t testing.TB, v *Vault, n int) []domain.Subject {
	t.Helper()
	subjects := make([]domain.Subject, n)
	var all sync.WaitGroup
	next := make(chan int)
	for range min(n, 64) {
		all.Go(func() {
			for i := range next {
				if _, _, err := v.Ensure(context.Background(), subjects[i]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range subjects {
		subjects[i] = domain.Subject(fmt.Sprintf("line-%d", i))
		next <- i
	}
	close(next)
	all.Wait()
	return subjects
}

func wrappedKeys(t testing.TB, v *Vault) map[domain.Subject][]byte {
	t.Helper()
	wrapped := map[domain.Subject][]byte{}
	conn, err := v.read.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer v.read.put(conn)
	if err := eachRow(conn, func(r row) { wrapped[r.subject] = r.wrapped }); err != nil {
		t.Fatal(err)
	}
	return wrapped
}

// found tells whose wrapped key is in some file of dir. The first 16 bytes of the ciphertext would do
// for an attacker as little as the whole, so they are what is looked for.
func found(t testing.TB, dir string, wrapped map[domain.Subject][]byte) map[domain.Subject]bool {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	in := map[domain.Subject]bool{}
	for _, e := range entries {
		content := read(t, filepath.Join(dir, e.Name()))
		for s, w := range wrapped {
			if bytes.Contains(content, w[nonceSize:nonceSize+16]) {
				in[s] = true
			}
		}
	}
	return in
}

func wantFound(t testing.TB, dir string, wrapped map[domain.Subject][]byte, want []domain.Subject) {
	t.Helper()
	in := map[domain.Subject]bool{}
	for _, s := range want {
		in[s] = true
	}
	if diff := cmp.Diff(in, found(t, dir, wrapped)); diff != "" {
		t.Errorf("wrapped keys in the files (-want +got):\n%s", diff)
	}
}

func wantReport(t testing.TB, what string, got CheckReport, err error, want CheckReport) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	if err := os.WriteFile(to, read(t, from), 0o600); err != nil {
		t.Fatal(err)
	}
}

// tamper changes a closed vault behind its back.
func tamper(t testing.TB, dir, statement string) {
	t.Helper()
	conn, err := sqlite.OpenConn(filepath.Join(dir, databaseName), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	run(t, conn, statement)
}

func run(t testing.TB, conn *sqlite.Conn, statement string) {
	t.Helper()
	if err := sqlitex.ExecuteTransient(conn, statement, nil); err != nil {
		t.Fatal(err)
	}
}
