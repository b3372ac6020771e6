package domain

import (
	"errors"
	"strconv"
)

// CheckpointSigned: the log's first Size leaves had this root. Leaves are the events of all streams that
// are not Internal, in the order of their positions (D7); the tree is RFC 6962's. The event itself is a
// later leaf. Each has a stream of its own, "checkpoint-<size>", so one size is signed once.
type CheckpointSigned struct {
	Origin   string   `json:"origin"`   // names log and key: "ledgerline/<16 hex digits>"
	Size     int64    `json:"size"`     // leaves, at least 1
	Root     string   `json:"root"`     // base64 of 32 bytes
	Position Position `json:"position"` // of the last of these leaves, in the log it was signed on
	Note     string   `json:"note"`     // the signed text itself (C2SP tlog-checkpoint)
	Key      string   `json:"key"`      // verifier key of the signature, as golang.org/x/mod/sumdb/note writes it
}

func (CheckpointSigned) EventType() string { return "checkpoint.signed" }

var checkpointEvents = []entry{of[CheckpointSigned]()}

// CheckpointStream is where the checkpoint over size leaves stands.
func CheckpointStream(size int64) StreamID { return Stream("checkpoint", strconv.FormatInt(size, 10)) }

// Checkpoint is what a checkpoint's stream adds up to.
type Checkpoint struct {
	CheckpointSigned
	Exists bool
}

// Apply returns the checkpoint after e.
func (c Checkpoint) Apply(e Event) Checkpoint {
	if e, ok := e.(CheckpointSigned); ok {
		c.CheckpointSigned, c.Exists = e, true
	}
	return c
}

// ErrCheckpointDiffers: this size was signed before, with another root.
var ErrCheckpointDiffers = errors.New("another root was signed for this size")

// Sign records the checkpoint; signing the same root again is no news.
func (c Checkpoint) Sign(signed CheckpointSigned) ([]Event, error) {
	switch {
	case !c.Exists:
		return []Event{signed}, nil
	case c.Root != signed.Root:
		return nil, ErrCheckpointDiffers
	}
	return nil, nil
}
