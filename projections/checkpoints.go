package projections

import (
	"context"
	"time"

	"ledgerline/domain"
)

// Checkpoint is one signed checkpoint of the log's tree.
type Checkpoint struct {
	Size     int64           `json:"size"` // leaves
	Root     string          `json:"root"` // base64
	At       domain.Position `json:"position"`
	SignedAt time.Time       `json:"signed_at"`
	Note     string          `json:"note"` // the signed text: give it away
	Key      string          `json:"key"`  // the verifier key it can be checked with
}

var checkpoints = newNoun("checkpoint", "checkpoints", 1,
	[]string{"size INTEGER NOT NULL"},
	func(_ string, d *Doc[domain.Checkpoint]) []any { return []any{d.State.Size} },
	"CREATE INDEX checkpoints_size ON checkpoints (size)")

func checkpointRow(_ string, d *Doc[domain.Checkpoint]) Checkpoint {
	s := d.State
	return Checkpoint{Size: s.Size, Root: s.Root, At: s.Position, SignedAt: d.Head.CreatedAt, Note: s.Note, Key: s.Key}
}

// CheckpointOf finds the checkpoint over size leaves; of size 0 the latest.
func CheckpointOf(ctx context.Context, q Querier, size int64) (Checkpoint, bool, error) {
	if size == 0 {
		return one(ctx, q, checkpoints, checkpointRow, "1 ORDER BY size DESC")
	}
	return one(ctx, q, checkpoints, checkpointRow, "size = ?", size)
}

// ListCheckpoints lists checkpoints by the number of leaves.
func ListCheckpoints(ctx context.Context, q Querier, p Page) (Listed[Checkpoint], error) {
	return list(ctx, q, checkpoints, checkpointRow, "size", clause{}, p)
}
