package vault

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/tests/contract"
	"ledgerline/tests/postgres"
)

// keyFile is a master key file that begins with the byte given.
func keyFile(t testing.TB, first byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "master.key")
	if err := os.WriteFile(path, append([]byte{first}, strings.Repeat("k3y!", 8)[:31]...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func schemaOf(place string) string {
	sum := sha256.Sum256([]byte(place))
	return "p" + hex.EncodeToString(sum[:8])
}

// opener opens shared vaults by place: one schema each.
func opener(server *postgres.Server, master string, clock func() time.Time) func(t testing.TB, place string) (*Shared, func()) {
	return func(t testing.TB, place string) (*Shared, func()) {
		t.Helper()
		pool := server.Pool(t, schemaOf(place))
		v, err := OpenShared(t.Context(), SharedOptions{Pool: pool, MasterKeyFile: master, Clock: clock})
		if err != nil {
			t.Fatal(err)
		}
		return v, func() {
			if err := v.Close(); err != nil {
				t.Error(err)
			}
			pool.Close()
		}
	}
}

func TestSharedContract(t *testing.T) {
	server, ok := postgres.Start(t)
	if !ok {
		return
	}
	open := opener(server, keyFile(t, 'a'), nil)
	contract.Vault(t, func(t testing.TB, place string) (commands.Vault, func()) { return open(t, place) })

	t.Run("two replicas make one key, and read what the other sealed", func(t *testing.T) {
		place := t.TempDir()
		a, closeA := open(t, place)
		defer closeA()
		b, closeB := open(t, place)
		defer closeB()
		type made struct {
			id      string
			created bool
			err     error
		}
		for i := range 20 {
			subject := domain.Subject(fmt.Sprint("line-", i))
			answers := make(chan made, 2)
			for _, v := range []*Shared{a, b} {
				go func() {
					id, created, err := v.Ensure(t.Context(), subject)
					answers <- made{id, created, err}
				}()
			}
			x, y := <-answers, <-answers
			if x.err != nil || y.err != nil || x.id != y.id || x.created == y.created {
				t.Fatalf("%+v and %+v", x, y)
			}
		}
		sealed, err := a.Seal(t.Context(), "line-1", "geheim", "e#/p")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := b.Open(t.Context(), sealed); err != nil || got != "geheim" {
			t.Fatal(got, err)
		}
	})

	t.Run("an erasure elsewhere counts at once when told, and after 60 seconds in any case", func(t *testing.T) {
		now := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
		timed := opener(server, keyFile(t, 'a'), func() time.Time { return now })
		place := t.TempDir()
		a, closeA := timed(t, place)
		defer closeA()
		b, closeB := timed(t, place)
		defer closeB()
		told, err := a.Seal(t.Context(), "user-told", "Anna", "e#/n")
		if err != nil {
			t.Fatal(err)
		}
		untold, err := a.Seal(t.Context(), "user-untold", "Bert", "e#/n")
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []domain.Subject{"user-told", "user-untold"} {
			if err := b.Erase(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		a.Forget("user-told")
		if _, err := a.Open(t.Context(), told); !errors.Is(err, domain.ErrErased) {
			t.Errorf("told of the erasure: %v", err)
		}
		now = now.Add(cacheTTL)
		if _, err := a.Open(t.Context(), untold); !errors.Is(err, domain.ErrErased) {
			t.Errorf("a minute after the erasure: %v", err)
		}
	})

	t.Run("no row holds an erased key, and none any clear key", func(t *testing.T) {
		place := t.TempDir()
		v, done := open(t, place)
		defer done()
		for _, s := range []domain.Subject{"user-anna", "user-bert"} {
			if _, _, err := v.Ensure(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		if err := v.Erase(t.Context(), "user-anna"); err != nil {
			t.Fatal(err)
		}
		if report, err := v.Check(t.Context()); err != nil || report.Live != 1 || report.Destroyed != 1 || report.Bad != 0 {
			t.Errorf("check: %+v, %v", report, err)
		}
		if exists, err := SharedExists(t.Context(), v.pool); err != nil || !exists {
			t.Errorf("exists: %v, %v", exists, err)
		}
		var wrapped int
		var left string
		if err := v.pool.QueryRow(t.Context(), `SELECT count(*), min(subject) FROM ledgerline_vault_wrapped`).Scan(&wrapped, &left); err != nil || wrapped != 1 || left != "user-bert" {
			t.Fatalf("%d rows, first of %s, %v", wrapped, left, err)
		}
		bert, err := v.readKey(t.Context(), bySubject, "user-bert")
		if err != nil {
			t.Fatal(err)
		}
		var clear bool
		if _, err := v.pool.Exec(t.Context(), `UPDATE ledgerline_vault_keys SET key_id = 'another' WHERE subject = 'user-bert'`); err != nil {
			t.Fatal(err)
		}
		if report, err := v.Check(t.Context()); err != nil || report.Bad != 1 || report.BadSubjects[0] != "user-bert" {
			t.Errorf("check after a row was changed: %+v, %v", report, err)
		}
		if err := v.pool.QueryRow(t.Context(), `SELECT position($1::bytea in bytes) > 0 FROM ledgerline_vault_wrapped`, bert.data).Scan(&clear); err != nil || clear {
			t.Fatalf("clear key in the database: %v, %v", clear, err)
		}
	})

	t.Run("another master key is refused, and a missing one", func(t *testing.T) {
		place := t.TempDir()
		_, done := open(t, place)
		defer done()
		pool := server.Pool(t, schemaOf(place))
		defer pool.Close()
		for path, want := range map[string]error{keyFile(t, 'b'): ErrWrongMasterKey, filepath.Join(t.TempDir(), "none"): ErrMasterKeyLost} {
			if _, err := OpenShared(t.Context(), SharedOptions{Pool: pool, MasterKeyFile: path}); !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
		}
		empty := server.Pool(t, "empty")
		defer empty.Close()
		if _, err := OpenShared(t.Context(), SharedOptions{Pool: empty, MasterKeyFile: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, ErrNoMasterKey) {
			t.Errorf("%v, want %v", err, ErrNoMasterKey)
		}
	})

	t.Run("many replicas can start at once on an empty database", func(t *testing.T) {
		place, master := t.TempDir(), keyFile(t, 'c')
		errs := make(chan error, 8)
		for range cap(errs) {
			pool := server.Pool(t, schemaOf(place))
			defer pool.Close()
			go func() {
				v, err := OpenShared(context.WithoutCancel(t.Context()), SharedOptions{Pool: pool, MasterKeyFile: master})
				if err == nil {
					err = v.Close()
				}
				errs <- err
			}()
		}
		for range cap(errs) {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	})
}
