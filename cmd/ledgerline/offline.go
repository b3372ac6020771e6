package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/adapters/ledger"
	"ledgerline/adapters/vault"
	"ledgerline/domain"
)

// keyCmd looks after the vault's master key.
func (a *app) keyCmd() *cobra.Command {
	var o vault.Options
	cmd := &cobra.Command{Use: "key", Short: "The vault's master key"}
	cmd.PersistentFlags().StringVar(&o.Dir, "data", envOr(a.getenv, "LEDGERLINE_DATA", "./data"), "data directory")
	cmd.PersistentFlags().StringVar(&o.MasterKeyFile, "master-key-file", a.getenv("LEDGERLINE_MASTER_KEY_FILE"), "file with the master key; default master.key in the data directory")
	cmd.AddCommand(&cobra.Command{Use: "check", Short: "Does the master key open every key in the vault? Also while the server runs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := os.Stat(filepath.Join(o.Dir, "vault.db")); errors.Is(err, fs.ErrNotExist) {
				return exitError{exitNotFound, fmt.Errorf("there is no vault in %s (see --data)", o.Dir)}
			}
			report, err := vault.Check(cmd.Context(), o)
			if err != nil {
				return err
			}
			if err := a.printValue(report); err != nil {
				return err
			}
			if report.Bad > 0 {
				return exitError{exitDamaged, fmt.Errorf("%d keys do not open", report.Bad)}
			}
			return nil
		}})
	var newKey string
	rotate := &cobra.Command{Use: "rotate", Short: "Put a new master key in the place of the old one; the server must be stopped", Args: cobra.NoArgs}
	rotate.Flags().StringVar(&newKey, "new-key-file", "", "file with the new key; default a random one")
	rotate.RunE = func(cmd *cobra.Command, _ []string) error {
		var secret []byte
		if newKey != "" {
			var err error
			if secret, err = vault.ReadMasterKey(newKey); err != nil {
				return fmt.Errorf("read the new key: %w", err)
			}
		}
		if _, err := os.Stat(filepath.Join(o.Dir, "vault.db")); err != nil {
			return exitError{exitNotFound, fmt.Errorf("there is no vault in %s (see --data)", o.Dir)}
		}
		v, err := vault.Open(cmd.Context(), o)
		if err != nil {
			return err
		}
		defer v.Close()
		before := v.MasterFingerprint()
		if err := v.Rotate(cmd.Context(), secret); err != nil {
			return err
		}
		return a.printValue(map[string]any{"old_fingerprint": before, "new_fingerprint": v.MasterFingerprint()})
	}
	cmd.AddCommand(rotate)
	return cmd
}

func envOr(getenv func(string) string, name, otherwise string) string {
	if v := getenv(name); v != "" {
		return v
	}
	return otherwise
}

// manifest describes a backup, so that restoring can tell a whole one from a part.
type manifest struct {
	Format   int               `json:"format"`
	MadeAt   time.Time         `json:"made_at"`
	Position domain.Position   `json:"position"`
	LogID    string            `json:"log_id"`
	Files    map[string]string `json:"files"` // sha256 by name
}

// backupCmd copies ledger, blobs and vault while the server goes on.
func (a *app) backupCmd() *cobra.Command {
	var data, out string
	cmd := &cobra.Command{Use: "backup --out DIR", Short: "Copy ledger, blobs and vault while the server runs", Args: cobra.NoArgs,
		Long: `Copies ledger.db, blobs.db and vault.db, in that order, so that everything in the copied history can be opened with the copied
keys. The master key is not copied: keep it elsewhere. Views are not copied: they follow from the ledger. A copy of the vault
resurrects what is erased later: keep backups of it for at most 30 days; restore destroys again what the log says was destroyed.`}
	cmd.Flags().StringVar(&data, "data", envOr(a.getenv, "LEDGERLINE_DATA", "./data"), "data directory")
	cmd.Flags().StringVar(&out, "out", "", "directory to make")
	_ = cmd.MarkFlagRequired("out")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		m, err := backup(cmd.Context(), data, out)
		if err != nil {
			return err
		}
		return a.printValue(m)
	}
	return cmd
}

func backup(ctx context.Context, data, out string) (manifest, error) {
	m := manifest{Format: 1, MadeAt: time.Now().UTC(), Files: map[string]string{}}
	l, err := openToRead(ctx, data, false)
	if err != nil {
		return m, err
	}
	defer l.Close()
	if err := os.Mkdir(out, 0o700); err != nil {
		return m, fmt.Errorf("make the backup directory: %w", err)
	}
	if err := l.Backup(ctx, filepath.Join(out, "ledger.db")); err != nil {
		return m, fmt.Errorf("copy the ledger: %w", err)
	}
	copied, err := ledger.Open(ctx, ledger.Options{Dir: out, ReadOnly: true})
	if err != nil {
		return m, fmt.Errorf("open the copy: %w", err)
	}
	m.LogID = copied.ID()
	m.Position, err = copied.Head(ctx)
	if err := errors.Join(err, copied.Close()); err != nil {
		return m, fmt.Errorf("read the copy: %w", err)
	}
	for _, name := range []string{"blobs.db", "vault.db"} {
		if err := copyDatabase(ctx, filepath.Join(data, name), filepath.Join(out, name)); err != nil {
			return m, fmt.Errorf("copy %s: %w", name, err)
		}
	}
	for _, name := range []string{"ledger.db", "blobs.db", "vault.db"} {
		if m.Files[name], err = fileSHA256(filepath.Join(out, name)); err != nil {
			return m, err
		}
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return m, err
	}
	return m, os.WriteFile(filepath.Join(out, "backup.json"), append(b, '\n'), 0o600)
}

// copyDatabase makes a consistent copy of a database another process may be writing to.
func copyDatabase(ctx context.Context, from, to string) error {
	conn, err := sqlite.OpenConn(from, sqlite.OpenReadOnly|sqlite.OpenWAL)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetInterrupt(ctx.Done())
	if err := sqlitex.ExecuteTransient(conn, "VACUUM INTO ?", &sqlitex.ExecOptions{Args: []any{to}}); err != nil {
		return err
	}
	if err := os.Chmod(to, 0o600); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func fileSHA256(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// restoreCmd puts a backup into an empty data directory.
func (a *app) restoreCmd() *cobra.Command {
	var from, data, key string
	cmd := &cobra.Command{Use: "restore --from DIR --data DIR", Short: "Put a backup into a new data directory, and check it", Args: cobra.NoArgs}
	cmd.Flags().StringVar(&from, "from", "", "the backup")
	cmd.Flags().StringVar(&data, "data", envOr(a.getenv, "LEDGERLINE_DATA", "./data"), "data directory to fill; must have no ledger")
	cmd.Flags().StringVar(&key, "master-key-file", a.getenv("LEDGERLINE_MASTER_KEY_FILE"), "the master key of the backup's time; default master.key in the data directory")
	_ = cmd.MarkFlagRequired("from")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		report, err := restore(cmd.Context(), from, data, key)
		if err != nil {
			return err
		}
		return a.printValue(report)
	}
	return cmd
}

// restored is what a restore did.
type restored struct {
	Position    domain.Position `json:"position"`
	Events      int             `json:"events"`
	ErasedAgain int             `json:"erased_again"`
}

func restore(ctx context.Context, from, data, key string) (restored, error) {
	var r restored
	b, err := os.ReadFile(filepath.Join(from, "backup.json"))
	if err != nil {
		return r, fmt.Errorf("read the backup: %w", err)
	}
	var m manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return r, fmt.Errorf("read backup.json: %w", err)
	}
	for name, sum := range m.Files {
		got, err := fileSHA256(filepath.Join(from, name))
		if err != nil {
			return r, err
		}
		if got != sum {
			return r, exitError{exitDamaged, fmt.Errorf("%s in the backup is not what was written", name)}
		}
	}
	if _, err := os.Stat(filepath.Join(data, "ledger.db")); !errors.Is(err, fs.ErrNotExist) {
		return r, exitError{exitConflict, fmt.Errorf("%s has a ledger already", data)}
	}
	if key == "" {
		if _, err := os.Stat(filepath.Join(data, "master.key")); err != nil {
			return r, usageError("put the master key into %s first, or name it with --master-key-file: without it nothing sealed can be read", data)
		}
	}
	// A key that does not open this vault is told before anything is put into place.
	opener := key
	if opener == "" {
		opener = filepath.Join(data, "master.key")
	}
	if report, err := vault.Check(ctx, vault.Options{Dir: from, MasterKeyFile: opener}); err != nil {
		return r, fmt.Errorf("open the vault of the backup: %w", err)
	} else if report.Bad > 0 {
		return r, exitError{exitDamaged, fmt.Errorf("%d keys in the vault of the backup do not open", report.Bad)}
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return r, err
	}
	for name := range m.Files {
		if err := copyFile(filepath.Join(from, name), filepath.Join(data, name)); err != nil {
			return r, err
		}
	}
	l, err := ledger.Open(ctx, ledger.Options{Dir: data})
	if err != nil {
		return r, fmt.Errorf("open the restored ledger: %w", err)
	}
	defer l.Close()
	if _, err := l.Verify(ctx, domain.Position{}); err != nil {
		return r, damaged(err)
	}
	r.Position = m.Position
	v, err := vault.Open(ctx, vault.Options{Dir: data, MasterKeyFile: key})
	if err != nil {
		return r, fmt.Errorf("open the restored vault: %w", err)
	}
	defer v.Close()
	for rec, err := range l.ReadAll(ctx, domain.Position{}) {
		if err != nil {
			return r, err
		}
		r.Events++
		if rec.Type != (domain.KeyDestroyed{}).EventType() {
			continue
		}
		e, err := rec.Event()
		if err != nil {
			return r, err
		}
		if err := v.Erase(ctx, e.(domain.KeyDestroyed).Subject); err != nil {
			return r, fmt.Errorf("destroy a key again: %w", err)
		}
		r.ErasedAgain++
	}
	return r, nil
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Sync(), dst.Close())
}

// damaged gives damage its exit code.
func damaged(err error) error {
	if errors.Is(err, domain.ErrDamaged) {
		return exitError{exitDamaged, err}
	}
	return err
}
