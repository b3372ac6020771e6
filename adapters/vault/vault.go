// Package vault keeps one data key per subject (a user, a line, a device, a code epoch …) and does
// everything that is done with it: sealing, opening, keyed hashes, and destroying it for good.
//
// Why beside the log and not in it? The log never forgets. Personal data and credentials stand in it
// sealed; erasing a subject means destroying its key, and that must not leave a copy anywhere (D2). So
// key material lives in a small database of its own, vault.db, with its own short-lived backups, and
// the log gets key.created and key.destroyed without material.
//
// Three levels of keys. The master key, 32 bytes outside the database (master.key, a file the operator
// names, or a systemd credential), wraps the data keys: AES-256-GCM, subject and key id as associated
// data. A data key is 32 random bytes and is never used itself: HKDF-SHA-256 derives from it one key for
// sealing (AES-256-GCM, random nonce) and one for each purpose of Hash. So a fingerprint says nothing
// about a mac, and a hash nothing about a seal.
//
// What always holds:
//   - A key is durable before anything sealed under it leaves Seal.
//   - A destroyed key stays destroyed: its tombstone answers domain.ErrErased for ever.
//   - When Erase has returned, no byte of the wrapped key is left in vault.db, vault.db-wal or vault.db-shm.
//     Wrapped keys therefore stand in a table of rows of one size, appended and never moved: SQLite's
//     secure_delete does not clear copies that a page split leaves behind.
//   - An unwrapped key is kept in memory for at most 60 seconds after it was read.
//   - One process writes: vault.lock (flock) keeps a second one out. Check needs no lock.
//   - A disk that failed a write stops all writing until the process is started again.
//
// Trust. Whoever reads vault.db learns which subjects exist and when their keys were made, nothing else.
// Whoever has vault.db and the master key reads everything that is sealed, in every copy of the log.
// Whoever changes vault.db can make content unreadable, not readable and not different. A copy of vault.db
// taken before an erasure still holds the wrapped key: deleting backups after at most 30 days is the
// operator's duty, and after restoring one, every key.destroyed of the log has to be erased again. What
// the disk keeps of overwritten blocks (snapshots, wear levelling) is outside a program's reach.
//
// Several replicas share a vault in PostgreSQL: Shared. What it cannot promise about erased bytes stands there.
//
// Not here: who may open what (commands), the events (domain), sealing of whole event payloads.
package vault

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"

	"ledgerline/commands"
	"ledgerline/domain"
)

const (
	databaseName  = "vault.db"
	lockName      = "vault.lock"
	cacheTTL      = 60 * time.Second // D2
	cacheSize     = 2048             // keys, about 2 KB each; one that is not there costs some 30 µs
	readersAtOnce = 4
)

// ErrLocked: another process has the vault open for writing.
var ErrLocked = errors.New("vault is in use by another process (a running server?): stop it first")

// ErrClosed: the vault has been closed.
var ErrClosed = errors.New("vault is closed")

// ErrTraces: the change is done and durable, but a long reader of vault.db kept old wrapped keys in
// vault.db-wal from being cleared. Erase again once it has ended, or restart: opening clears them too.
var ErrTraces = errors.New("done, but old keys remain in vault.db-wal while another program reads vault.db: end it and repeat")

// ErrBadSubject: a subject is empty or longer than 255 bytes.
var ErrBadSubject = errors.New("subject must have 1 to 255 bytes")

// Options say where a vault is and which master key opens it.
type Options struct {
	// Dir holds vault.db and vault.lock, and master.key unless another key is named. Made if missing (0700).
	Dir string
	// MasterKeyFile is the file with the master key; see ReadMasterKey for its forms. It must exist.
	// Empty: the systemd credential "ledgerline-master-key" if there is one, else Dir/master.key, which
	// is made for a new vault.
	MasterKeyFile string
	// Clock dates keys and ages the cache; nil means time.Now.
	Clock func() time.Time
}

// ring is what every vault does with keys, wherever they stand. Its methods are those of commands.Vault.
type ring struct {
	id    string
	clock func() time.Time
	cache *cache
	store store
}

// store keeps wrapped keys and tombstones, durably: vault.db, or PostgreSQL (shared.go).
type store interface {
	// readKey reads and unwraps one key; nil without an error if there is none, domain.ErrErased for a tombstone.
	readKey(ctx context.Context, by column, value string) (*key, error)
	// insert keeps k unless its subject has a row already, and answers the row that was there.
	insert(ctx context.Context, k *key) (found row, err error)
	// each visits every row, in no order; visit must not write to the same vault.
	each(ctx context.Context, visit func(row) error) error
	// adopt keeps k, or a tombstone of the key with this id ("": there never was one) if k is nil, unless a
	// tombstone stands there.
	adopt(ctx context.Context, subject domain.Subject, id string, k *key) error
	// rename gives the vault another id.
	rename(ctx context.Context, id string) error
	// unwrapper is the master key of now.
	unwrapper() *master
	// destroy leaves a tombstone and calls forget once that is durable, also when ctx has ended meanwhile.
	destroy(ctx context.Context, subject domain.Subject, forget func()) error
}

// column is what a key is found by.
type column string

const (
	bySubject column = "subject"
	byID      column = "key_id"
)

// Vault implements commands.Vault over one directory. Safe for concurrent use. Whoever opens it closes it.
type Vault struct {
	ring
	dir     string
	lock    *os.File
	source  source
	created string
	read    readers

	// mu is held for reading while a wrapped key is read and unwrapped, for writing while a rotation
	// changes both; the writer, which is the only one to change master, reads it without.
	mu     sync.RWMutex
	master *master

	jobs      chan *job
	alone     chan *job
	closing   chan struct{}
	stopped   chan struct{}
	closeOnce sync.Once
	closeErr  error

	// crash stops a rotation at a named step; tests only.
	crash func(step string) error
}

var (
	_ commands.Vault = (*Vault)(nil)
	_ store          = (*Vault)(nil)
)

// Open opens the vault in o.Dir, making a new one if there is none, finishes a rotation that was cut off,
// and clears what an erasure that was cut off left behind. Errors: ErrLocked, ErrWrongMasterKey,
// ErrMasterKeyLost, ErrNoMasterKey, ErrBadMasterKey, ErrKeyExposed, ErrNewerFormat.
func Open(ctx context.Context, o Options) (*Vault, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open vault in %s: %w", o.Dir, err)
	}
	v := &Vault{
		ring: ring{clock: o.Clock, cache: newCache(cacheSize, cacheTTL)}, dir: o.Dir, lock: lock, source: locate(o),
		jobs: make(chan *job), alone: make(chan *job), closing: make(chan struct{}), stopped: make(chan struct{}),
	}
	v.store = v
	if err := v.open(); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("open vault in %s: %w", o.Dir, err)
	}
	return v, nil
}

func (v *Vault) open() error {
	path := filepath.Join(v.dir, databaseName)
	conn, err := openWriter(path)
	if err != nil {
		return err
	}
	if err := v.unlock(conn); err != nil {
		_ = conn.Close()
		return err
	}
	v.read, err = openReaders(path, readersAtOnce)
	if err != nil {
		_ = conn.Close()
		return err
	}
	go v.write(conn)
	return nil
}

// unlock finds the master key that belongs to the database and makes both when both are new: the key
// first, for a key without a database is harmless and a database without its key is lost.
func (v *Vault) unlock(conn *sqlite.Conn) error {
	expected, err := metaIn(conn, metaMaster)
	if err != nil {
		return err
	}
	m, created, err := v.source.unlock(expected)
	if err != nil {
		return err
	}
	if created {
		v.created = v.source.path
	}
	v.master = m
	if expected == "" {
		if err := setMeta(conn, metaMaster, m.fingerprint); err != nil {
			return err
		}
	}
	if v.id, err = metaIn(conn, metaID); err != nil {
		return err
	}
	if v.id == "" {
		if v.id, err = newID(); err != nil {
			return err
		}
		if err := setMeta(conn, metaID, v.id); err != nil {
			return err
		}
	}
	if err := scrub(conn); !errors.Is(err, ErrTraces) { // a reader of vault.db must not keep the phones waiting
		return err
	}
	return nil
}

// lockDir takes vault.lock for this process. It is released when the file is closed, also by a crash.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return f, nil
}

// Close waits for writes under way, drops every key from memory and releases the lock. Closing twice
// answers as the first time did.
func (v *Vault) Close() error {
	v.closeOnce.Do(func() {
		close(v.closing)
		<-v.stopped
		v.closeErr = errors.Join(v.closeErr, v.read.close(), v.lock.Close())
		v.cache.clear()
	})
	return v.closeErr
}

// CreatedMasterKey is the path of the master key file this Open made, empty when it found one. Whoever
// starts the program says it once: without that file nothing sealed can be read again.
func (v *Vault) CreatedMasterKey() string { return v.created }

// MasterFingerprint is 16 hex digits that tell master keys apart and say nothing about them.
func (v *Vault) MasterFingerprint() string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.master.fingerprint
}

// ID names this vault, unlike any other: 32 hex digits, kept when it is moved (Copy).
func (v *ring) ID() string { return v.id }

// newID is a fresh id, time-ordered, in hex.
func newID() (string, error) {
	id, err := uuid.NewV7()
	return hex.EncodeToString(id[:]), err
}

// Ensure implements commands.Vault. Concurrent calls share one durable write.
func (v *ring) Ensure(ctx context.Context, subject domain.Subject) (keyID string, created bool, err error) {
	k, created, err := v.ensure(ctx, subject)
	if err != nil {
		return "", false, fmt.Errorf("ensure key of %s: %w", subject, err)
	}
	return k.id, created, nil
}

func (v *ring) ensure(ctx context.Context, subject domain.Subject) (k *key, created bool, err error) {
	if k := v.cache.bySubject(subject, v.clock()); k != nil {
		return k, false, nil
	}
	if len(subject) == 0 || len(subject) > 255 {
		return nil, false, ErrBadSubject
	}
	k, err = v.load(ctx, bySubject, string(subject))
	if err != nil || k != nil {
		return k, false, err
	}
	return v.create(ctx, subject)
}

// create makes the key unless another call was faster.
func (v *ring) create(ctx context.Context, subject domain.Subject) (*key, bool, error) {
	id, err := newID()
	if err != nil {
		return nil, false, err
	}
	data := make([]byte, keySize)
	rand.Read(data) // never fails since Go 1.24
	fresh, err := newKey(subject, id, data)
	if err != nil {
		return nil, false, err
	}
	generation := v.cache.generation()
	found, err := v.store.insert(ctx, fresh)
	switch {
	case err != nil:
		return nil, false, err
	case found.destroyed:
		return nil, false, domain.ErrErased
	case found.exists:
		k, err := v.load(ctx, bySubject, string(subject))
		return k, false, err
	}
	v.cache.putIf(fresh, v.clock(), generation) // else some key was forgotten: the next call reads it
	return fresh, true, nil
}

// Seal implements commands.Vault. Sealed.Fingerprint is the first 32 hex digits of
// Hash(subject, "fingerprint", clear).
func (v *ring) Seal(ctx context.Context, subject domain.Subject, clear, aad string) (domain.Sealed, error) {
	k, _, err := v.ensure(ctx, subject)
	if err != nil {
		return domain.Sealed{}, fmt.Errorf("seal for %s: %w", subject, err)
	}
	return k.seal(clear, aad), nil
}

// Open implements commands.Vault. Content under a key this vault has never had does not authenticate
// either: commands.ErrForged. A value that was never sealed is domain.ErrUnsealed.
func (v *ring) Open(ctx context.Context, s domain.Sealed) (string, error) {
	if _, _, pending := s.Pending(); pending {
		return "", fmt.Errorf("open: %w", domain.ErrUnsealed)
	}
	k := v.cache.byID(s.KeyID, v.clock())
	if k == nil {
		var err error
		if k, err = v.load(ctx, byID, s.KeyID); err != nil {
			return "", fmt.Errorf("open: %w", err)
		}
	}
	if k == nil {
		return "", fmt.Errorf("open: key %.40q is not in the vault: %w", s.KeyID, commands.ErrForged)
	}
	clear, err := k.open(s)
	if err != nil {
		return "", fmt.Errorf("open what is sealed for %s: %w", k.subject, err)
	}
	return clear, nil
}

// Hash implements commands.Vault. It makes a key if there is none, as Seal does.
func (v *ring) Hash(ctx context.Context, subject domain.Subject, purpose string, value []byte) ([]byte, error) {
	k, _, err := v.ensure(ctx, subject)
	if err != nil {
		return nil, fmt.Errorf("hash for %s: %w", subject, err)
	}
	return k.hash(purpose, value), nil
}

// Erase implements commands.Vault: it returns when no file of the vault holds the wrapped key any more (of
// a Shared one: no row). A subject that never had a key is erased too: it will get none. ErrTraces if old
// pages remain.
func (v *ring) Erase(ctx context.Context, subject domain.Subject) error {
	if len(subject) == 0 || len(subject) > 255 {
		return ErrBadSubject
	}
	if err := v.store.destroy(ctx, subject, func() { v.cache.forget(subject) }); err != nil {
		return fmt.Errorf("erase %s: %w", subject, err)
	}
	return nil
}

// Forget drops the subjects' keys from memory, or all keys if none is named: call it for a key.destroyed
// that another process recorded.
func (v *ring) Forget(subjects ...domain.Subject) {
	if len(subjects) == 0 {
		v.cache.clear()
	}
	for _, s := range subjects {
		v.cache.forget(s)
	}
}

// load reads and unwraps one key; nil without an error if there is none, domain.ErrErased for a tombstone.
// If some key was forgotten meanwhile, it may have been this one: read again, never cache a stale copy.
func (v *ring) load(ctx context.Context, by column, value string) (*key, error) {
	for {
		generation := v.cache.generation()
		k, err := v.store.readKey(ctx, by, value)
		if err != nil || k == nil {
			return nil, err
		}
		if v.cache.putIf(k, v.clock(), generation) {
			return k, nil
		}
	}
}

func (v *Vault) readKey(ctx context.Context, by column, value string) (*key, error) {
	conn, err := v.read.take(ctx)
	if err != nil {
		return nil, err
	}
	defer v.read.put(conn)
	v.mu.RLock()
	defer v.mu.RUnlock()
	r, err := selectRow(conn, by, value)
	if err != nil {
		return nil, err
	}
	return v.master.keyOf(r)
}

func (v *Vault) insert(ctx context.Context, k *key) (found row, err error) {
	err = v.submit(ctx, &job{do: func(conn *sqlite.Conn) (err error) {
		if found, err = selectRow(conn, bySubject, string(k.subject)); err != nil || found.exists {
			return err
		}
		return insertKey(conn, k, v.master.wrap(k), v.clock())
	}})
	if err != nil {
		return row{}, err // the writer may still be at it
	}
	return found, nil
}

func (v *Vault) destroy(ctx context.Context, subject domain.Subject, forget func()) error {
	return v.submit(ctx, &job{
		do:    func(conn *sqlite.Conn) error { return destroyKey(conn, subject, v.clock()) },
		after: forget,
		scrub: true,
	})
}
