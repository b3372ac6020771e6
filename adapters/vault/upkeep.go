package vault

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/domain"
)

// Rotate replaces the master key: every data key is wrapped anew in one transaction and the key file is
// replaced; what is sealed stays as it is. A nil secret means a new random key; else it has 32 bytes
// (see ReadMasterKey). A crash at any point leaves a pair that opens: the new key is first written
// beside the old as "<key file>.next", then the database changes, then the file is renamed; Open
// finishes what is missing. Errors: ErrBadMasterKey, ErrFixedMasterKey; ErrTraces after the new key is in
// place.
//
// Backups of vault.db made before need the old key: keep it as long as them.
func (v *Vault) Rotate(ctx context.Context, secret []byte) error {
	if v.source.credential {
		return fmt.Errorf("rotate master key: %w", ErrFixedMasterKey)
	}
	if secret == nil {
		secret = make([]byte, keySize)
		rand.Read(secret)
	}
	if err := v.rotate(ctx, secret); err != nil {
		return fmt.Errorf("rotate master key: %w", err)
	}
	return nil
}

func (v *Vault) rotate(ctx context.Context, secret []byte) error {
	if len(secret) != keySize {
		return ErrBadMasterKey
	}
	m, err := newMaster(secret)
	if err != nil {
		return err
	}
	if err := writeKeyFile(v.source.target()+nextSuffix, secret); err != nil {
		return err
	}
	if err := v.at("next written"); err != nil {
		return err
	}
	err = v.submitAlone(ctx, &job{
		do:    func(conn *sqlite.Conn) error { return v.rewrap(conn, m) },
		after: func() { v.master = m },
		scrub: true,
	})
	traces := errors.Is(err, ErrTraces)
	if err != nil && !traces {
		return err
	}
	if err := v.at("committed"); err != nil {
		return err
	}
	if err := v.source.promote(); err != nil {
		return err
	}
	if traces {
		return ErrTraces
	}
	return v.at("replaced")
}

func (v *Vault) at(step string) error {
	if v.crash == nil {
		return nil
	}
	return v.crash(step)
}

func (v *Vault) rewrap(conn *sqlite.Conn, m *master) error {
	var rows []row
	if err := eachRow(conn, func(r row) { rows = append(rows, r) }); err != nil {
		return err
	}
	for _, r := range rows {
		if r.destroyed {
			continue
		}
		k, err := v.master.unwrap(r)
		if err != nil {
			return err
		}
		if err := overwrite(conn, r.id, m.wrap(k)); err != nil {
			return err
		}
	}
	if err := setMeta(conn, metaMaster, m.fingerprint); err != nil {
		return err
	}
	return v.at("rewrapped")
}

func eachRow(conn *sqlite.Conn, visit func(row)) error {
	return sqlitex.Execute(conn, selectRows+` ORDER BY k.id`, &sqlitex.ExecOptions{
		ResultFunc: func(s *sqlite.Stmt) error { visit(scanRow(s)); return nil },
	})
}

// CheckReport is the outcome of a check.
type CheckReport struct {
	MasterFingerprint string           `json:"master_fingerprint"`
	Live              int              `json:"live"`      // keys that unwrap
	Destroyed         int              `json:"destroyed"` // tombstones without material
	Bad               int              `json:"bad"`       // keys that do not unwrap, tombstones with material
	BadSubjects       []domain.Subject `json:"bad_subjects,omitempty"`
}

// Check unwraps every key of an open vault.
func (v *Vault) Check(ctx context.Context) (CheckReport, error) {
	conn, err := v.read.take(ctx)
	if err != nil {
		return CheckReport{}, fmt.Errorf("check vault: %w", err)
	}
	defer v.read.put(conn)
	conn.SetInterrupt(ctx.Done()) // a whole table may take a while
	defer conn.SetInterrupt(nil)
	v.mu.RLock()
	defer v.mu.RUnlock()
	return check(conn, v.master)
}

// Check reads the vault in o.Dir without locking or changing anything, also beside a running server,
// and unwraps every key. Errors are those of Open but ErrLocked; fs.ErrNotExist if there is no vault.
func Check(ctx context.Context, o Options) (report CheckReport, err error) {
	path := filepath.Join(o.Dir, databaseName)
	if _, err := os.Stat(path); err != nil {
		return CheckReport{}, fmt.Errorf("check vault: %w", err)
	}
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadOnly)
	if err != nil {
		return CheckReport{}, fmt.Errorf("check vault: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	conn.SetInterrupt(ctx.Done())
	conn.SetBusyTimeout(5 * time.Second)
	if _, err := formatIn(conn); err != nil {
		return CheckReport{}, fmt.Errorf("check vault in %s: %w", o.Dir, err)
	}
	expected, err := metaIn(conn, metaMaster)
	if err != nil {
		return CheckReport{}, fmt.Errorf("check vault in %s: %w", o.Dir, err)
	}
	m, _, err := locate(o).find(expected)
	if err != nil {
		return CheckReport{}, fmt.Errorf("check vault in %s: %w", o.Dir, err)
	}
	return check(conn, m)
}

func check(conn *sqlite.Conn, m *master) (CheckReport, error) {
	report := CheckReport{MasterFingerprint: m.fingerprint}
	err := eachRow(conn, func(r row) {
		_, err := m.unwrap(r)
		switch {
		case r.destroyed && string(r.wrapped) == string(make([]byte, wrappedSize)):
			report.Destroyed++
		case !r.destroyed && err == nil:
			report.Live++
		default:
			report.Bad++
			report.BadSubjects = append(report.BadSubjects, r.subject)
		}
	})
	if err != nil {
		return report, fmt.Errorf("check vault: %w", err)
	}
	return report, nil
}

// Backup writes a consistent copy of vault.db to path while the vault is in use: mode 0600, durable on
// return, without the master key. path must not exist (fs.ErrExist). An erasure does not reach copies:
// delete them after at most 30 days.
func (v *Vault) Backup(ctx context.Context, path string) error {
	if err := v.backup(ctx, path); err != nil {
		return fmt.Errorf("back up vault: %w", err)
	}
	return nil
}

func (v *Vault) backup(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := copyDatabase(ctx, filepath.Join(v.dir, databaseName), path); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// copyDatabase fills the empty file at to with what from holds now.
func copyDatabase(ctx context.Context, from, to string) (err error) {
	conn, err := sqlite.OpenConn(from, sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	conn.SetBusyTimeout(5 * time.Second)
	conn.SetInterrupt(ctx.Done())
	return sqlitex.ExecuteTransient(conn, `VACUUM INTO ?`, &sqlitex.ExecOptions{Args: []any{to}})
}
