package proof

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"ledgerline/domain"
)

// Proof is a file that anyone can check with the verifier key alone. Kind tells which parts are there.
type Proof struct {
	Kind string `json:"kind"`
	// Event, of an inclusion: the event exactly as it stands in the log, and its place among the leaves.
	Event *Event `json:"event,omitempty"`
	Leaf  int64  `json:"leaf,omitempty"` // from 0
	// From, of a consistency: the earlier signed checkpoint.
	From string `json:"from,omitempty"`
	// Checkpoint is the signed checkpoint it is proven against, and of a consistency the later one.
	Checkpoint string      `json:"checkpoint"`
	Hashes     []tlog.Hash `json:"hashes"` // base64
}

// Kinds of proofs.
const (
	Inclusion   = "ledgerline inclusion proof 1"
	Consistency = "ledgerline consistency proof 1"
)

// Event is an event with all that its leaf is made from; Data and Metadata are its bytes as text.
type Event struct {
	Stream   domain.StreamID `json:"stream"`
	Revision domain.Revision `json:"revision"`
	ID       uuid.UUID       `json:"id"`
	Type     string          `json:"type"`
	Data     string          `json:"data"`
	Metadata string          `json:"metadata"`
}

func (e Event) leaf() [32]byte {
	return domain.LeafHash(domain.Recorded{Stream: e.Stream, Revision: e.Revision, ID: e.ID, Type: e.Type, Data: []byte(e.Data), Metadata: []byte(e.Metadata)})
}

var (
	// ErrNotProven: the proof does not hold; the text says what of it.
	ErrNotProven = errors.New("not proven")
	// ErrNotInLog: the log has no such event, or not within the checkpoint.
	ErrNotInLog = errors.New("not among the events of the checkpoint")
)

// ProveInclusion proves that the first event is chooses stands in the log, against the signed checkpoint.
// Errors: ErrNotInLog, ErrRewritten (the log is not the one that was signed), ErrBadCheckpoint.
func ProveInclusion(ctx context.Context, log Log, signed string, is func(domain.Recorded) bool) (*Proof, error) {
	c, err := OpenCheckpoint(signed, nil)
	if err != nil {
		return nil, err
	}
	leaf, n, found := int64(0), int64(0), domain.Recorded{}
	for r, err := range log.ReadAll(ctx, domain.Position{}) {
		if err != nil {
			return nil, err
		}
		if !IsLeaf(r) {
			continue
		}
		if n == c.Size {
			break
		}
		if is(r) {
			leaf, found = n, r
			break
		}
		n++
	}
	if found.Stream == "" {
		return nil, ErrNotInLog
	}
	needed := make(nodes)
	prove := func(r tlog.HashReader) (p tlog.RecordProof, err error) { return tlog.ProveRecord(c.Size, leaf, r) }
	if err := want(needed, func(r tlog.HashReader) error { _, err := prove(r); return err }); err != nil {
		return nil, err
	}
	if err := gather(ctx, log, needed, []Checkpoint{c}); err != nil {
		return nil, err
	}
	hashes, err := prove(needed)
	if err != nil {
		return nil, err
	}
	return &Proof{Kind: Inclusion, Leaf: leaf, Checkpoint: signed, Hashes: hashes, Event: &Event{Stream: found.Stream, Revision: found.Revision,
		ID: found.ID, Type: found.Type, Data: string(found.Data), Metadata: string(found.Metadata)}}, nil
}

// ProveConsistency proves that everything under the signed checkpoint from stands unchanged under to.
// Errors as of ProveInclusion.
func ProveConsistency(ctx context.Context, log Log, from, to string) (*Proof, error) {
	older, err := OpenCheckpoint(from, nil)
	if err != nil {
		return nil, err
	}
	newer, err := OpenCheckpoint(to, nil)
	if err != nil {
		return nil, err
	}
	if newer.Size < older.Size {
		older, newer, from, to = newer, older, to, from
	}
	needed := make(nodes)
	prove := func(r tlog.HashReader) (tlog.TreeProof, error) { return tlog.ProveTree(newer.Size, older.Size, r) }
	if err := want(needed, func(r tlog.HashReader) error { _, err := prove(r); return err }); err != nil {
		return nil, err
	}
	if err := gather(ctx, log, needed, []Checkpoint{older, newer}); err != nil {
		return nil, err
	}
	hashes, err := prove(needed)
	if err != nil {
		return nil, err
	}
	return &Proof{Kind: Consistency, From: from, Checkpoint: to, Hashes: hashes}, nil
}

// Check checks a proof with nothing but the signer's verifier key. Errors: ErrNotProven, ErrBadCheckpoint.
func Check(p *Proof, v note.Verifier) error {
	c, err := OpenCheckpoint(p.Checkpoint, v)
	if err != nil {
		return err
	}
	switch p.Kind {
	case Inclusion:
		if p.Event == nil {
			return fmt.Errorf("%w: it names no event", ErrNotProven)
		}
		leaf := p.Event.leaf()
		if p.Leaf < 0 || p.Leaf >= c.Size || tlog.CheckRecord(p.Hashes, c.Size, c.Root, p.Leaf, tlog.RecordHash(leaf[:])) != nil {
			return fmt.Errorf("%w: this event is not leaf %d of the signed tree", ErrNotProven, p.Leaf)
		}
	case Consistency:
		older, err := OpenCheckpoint(p.From, v)
		if err != nil {
			return err
		}
		if older.Size > c.Size || tlog.CheckTree(p.Hashes, c.Size, c.Root, older.Size, older.Root) != nil {
			return fmt.Errorf("%w: the signed tree of %d events does not continue the one of %d", ErrNotProven, c.Size, older.Size)
		}
	default:
		return fmt.Errorf("%w: unknown kind %q", ErrNotProven, p.Kind)
	}
	return nil
}

// Report is what Verify found.
type Report struct {
	Leaves      int64 `json:"leaves"`      // in the whole log
	Checkpoints int   `json:"checkpoints"` // compared with it
	// Broken names the checkpoints the log contradicts; of several the first bounds the place of the change.
	Broken []string `json:"broken,omitempty"`
}

// Verify computes the tree of the whole log and compares it with every checkpoint given. The error wraps
// ErrRewritten when one of them does not hold: the change is behind the last one that does.
func Verify(ctx context.Context, log Log, given []Checkpoint) (Report, error) {
	given = slices.Clone(given)
	slices.SortStableFunc(given, func(a, b Checkpoint) int { return cmp.Compare(a.Size, b.Size) })
	report := Report{Checkpoints: len(given)}
	var edge Edge
	held := int64(0)
	judge := func() {
		for len(given) > 0 && given[0].Size == edge.Size() {
			if given[0].Root == edge.Root() {
				held = edge.Size()
			} else {
				report.Broken = append(report.Broken, fmt.Sprintf("checkpoint of %d events, %s: an event between leaf %d and %d was changed, removed or put in", given[0].Size, given[0].At.Format("2006-01-02 15:04:05"), held, given[0].Size-1))
			}
			given = given[1:]
		}
	}
	for r, err := range log.ReadAll(ctx, domain.Position{}) {
		if err != nil {
			return report, err
		}
		if IsLeaf(r) {
			edge.Append(domain.LeafHash(r), nil)
			judge()
		}
	}
	report.Leaves = edge.Size()
	for _, c := range given {
		report.Broken = append(report.Broken, fmt.Sprintf("checkpoint of %d events, %s: the log has only %d, its end was cut off or an older copy put in its place", c.Size, c.At.Format("2006-01-02 15:04:05"), edge.Size()))
	}
	if len(report.Broken) > 0 {
		return report, fmt.Errorf("%w: %s", ErrRewritten, report.Broken[0])
	}
	return report, nil
}

// gather reads the log once, up to the largest checkpoint, keeps the wanted nodes and compares the roots.
func gather(ctx context.Context, log Log, wanted nodes, given []Checkpoint) error {
	var edge Edge
	end := given[len(given)-1].Size
	for r, err := range log.ReadAll(ctx, domain.Position{}) {
		if err != nil {
			return err
		}
		if !IsLeaf(r) {
			continue
		}
		edge.Append(domain.LeafHash(r), wanted.note)
		for _, c := range given {
			if c.Size == edge.Size() && c.Root != edge.Root() {
				return fmt.Errorf("%w of %d events", ErrRewritten, c.Size)
			}
		}
		if edge.Size() == end {
			return nil
		}
	}
	return fmt.Errorf("%w: it has %d events, not %d", ErrRewritten, edge.Size(), end)
}
