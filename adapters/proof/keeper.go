package proof

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"github.com/rs/zerolog"
	"golang.org/x/mod/sumdb/tlog"

	"ledgerline/domain"
)

// Log is what proofs read.
type Log interface {
	ReadAll(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error]
	Subscribe(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error]
	Head(ctx context.Context) (domain.Position, error)
}

// ErrRewritten: the log is not a continuation of a checkpoint that was signed on it. Somebody cut it,
// changed it, or put an older copy in its place.
var ErrRewritten = errors.New("log contradicts a signed checkpoint")

// Keeper follows the log and signs checkpoints of it: one when new events have waited for Every, or when
// Events of them have come, and never more than one a second. Checkpoints' own events do not count: a log
// at rest stays at rest.
type Keeper struct {
	Log    Log
	Signer *Signer
	// Record records a checkpoint as an event, once per size.
	Record func(ctx context.Context, c domain.CheckpointSigned) error
	// Dir holds checkpoints.log, which operators copy off the machine, and checkpoint.edge, which is
	// disposable: without it the next start reads the whole log.
	Dir string
	// Leader tells whether this process is the one that signs; nil: it is.
	Leader func() bool
	Every  time.Duration // zero: 60 s
	Events int           // zero: 1,000
	Now    func() time.Time

	mu       sync.Mutex
	here     place
	unsigned int // leaves since the last checkpoint, without checkpoints
}

// place is how far the log was followed.
type place struct {
	Edge Edge `json:"edge"`
	// Last is the leaf hash of the last event followed, at At; Before is where the one before it stands.
	Before domain.Position `json:"before"`
	At     domain.Position `json:"position"`
	Last   tlog.Hash       `json:"last"`
}

// saved is the content of checkpoint.edge.
type saved struct {
	place
	Key string `json:"key"`
}

func (k *Keeper) edgeFile() string { return filepath.Join(k.Dir, "checkpoint.edge") }

// LogFile is where the checkpoints of a data directory are appended.
func LogFile(dir string) string { return filepath.Join(dir, "checkpoints.log") }

// Run follows and signs until ctx ends. It answers ErrRewritten, and signs nothing, when the log does not
// continue the last checkpoint of checkpoints.log.
func (k *Keeper) Run(ctx context.Context) error {
	if k.Now == nil {
		k.Now = time.Now
	}
	if k.Every == 0 {
		k.Every = time.Minute
	}
	if k.Events == 0 {
		k.Events = 1000
	}
	if err := k.open(ctx); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	followed := make(chan error, 1)
	go func() { followed <- k.follow(ctx) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := k.Now()
	for {
		select {
		case err := <-followed:
			return err
		case <-tick.C:
		}
		now := k.Now()
		k.mu.Lock()
		due := k.unsigned >= k.Events || k.unsigned > 0 && now.Sub(last) >= k.Every
		k.mu.Unlock()
		if !due || k.Leader != nil && !k.Leader() {
			continue
		}
		if err := k.Sign(ctx); err != nil {
			if ctx.Err() == nil {
				zerolog.Ctx(ctx).Error().Err(err).Msg("checkpoint not signed")
			}
			continue
		}
		last = now
	}
}

// open takes the edge up from where it was left, catches up with the log's end, and holds the log against
// the checkpoints signed before.
func (k *Keeper) open(ctx context.Context) error {
	var s saved
	b, err := os.ReadFile(k.edgeFile())
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil || s.Key != k.Signer.Key || !s.of(ctx, k.Log) {
		s = saved{}
	}
	signed, err := os.ReadFile(LogFile(k.Dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the checkpoints: %w", err)
	}
	k.here = s.place
	known := make(map[int64]Checkpoint)
	var newest int64
	for _, text := range Checkpoints(string(signed)) {
		if c, err := OpenCheckpoint(text, nil); err == nil && c.Origin == k.Signer.signer.Name() {
			known[c.Size] = c
			newest = max(newest, c.Size)
		}
	}
	hold := func() error {
		if c, ok := known[k.here.Edge.Size()]; ok && c.Root != k.here.Edge.Root() {
			return fmt.Errorf("%w: of its first %d events, signed at %s, at least one was changed", ErrRewritten, c.Size, c.At.Format(time.RFC3339))
		}
		return nil
	}
	if err := hold(); err != nil {
		return err
	}
	for r, err := range k.Log.ReadAll(ctx, k.here.At) {
		if err != nil {
			return fmt.Errorf("read the log for checkpoints: %w", err)
		}
		if k.add(r); IsLeaf(r) {
			if err := hold(); err != nil {
				return err
			}
		}
	}
	if k.here.Edge.Size() < newest {
		return fmt.Errorf("%w: %d events were signed at %s, it has %d", ErrRewritten, newest, known[newest].At.Format(time.RFC3339), k.here.Edge.Size())
	}
	return nil
}

// follow adds what comes. A subscription that was dropped is taken up again.
func (k *Keeper) follow(ctx context.Context) error {
	for {
		for r, err := range k.Log.Subscribe(ctx, k.here.At) {
			if err != nil {
				if ctx.Err() == nil {
					zerolog.Ctx(ctx).Warn().Err(err).Msg("following the log for checkpoints begins again")
				}
				break
			}
			k.mu.Lock()
			k.add(r)
			k.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// of tells whether the place is one of this log: whether the event it ends with still stands there.
func (p place) of(ctx context.Context, log Log) bool {
	for r, err := range log.ReadAll(ctx, p.Before) {
		return err == nil && r.Position == p.At && domain.LeafHash(r) == p.Last
	}
	return false
}

func (k *Keeper) add(r domain.Recorded) {
	leaf := domain.LeafHash(r)
	k.here.Before, k.here.At, k.here.Last = k.here.At, r.Position, leaf
	if !IsLeaf(r) {
		return
	}
	k.here.Edge.Append(leaf, nil)
	if r.Stream.Category() != "checkpoint" {
		k.unsigned++
	}
}

// Sign signs what has been followed so far, if anything, whether it is due or not.
func (k *Keeper) Sign(ctx context.Context) error {
	k.mu.Lock()
	here, count := k.here, k.unsigned
	here.Edge.roots = slices.Clone(here.Edge.roots)
	k.mu.Unlock()
	if here.Edge.Size() == 0 {
		return nil
	}
	c, err := k.Signer.Sign(&here.Edge, here.At, k.Now())
	if err != nil {
		return err
	}
	// The file first: it is the copy that leaves the machine, and holds the log to what was signed.
	if err := appendDurably(LogFile(k.Dir), c.Note+"\n"); err != nil {
		return fmt.Errorf("append to the checkpoints: %w", err)
	}
	if err := k.Record(ctx, c); err != nil {
		return err
	}
	k.mu.Lock()
	k.unsigned -= count
	k.mu.Unlock()
	b, err := json.Marshal(saved{here, k.Signer.Key})
	if err != nil {
		return err
	}
	return renameio.WriteFile(k.edgeFile(), b, 0o600)
}

func appendDurably(path, text string) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	return f.Sync()
}
