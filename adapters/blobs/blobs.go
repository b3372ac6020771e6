// Package blobs keeps the bytes of every file ever generated, and larger content that does not fit
// into an event, in blobs.db beside the log.
//
// Why keep bytes that can be rendered again? Because functions, merge rules and time zone data change
// between releases: rendering again is the check, the kept bytes are the source (D4). Each file is
// compressed (zstd) and then sealed under its subject's key, so erasing the subject makes its files
// unreadable here and in every copy of blobs.db.
//
// What always holds:
//   - Put has returned: the bytes are on the disk. Concurrent puts share one durable write.
//   - Bytes under one subject and mac never change; the first to be stored stay.
//   - Get returns exactly the bytes that were put under that subject and mac, or an error: the seal's
//     associated data names both, so a row moved or changed in the file is commands.ErrForged.
//   - A disk that failed a write stops all writing until the process is started again; reading goes on.
//
// Trust. Whoever reads blobs.db learns subjects, macs and sizes; for content stored by its SHA-256 also
// whether it is a content he can guess. Whoever changes it can make files unreadable, not different.
//
// Several replicas share blobs in PostgreSQL: Shared.
//
// Not here: which file is a device's current one (projections), caching, and the keys (adapters/vault).
package blobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"ledgerline/commands"
	"ledgerline/domain"
)

// MaxSize is the most bytes one blob may have.
const MaxSize = 64 << 20

const (
	databaseName  = "blobs.db"
	readersAtOnce = 4
	maxKey        = 255 // bytes of a subject or a mac
)

var (
	// ErrTooBig: a blob has more than MaxSize bytes.
	ErrTooBig = errors.New("blob is larger than 64 MiB")
	// ErrBadKey: a subject or mac is empty or longer than 255 bytes.
	ErrBadKey = errors.New("subject and mac must have 1 to 255 bytes")
	// ErrClosed: the store has been closed.
	ErrClosed = errors.New("blobs are closed")
	// ErrNewerFormat: blobs.db was written by a newer program.
	ErrNewerFormat = errors.New("blobs.db was written by a newer version of this program: use that one")
)

// Sealer seals under a subject's key: what commands.Vault offers, with its errors. Safe for concurrent use.
type Sealer interface {
	Seal(ctx context.Context, subject domain.Subject, clear, aad string) (domain.Sealed, error)
	Open(ctx context.Context, s domain.Sealed) (string, error)
}

// Options say where the blobs are and who seals them; both are needed.
type Options struct {
	Dir    string // holds blobs.db; made if missing (0700)
	Sealer Sealer // outlives the store
}

// packer is what all blobs have in common, wherever they stand: packing, sealing, naming.
type packer struct {
	sealer  Sealer
	encoder *zstd.Encoder
	decoder *zstd.Decoder
	store   store
}

// store keeps sealed blobs, durably: blobs.db, or PostgreSQL (shared.go).
type store interface {
	// insert keeps blobs of one subject, those that do not stand there yet: all, or none and an error.
	insert(ctx context.Context, rows ...blob) error
	// row is what stands there, without its AAD; commands.ErrNoBlob, domain.ErrErased.
	row(ctx context.Context, subject domain.Subject, mac string) (domain.Sealed, error)
	// erase removes the bytes and leaves that there were some; no macs means all of the subject.
	erase(ctx context.Context, subject domain.Subject, macs []string) error
	stats(ctx context.Context) (Stats, error)
	// each visits every row, erased ones too, in no order; visit must not write to the same blobs.
	each(ctx context.Context, visit func(blob) error) error
}

// blob is one row.
type blob struct {
	subject domain.Subject
	mac     string
	keyID   string
	size    int // bytes before compression
	nonce   []byte
	sealed  []byte // nil once erased, as nonce is
}

// Blobs implements commands.Blobs over one file. Safe for concurrent use. Whoever opens it closes it.
type Blobs struct {
	packer
	path string
	read readers

	jobs      chan *job
	closing   chan struct{}
	stopped   chan struct{}
	closeOnce sync.Once
	closeErr  error
}

var (
	_ commands.Blobs = (*Blobs)(nil)
	_ store          = (*Blobs)(nil)
)

// Open opens blobs.db in o.Dir, making a new one if there is none. One process at a time may write;
// the lock of the log sees to that. Errors: ErrNewerFormat.
func Open(ctx context.Context, o Options) (*Blobs, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b := &Blobs{path: filepath.Join(o.Dir, databaseName), jobs: make(chan *job), closing: make(chan struct{}), stopped: make(chan struct{})}
	b.store = b
	if err := b.open(o.Sealer); err != nil {
		return nil, fmt.Errorf("open %s: %w", b.path, err)
	}
	return b, nil
}

func (b *Blobs) open(sealer Sealer) error {
	if err := b.packer.open(sealer); err != nil {
		return err
	}
	conn, err := openWriter(b.path)
	if err != nil {
		return err
	}
	b.read, err = openReaders(b.path, readersAtOnce)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	go b.write(conn)
	return nil
}

func (p *packer) open(sealer Sealer) (err error) {
	p.sealer = sealer
	// One level for ever: equal bytes give equal sizes. The seal authenticates, so no checksum.
	p.encoder, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderCRC(false),
		zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return err
	}
	p.decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithDecoderMaxMemory(MaxSize))
	return err
}

func (p *packer) close() error {
	p.decoder.Close()
	return p.encoder.Close()
}

// Close waits for writes under way and closes the file. Closing twice answers as the first time did.
func (b *Blobs) Close() error {
	b.closeOnce.Do(func() {
		close(b.closing)
		<-b.stopped
		b.closeErr = errors.Join(b.closeErr, b.read.close(), b.packer.close())
	})
	return b.closeErr
}

// Put implements commands.Blobs. Errors: ErrTooBig, ErrBadKey, domain.ErrErased when subject's key has
// been destroyed.
func (p *packer) Put(ctx context.Context, subject domain.Subject, mac string, data []byte) error {
	return p.PutAll(ctx, subject, map[string][]byte{mac: data})
}

// PutAll implements commands.Blobs: one transaction for all of them. Errors are those of Put.
func (p *packer) PutAll(ctx context.Context, subject domain.Subject, blobs map[string][]byte) error {
	rows := make([]blob, 0, len(blobs))
	for _, mac := range slices.Sorted(maps.Keys(blobs)) {
		row, err := p.pack(ctx, subject, mac, blobs[mac])
		if err != nil {
			return fmt.Errorf("store blob of %.80s: %w", subject, err)
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return nil
	}
	if err := p.store.insert(ctx, rows...); err != nil {
		return fmt.Errorf("store blob of %.80s: %w", subject, err)
	}
	return nil
}

func (p *packer) pack(ctx context.Context, subject domain.Subject, mac string, data []byte) (blob, error) {
	if err := checkKey(subject, mac); err != nil {
		return blob{}, err
	}
	if len(data) > MaxSize {
		return blob{}, fmt.Errorf("%d bytes: %w", len(data), ErrTooBig)
	}
	packed := p.encoder.EncodeAll(data, nil)
	sealed, err := p.sealer.Seal(ctx, subject, string(packed), sealAAD(subject, mac))
	return blob{subject, mac, sealed.KeyID, len(data), sealed.Nonce, sealed.Ciphertext}, err
}

func (b *Blobs) insert(ctx context.Context, rows ...blob) error {
	weight := 0
	for _, row := range rows {
		weight += len(row.sealed)
	}
	return b.submit(ctx, &job{weight: weight, do: func(conn *sqlite.Conn) error {
		for _, row := range rows {
			if err := sqlitex.Execute(conn, insertBlob, &sqlitex.ExecOptions{
				Args: []any{string(row.subject), row.mac, row.keyID, row.size, orNull(row.nonce), orNull(row.sealed)},
			}); err != nil {
				return err
			}
		}
		return nil
	}})
}

// orNull is b, and NULL for none.
func orNull(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}

func checkKey(subject domain.Subject, mac string) error {
	if len(subject) == 0 || len(subject) > maxKey || len(mac) == 0 || len(mac) > maxKey {
		return ErrBadKey
	}
	return nil
}

// sealAAD ties a seal to its row. No subject has a NUL.
func sealAAD(subject domain.Subject, mac string) string {
	return "blob\x00" + string(subject) + "\x00" + mac
}

// Get implements commands.Blobs. Errors also: commands.ErrForged.
func (p *packer) Get(ctx context.Context, subject domain.Subject, mac string) ([]byte, error) {
	data, err := p.get(ctx, subject, mac)
	if err != nil {
		return nil, fmt.Errorf("read blob of %.80s: %w", subject, err)
	}
	return data, nil
}

func (p *packer) get(ctx context.Context, subject domain.Subject, mac string) ([]byte, error) {
	sealed, err := p.store.row(ctx, subject, mac)
	if err != nil {
		return nil, err
	}
	sealed.AAD = sealAAD(subject, mac)
	packed, err := p.sealer.Open(ctx, sealed)
	if err != nil {
		return nil, err
	}
	data, err := p.decoder.DecodeAll([]byte(packed), nil)
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	return data, nil
}

func (b *Blobs) row(ctx context.Context, subject domain.Subject, mac string) (domain.Sealed, error) {
	conn, err := b.read.take(ctx)
	if err != nil {
		return domain.Sealed{}, err
	}
	defer b.read.put(conn)
	found, erased := false, false
	sealed := domain.Sealed{}
	err = sqlitex.Execute(conn, selectBlob, &sqlitex.ExecOptions{
		Args: []any{string(subject), mac},
		ResultFunc: func(s *sqlite.Stmt) error {
			found, erased = true, s.ColumnIsNull(2)
			sealed.KeyID, sealed.Nonce, sealed.Ciphertext = s.ColumnText(0), columnBytes(s, 1), columnBytes(s, 2)
			return nil
		},
	})
	switch {
	case err != nil:
		return domain.Sealed{}, err
	case !found:
		return domain.Sealed{}, commands.ErrNoBlob
	case erased:
		return domain.Sealed{}, domain.ErrErased
	}
	return sealed, nil
}

// PutContent stores content too large for an event (a catalogue, a script, a certificate) under its
// SHA-256, which is what the event names: 64 hex digits. Errors are those of Put.
func (p *packer) PutContent(ctx context.Context, subject domain.Subject, data []byte) (sha256Hex string, err error) {
	name := contentName(data)
	return name, p.Put(ctx, subject, contentMAC(name), data)
}

// GetContent returns what PutContent stored for subject. Errors are those of Get.
func (p *packer) GetContent(ctx context.Context, subject domain.Subject, sha256Hex string) ([]byte, error) {
	return p.Get(ctx, subject, contentMAC(sha256Hex))
}

func contentName(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// contentMAC cannot be the mac of a file, which has hex digits only.
func contentMAC(name string) string { return "sha256:" + name }

// Erase implements commands.Blobs: the bytes are overwritten in the file and gone from its write-ahead log
// (of Shared ones: gone from their row).
func (p *packer) Erase(ctx context.Context, subject domain.Subject, macs ...string) error {
	if err := p.store.erase(ctx, subject, macs); err != nil {
		return fmt.Errorf("erase blobs of %.80s: %w", subject, err)
	}
	return nil
}

func (b *Blobs) erase(ctx context.Context, subject domain.Subject, macs []string) error {
	return b.submit(ctx, &job{erases: true, do: func(conn *sqlite.Conn) error {
		if len(macs) == 0 {
			return sqlitex.Execute(conn, eraseBlobs, &sqlitex.ExecOptions{Args: []any{string(subject)}})
		}
		for _, mac := range macs {
			if err := sqlitex.Execute(conn, eraseBlob, &sqlitex.ExecOptions{Args: []any{string(subject), mac}}); err != nil {
				return err
			}
		}
		return nil
	}})
}

// Stats counts what is stored. Sizes are in bytes.
type Stats struct {
	Blobs       int64 `json:"blobs"`        // readable unless their key has been destroyed
	Erased      int64 `json:"erased"`       // removed by Erase
	ClearBytes  int64 `json:"clear_bytes"`  // of Blobs, as they were put
	StoredBytes int64 `json:"stored_bytes"` // of Blobs, compressed and sealed
}

// Stats reads the whole table: for an operator's question, not for every scrape.
func (p *packer) Stats(ctx context.Context) (Stats, error) {
	s, err := p.store.stats(ctx)
	if err != nil {
		return s, fmt.Errorf("count blobs: %w", err)
	}
	return s, nil
}

func (b *Blobs) stats(ctx context.Context) (s Stats, err error) {
	conn, err := b.read.take(ctx)
	if err != nil {
		return s, err
	}
	defer b.read.put(conn)
	conn.SetInterrupt(ctx.Done()) // a whole table may take a while
	defer conn.SetInterrupt(nil)
	err = sqlitex.Execute(conn, selectStats, &sqlitex.ExecOptions{ResultFunc: func(row *sqlite.Stmt) error {
		s = Stats{row.ColumnInt64(0), row.ColumnInt64(1), row.ColumnInt64(2), row.ColumnInt64(3)}
		return nil
	}})
	return s, err
}
